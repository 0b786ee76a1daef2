//! Commands: taken on once, answered once, also across restarts.

use serde_json::{Value, json};

use crate::label::Provenance;
use crate::mqtt::{Answer, Arguments, Incoming, LabelArguments, Payload, ReplyTo, Taken, identified, parse};
use crate::store::{Message, NewLabels, Remembered, SampleId, StoreError};

use super::api::Caller;
use super::core::Core;

/// Whom an answer goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A command with a life cycle.
    Command {
        /// Its name.
        command: String,
        /// The id that the operator chose.
        id: String,
    },
    /// The short form.
    Request {
        /// Its name.
        command: String,
        /// Where the answer goes instead of the usual topic.
        reply: Option<ReplyTo>,
    },
    /// Nobody: the schedule. What comes of it is in events and state.
    Schedule,
    /// Over the API.
    Api(Caller),
}

impl Core {
    /// A message came in on one of our topics.
    pub(super) fn take(
        &mut self,
        topic: &str,
        payload: &[u8],
        reply: Option<ReplyTo>,
    ) -> Result<Taken, StoreError> {
        let topics = self.topics.clone();
        let (ask, parsed) = match topics.read(topic) {
            None if self.homeassistant.is_birth(topic, payload) => {
                self.announce_again();
                // Counted like a command: nobody is to have us write without end.
                return Ok(Taken::Command);
            }
            None => return Ok(Taken::Idle),
            Some(Incoming::Command { command, id }) => {
                let ask = Ask::Command { command: command.into(), id: id.into() };
                (ask, parse(command, Some(id), payload))
            }
            Some(Incoming::Request { command }) => {
                match reply.as_ref().map_or(Ok(()), |reply| topics.check_reply(reply)) {
                    Ok(()) => {
                        (Ask::Request { command: command.into(), reply }, parse(command, None, payload))
                    }
                    Err(reason) => {
                        (Ask::Request { command: command.into(), reply: None }, Payload::Bad(reason))
                    }
                }
            }
        };
        match parsed {
            Payload::Echo => return Ok(Taken::Idle),
            Payload::Bad(reason) => self.say(&ask, &Answer::failed(reason))?,
            Payload::Init(arguments) => self.begin(arguments, &ask)?,
        }
        Ok(Taken::Command)
    }

    /// Why a command may not be sent to this device.
    pub(super) fn forbids(&self, command: &str) -> Option<String> {
        if !self.config.mqtt.allows(command) {
            return Some(format!("this device does not take the command {command:?} (mqtt.commands)"));
        }
        let is_run = command == "train" && !self.config.train.allow_remote;
        is_run.then(|| "this device lets nobody start a run over MQTT (train.allow_remote)".into())
    }

    /// A command came over MQTT.
    fn begin(&mut self, arguments: Arguments, ask: &Ask) -> Result<(), StoreError> {
        if let Ask::Command { command, .. } | Ask::Request { command, .. } = ask
            && let Some(reason) = self.forbids(command)
        {
            return self.say(ask, &Answer::failed(reason));
        }
        if let Ask::Command { command, id } = ask {
            match self.store.commands().get(command, id)? {
                Some(Remembered::Settled(answer)) => return self.send(ask, answer),
                Some(Remembered::Executing) => return self.say(ask, &Answer::Executing),
                None => {
                    let message = self.message(ask, identified(&Answer::Executing));
                    self.store.outbox().answer(command, id, Remembered::Executing, &message)?;
                    self.wake_link();
                }
            }
        }
        self.answer(arguments, ask)
    }

    /// Does what a command says, and answers it unless it goes on.
    pub(super) fn answer(&mut self, arguments: Arguments, ask: &Ask) -> Result<(), StoreError> {
        match self.carry_out(arguments, ask) {
            Some(done) => self.settle(ask, &done.into()),
            // It goes on; whoever ends it settles it.
            None => Ok(()),
        }
    }

    /// Does what a command says: its result, why not, or none while it goes on.
    fn carry_out(&mut self, arguments: Arguments, ask: &Ask) -> Option<Result<Value, String>> {
        Some(match arguments {
            Arguments::State => Ok(self.state_value()),
            Arguments::Label(arguments) => self.label(&arguments),
            Arguments::Capture(_) if self.eyes.camera.is_none() => {
                Err("there is no camera that gives frames; set camera.source".into())
            }
            Arguments::Capture(_) if self.eyes.trouble.is_some() => {
                Err(self.eyes.trouble.as_ref().map(|trouble| trouble.reason.clone()).unwrap_or_default())
            }
            Arguments::Capture(_) => {
                self.eyes.asked.push(ask.clone());
                return None;
            }
            Arguments::Train(arguments) => return self.start_run(&arguments, ask).err().map(Err),
            Arguments::Evaluate(arguments) => return self.evaluate(&arguments, ask).err().map(Err),
            Arguments::Export(arguments) => return self.export(&arguments, ask).err().map(Err),
            Arguments::Set(arguments) => self.set(&arguments),
            Arguments::Class(arguments) => self.change_class(&arguments),
            Arguments::Pause => self.pause_run(),
            Arguments::Resume => self.resume_run(),
            Arguments::Cancel => self.cancel_run(),
            Arguments::Promote(arguments) => self.promote_slot(arguments.slot),
            Arguments::Rollback => self.roll_back(),
        })
    }

    fn label(&mut self, arguments: &LabelArguments) -> Result<Value, String> {
        let id: SampleId = arguments.sample.parse().map_err(|error| format!("{error}"))?;
        let (boxes, covers) = arguments.resolve(&self.names.labels)?;
        let new = NewLabels { boxes, covers, provenance: Provenance::Human, holdout: arguments.holdout };
        let share = self.config.train.holdout_share;
        let sample = self.store.samples().label(id, new, share).map_err(|error| error.to_string())?;
        self.state_changed();
        self.hub.count_label();
        let labels = sample.labels.as_ref().expect("it has just been labelled");
        let covers: Option<Vec<&String>> = labels
            .covers
            .as_ref()
            .map(|numbers| numbers.iter().map(|&number| &self.names.labels[number as usize]).collect());
        Ok(json!({
            "sample": id.to_string(), "boxes": labels.boxes.len(), "holdout": labels.holdout, "covers": covers,
        }))
    }

    /// Answers for good: the command is settled and its answer waits for the broker, or neither.
    pub(super) fn settle(&mut self, ask: &Ask, answer: &Answer) -> Result<(), StoreError> {
        if let Ask::Api(caller) = ask {
            caller.tell(answer.into());
            return Ok(());
        }
        let Ask::Command { command, id } = ask else { return self.say(ask, answer) };
        let bytes = identified(answer);
        let message = self.message(ask, bytes.clone());
        self.store.outbox().answer(command, id, Remembered::Settled(bytes), &message)?;
        self.wake_link();
        Ok(())
    }

    fn say(&mut self, ask: &Ask, answer: &Answer) -> Result<(), StoreError> {
        self.send(ask, identified(answer))
    }

    fn send(&mut self, ask: &Ask, payload: Vec<u8>) -> Result<(), StoreError> {
        match ask {
            Ask::Schedule | Ask::Api(_) => Ok(()),
            _ => self.push(&self.message(ask, payload)),
        }
    }

    fn message(&self, ask: &Ask, payload: Vec<u8>) -> Message {
        let (topic, correlation) = match ask {
            Ask::Command { command, id } => (self.topics.command(command, id), None),
            Ask::Request { reply: Some(reply), .. } => (reply.topic.clone(), reply.correlation.clone()),
            Ask::Request { command, reply: None } => (self.topics.reply(command), None),
            // Nobody waits for one at the broker.
            Ask::Schedule | Ask::Api(_) => (self.topics.reply("train"), None),
        };
        Message { topic, payload, droppable: false, correlation }
    }

    /// Commands that an earlier life of this daemon took on and did not bring to an end.
    pub(super) fn settle_interrupted(&mut self) -> Result<(), StoreError> {
        for (command, id) in self.store.commands().unsettled()? {
            let ask = Ask::Command { command, id };
            if self.run.as_ref().is_some_and(|run| run.asked_by(&ask)) {
                continue;
            }
            let answer = Answer::failed(
                "interrupted by a restart of graftd, and perhaps done; look at state and model, then send it \
                 again under a new id if need be",
            );
            self.settle(&ask, &answer)?;
        }
        Ok(())
    }
}
