//! The operator of the demo: an MQTT client like any other. It labels what the daemon keeps, starts
//! the run and listens.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS, SubscribeFilter};
use serde_json::{Value, json};

use crate::config::Broker;
use crate::label::LabelBox;
use crate::mqtt::{COMMANDS, Incoming, RunOutcome, TlsError, TlsFiles, Topics, end_session};
use crate::train::TrainEvent;

/// What is on a picture, and what it is for.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub labels: Vec<LabelBox>,
    pub holdout: bool,
}

/// What the operator hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The daemon is there.
    Online,
    /// The daemon has taken labels.
    Labelled {
        /// Samples labelled so far.
        done: usize,
        /// Samples there will be.
        total: usize,
    },
    /// The run goes on.
    Run(TrainEvent),
    /// The run has ended.
    Ended {
        /// What it measured.
        outcome: Box<RunOutcome>,
        /// The gate's words.
        reason: String,
    },
    /// The daemon refused a command.
    Failed {
        /// Which.
        command: String,
        /// Why.
        reason: String,
    },
    /// The broker can't be used.
    NoBroker(String),
}

/// An operator at work.
pub(super) struct Operator {
    /// What it hears.
    pub told: Receiver<Told>,
    client: Client,
    topics: Topics,
    thread: JoinHandle<()>,
}

struct Work {
    client: Client,
    topics: Topics,
    truth: HashMap<String, Truth>,
    labelled: usize,
    told: Sender<Told>,
}

impl Operator {
    /// Connects to a broker and waits there for a daemon below `topics`.
    pub fn start(broker: &Broker, topics: Topics, truth: HashMap<String, Truth>) -> io::Result<Self> {
        let id = format!("graftd-demo-operator-{}", std::process::id());
        let (client, connection) = Client::new(options(broker, &id).map_err(io::Error::other)?, 256);
        let (tell, told) = channel();
        let work = Work { client: client.clone(), topics: topics.clone(), truth, labelled: 0, told: tell };
        let thread = thread::Builder::new().name("operator".into()).spawn(move || work.go(connection))?;
        Ok(Operator { told, client, topics, thread })
    }

    /// Removes what the daemon, which has ended, leaves on a broker that others use: retained topics
    /// and its session.
    pub fn clear(&self, broker: &Broker, client_id: &str) -> Result<(), String> {
        let facts = [self.topics.status(), self.topics.state(), self.topics.model()];
        let capabilities = COMMANDS.map(|command| self.topics.capability(command));
        let retained: Vec<String> = facts.into_iter().chain(capabilities).collect();
        let options = options(broker, client_id).map_err(|error| error.to_string())?;
        end_session(options, &retained).map_err(|error| error.to_string())
    }

    /// Disconnects.
    pub fn finish(self) {
        // The connection may have ended by itself; then there is nothing to end.
        let _ = self.client.disconnect();
        // A panic in it has been written to stderr, and ends nothing else.
        let _ = self.thread.join();
    }
}

fn options(broker: &Broker, client_id: &str) -> Result<MqttOptions, TlsError> {
    let mut options = MqttOptions::new(client_id, &broker.host, broker.port);
    if let Some(user) = &broker.user {
        options.set_credentials(user, "");
    }
    options.set_max_packet_size(4 * 1024 * 1024, 4 * 1024 * 1024);
    if broker.tls {
        options.set_transport(TlsFiles::default().transport()?);
    }
    Ok(options)
}

impl Work {
    fn go(mut self, mut connection: Connection) {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.subscribe(),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let payload = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                    self.hear(&publish.topic, &publish.payload, &payload);
                }
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(error) => {
                    self.tell(Told::NoBroker(format!(
                        "{error}; is it running, and does it let everybody in?"
                    )));
                    return;
                }
            }
        }
    }

    fn subscribe(&mut self) {
        let topics = &self.topics;
        let heard = [topics.status(), topics.event_sample(), topics.event_run("+"), topics.command("+", "+")];
        let filters = heard.map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
        if let Err(error) = self.client.try_subscribe_many(filters) {
            self.tell(Told::NoBroker(error.to_string()));
        }
    }

    fn hear(&mut self, topic: &str, raw: &[u8], payload: &Value) {
        if topic == self.topics.status() {
            if raw == b"online" {
                self.tell(Told::Online);
            }
        } else if topic == self.topics.event_sample() {
            self.label(payload);
        } else if let Some(Incoming::Command { command, .. }) = self.topics.read(topic) {
            let command = command.to_owned();
            self.answered(command, payload);
        } else if let Ok(event) = serde_json::from_value::<TrainEvent>(payload.clone()) {
            self.tell(Told::Run(event));
        }
    }

    /// Labels a kept frame from what is known of the picture that it was.
    fn label(&mut self, sample: &Value) {
        let (Some(id), Some(source)) = (sample["sample"].as_str(), sample["source"].as_str()) else { return };
        let Some(truth) = self.truth.get(source) else { return };
        let boxes: Vec<Value> = truth
            .labels
            .iter()
            .map(|label| json!({"class": label.class, "cx": label.cx, "cy": label.cy, "w": label.w, "h": label.h}))
            .collect();
        let payload = json!({"status": "init", "sample": id, "boxes": boxes, "holdout": truth.holdout});
        self.command("label", id, &payload);
    }

    fn answered(&mut self, command: String, payload: &Value) {
        match (payload["status"].as_str(), &*command) {
            (Some("successful"), "label") => {
                self.labelled += 1;
                self.tell(Told::Labelled { done: self.labelled, total: self.truth.len() });
                if self.labelled == self.truth.len() {
                    self.command("train", "demo", &json!({"status": "init"}));
                }
            }
            (Some("successful"), "train") => {
                let result = &payload["result"];
                let reason = result["reason"].as_str().unwrap_or_default().to_owned();
                match serde_json::from_value(result.clone()) {
                    Ok(outcome) => self.tell(Told::Ended { outcome: Box::new(outcome), reason }),
                    Err(error) => self.tell(Told::Failed { command, reason: format!("no outcome: {error}") }),
                }
            }
            (Some("failed"), _) => {
                let reason = payload["reason"].as_str().unwrap_or("no reason given").to_owned();
                self.tell(Told::Failed { command, reason });
            }
            // Executing, and our own commands that come back.
            _ => {}
        }
    }

    fn command(&self, command: &str, id: &str, payload: &Value) {
        let topic = self.topics.command(command, id);
        if let Err(error) = self.client.try_publish(topic, QoS::AtLeastOnce, false, payload.to_string()) {
            self.tell(Told::NoBroker(error.to_string()));
        }
    }

    fn tell(&self, told: Told) {
        // Whoever listened may have left first.
        let _ = self.told.send(told);
    }
}
