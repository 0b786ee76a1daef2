//! The daemon with `mqtt.version = 5`, met by a client that speaks MQTT 5 too: answers go where a request
//! wants them, events say how long they are worth keeping, commands wait for a device that is away.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::{Value, json};
use support::broker::{Mosquitto, PATIENCE, wait_until};
use support::service::Service;

const ROOT: &str = "graftd/test";

/// A client that sees every message with its properties.
struct Operator {
    client: Client,
    seen: Receiver<Publish>,
}

impl Operator {
    fn start(broker: &Mosquitto) -> Self {
        let mut options = MqttOptions::new("operator", "127.0.0.1", broker.port);
        options.set_max_packet_size(Some(1 << 20));
        // The subscription outlives the broker.
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(3600));
        let (client, mut connection) = Client::new(options, 100);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        let (see, seen) = channel();
        let (subscribed, ready) = channel();
        thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::SubAck(_))) => subscribed.send(()).unwrap(),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        if see.send(publish).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        ready.recv_timeout(PATIENCE).unwrap();
        Operator { client, seen }
    }

    fn wait(&self, what: &str, mut wanted: impl FnMut(&str, &Value) -> bool) -> (Value, PublishProperties) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let publish =
                self.seen.recv_timeout(left).unwrap_or_else(|_| panic!("waited in vain for {what}"));
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            if wanted(&String::from_utf8_lossy(&publish.topic), &value) {
                return (value, publish.properties.unwrap_or_default());
            }
        }
    }

    fn online(&self) {
        self.wait("online", |topic, value| topic == format!("{ROOT}/status") && value == "online");
    }

    fn request(&self, command: &str, response: &str, correlation: &[u8]) {
        let properties = PublishProperties {
            response_topic: Some(response.into()),
            correlation_data: Some(correlation.to_vec().into()),
            ..PublishProperties::default()
        };
        let topic = format!("{ROOT}/request/{command}");
        self.client.publish_with_properties(topic, QoS::AtLeastOnce, false, "{}", properties).unwrap();
    }
}

struct Device {
    // Dropped first: it writes into the folder.
    daemon: Service,
    broker: Mosquitto,
    folder: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path());
        let daemon = Service::new(folder.path());
        let mqtt = format!("broker = {:?}\nversion = 5\nsession_days = 1.0\nevent_days = 2.0", broker.url());
        daemon.configure(&mqtt, "");
        let picture = image::RgbImage::from_pixel(64, 64, image::Rgb([40, 90, 20]));
        picture.save(folder.path().join("frames/a.png")).unwrap();
        Device { daemon, broker, folder }
    }
}

#[test]
fn answers_go_where_a_request_wants_them() {
    let mut device = Device::new();
    let operator = Operator::start(&device.broker);
    device.daemon.start();
    let (_, event) = operator.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    // What is left of two days.
    let left = event.message_expiry_interval.unwrap();
    assert!((172_000..=172_800).contains(&left), "{left}");

    operator.request("state", "fleet/answers/7", b"\x00\xffquestion");
    let (answer, properties) = operator.wait("an answer", |topic, _| topic == "fleet/answers/7");
    assert_eq!((&answer["status"], &answer["result"]["samples"]), (&json!("successful"), &json!(1)));
    assert_eq!(properties.correlation_data.as_deref(), Some(b"\x00\xffquestion".as_slice()));
    assert_eq!(properties.message_expiry_interval, None, "an answer does not go");
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));

    // Of two requests on their way at once each has its own answer.
    operator.request("rollback", "fleet/answers/8", b"a");
    operator.request("rollback", "fleet/answers/8", b"b");
    for data in [b"a", b"b"] {
        let (answer, properties) = operator.wait("an answer", |topic, _| topic == "fleet/answers/8");
        assert_eq!(answer["status"], "failed");
        assert_eq!(properties.correlation_data.as_deref(), Some(data.as_slice()));
    }

    // Where an answer may not go the usual topic tells why.
    for response in [format!("{ROOT}/status"), format!("{ROOT}/request/state"), "x".repeat(600)] {
        operator.request("state", &response, b"c");
        let (answer, properties) =
            operator.wait("a refusal", |topic, _| topic == format!("{ROOT}/reply/state"));
        assert_eq!((&answer["status"], properties.correlation_data), (&json!("failed"), None), "{answer}");
    }
    // Without a response topic it is as with MQTT 3.1.1.
    operator.client.publish(format!("{ROOT}/request/state"), QoS::AtLeastOnce, false, "{}").unwrap();
    let (answer, _) = operator.wait("a reply", |topic, _| topic == format!("{ROOT}/reply/state"));
    assert_eq!(answer["status"], "successful");
}

#[test]
fn commands_wait_at_the_broker_for_a_device_that_is_away() {
    let mut device = Device::new();
    let operator = Operator::start(&device.broker);
    device.daemon.start();
    operator.online();
    device.daemon.end("-KILL");
    operator.wait("offline", |topic, value| topic == format!("{ROOT}/status") && value == "offline");
    for id in 0..50 {
        let topic = format!("{ROOT}/cmd/state/{id}");
        operator.client.publish(topic, QoS::AtLeastOnce, false, r#"{"status":"init"}"#).unwrap();
    }
    let mut held = 0;
    operator.wait("the broker to have all of them", |_, value| {
        held += usize::from(value["status"] == "init");
        held == 50
    });
    // The session outlives the broker too.
    device.broker.restart();
    device.daemon.start();
    let mut done = 0;
    operator.wait("all to be answered", |topic, value| {
        done +=
            usize::from(topic.starts_with(&format!("{ROOT}/cmd/state/")) && value["status"] == "successful");
        done == 50
    });
}

#[test]
fn what_is_too_large_for_the_broker_is_set_aside_and_told() {
    let mut device = Device::new();
    device.broker.down();
    device.broker = Mosquitto::with(device.folder.path(), "allow_anonymous true\nmax_packet_size 3000\n");
    device.daemon.configure(&format!("broker = {:?}\nversion = 5", device.broker.url()), "");
    let operator = Operator::start(&device.broker);
    device.daemon.start();
    operator.online();
    // The answer says what the command said, and a little more.
    let label = json!({
        "sample": "019aa0c4-7d1e-7c3a-9f00-3b6f0e4d2a11",
        "boxes": [{"class": "x".repeat(2860), "cx": 1, "cy": 1, "w": 1, "h": 1}],
    });
    let topic = |command: &str| format!("{ROOT}/request/{command}");
    operator.client.publish(topic("label"), QoS::AtLeastOnce, false, label.to_string()).unwrap();
    wait_until("the state tells of it", || {
        operator.client.publish(topic("state"), QoS::AtLeastOnce, false, "{}").unwrap();
        let (state, _) = operator.wait("a reply", |topic, _| topic == format!("{ROOT}/reply/state"));
        state["result"]["set_aside"] == 1
    });
    assert!(device.daemon.log().contains("it is set aside"), "{}", device.daemon.log());
}
