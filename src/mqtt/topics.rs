//! The topics, all below one root.

use super::wire::ReplyTo;

/// The longest response topic, and the most correlation data, bytes.
const LONGEST_REPLY: usize = 512;

/// Names of topics below a root such as `graftd/<device>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    root: String,
}

/// What an incoming topic asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// `cmd/<command>/<cmd-id>`: a command with a life cycle on this topic.
    Command {
        /// Its name, known or not.
        command: &'a str,
        /// The id that the operator chose.
        id: &'a str,
    },
    /// `request/<command>`: the short form, answered on `reply/<command>`.
    Request {
        /// Its name, known or not.
        command: &'a str,
    },
}

impl Topics {
    /// Topics below `root`.
    pub fn new(root: impl Into<String>) -> Self {
        Topics { root: root.into() }
    }

    /// Topics of the device of this name, where no other root is configured.
    pub fn of_device(device: &str) -> Self {
        Topics::new(format!("graftd/{device}"))
    }

    /// `online` or `offline`; the last will.
    pub fn status(&self) -> String {
        format!("{}/status", self.root)
    }

    /// What goes on on the device.
    pub fn state(&self) -> String {
        format!("{}/state", self.root)
    }

    /// The promoted model.
    pub fn model(&self) -> String {
        format!("{}/model", self.root)
    }

    /// A small picture of the last kept frame.
    pub fn image(&self) -> String {
        format!("{}/image", self.root)
    }

    /// A frame was kept.
    pub fn event_sample(&self) -> String {
        format!("{}/event/sample", self.root)
    }

    /// Another model detects, and nobody has asked for it.
    pub fn event_model(&self) -> String {
        format!("{}/event/model", self.root)
    }

    /// What goes on in a run.
    pub fn event_run(&self, run: &str) -> String {
        format!("{}/event/run/{run}", self.root)
    }

    /// A command's life cycle.
    pub fn command(&self, command: &str, id: &str) -> String {
        format!("{}/cmd/{command}/{id}", self.root)
    }

    /// That a command exists, and what it takes.
    pub fn capability(&self, command: &str) -> String {
        format!("{}/cmd/{command}", self.root)
    }

    /// A command without an id.
    pub fn request(&self, command: &str) -> String {
        format!("{}/request/{command}", self.root)
    }

    /// The answer to a command without an id.
    pub fn reply(&self, command: &str) -> String {
        format!("{}/reply/{command}", self.root)
    }

    /// Whether an answer may go where a request wants it.
    ///
    /// # Errors
    /// Why not.
    pub fn check_reply(&self, reply: &ReplyTo) -> Result<(), String> {
        let ReplyTo { topic, correlation } = reply;
        if topic.is_empty() || topic.len() > LONGEST_REPLY || topic.starts_with('$') {
            return Err(format!("a response topic has 1 to {LONGEST_REPLY} bytes and begins with no $"));
        }
        if topic.contains(['+', '#']) || topic.chars().any(char::is_control) {
            return Err("a response topic has no + and # and no control characters".into());
        }
        let own = topic.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix('/'));
        if own.is_some_and(|rest| !rest.starts_with("reply/")) {
            return Err(format!(
                "of the device's own topics only those below {}/reply are answered on",
                self.root
            ));
        }
        if correlation.as_ref().is_some_and(|data| data.len() > LONGEST_REPLY) {
            return Err(format!("correlation data has at most {LONGEST_REPLY} bytes"));
        }
        Ok(())
    }

    /// A topic or filter with the root in front.
    pub fn absolute(&self, below: &str) -> String {
        format!("{}/{below}", self.root)
    }

    /// A topic without the root; none when it is none of ours.
    pub fn below<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.root)?.strip_prefix('/')
    }

    /// What the daemon subscribes to.
    pub fn subscriptions(&self) -> [String; 2] {
        [format!("{}/cmd/+/+", self.root), format!("{}/request/+", self.root)]
    }

    /// Reads an incoming topic; none when it is none of ours.
    pub fn read<'a>(&self, topic: &'a str) -> Option<Incoming<'a>> {
        let mut parts = self.below(topic)?.split('/');
        let incoming = match (parts.next()?, parts.next()?, parts.next()) {
            ("cmd", command, Some(id)) => Incoming::Command { command, id },
            ("request", command, None) => Incoming::Request { command },
            _ => return None,
        };
        parts.next().is_none().then_some(incoming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_as_it_was_written() {
        let topics = Topics::new("graftd/box-7");
        assert_eq!(
            topics.read(&topics.command("label", "abc")),
            Some(Incoming::Command { command: "label", id: "abc" })
        );
        assert_eq!(topics.read(&topics.request("state")), Some(Incoming::Request { command: "state" }));
    }

    #[test]
    fn answers_go_where_no_harm_is_done() {
        let topics = Topics::new("graftd/box");
        let check = |topic: &str, data: usize| {
            topics.check_reply(&ReplyTo { topic: topic.into(), correlation: Some(vec![0; data]) })
        };
        for topic in ["fleet/answers/7", "graftd/box/reply/state", "graftd/box-7/x", "graftd/box/reply/a/b"] {
            assert_eq!(check(topic, 512), Ok(()), "{topic}");
        }
        let long = "x".repeat(513);
        for topic in ["", "a/+", "#", "a\0", "$SYS/x", "graftd/box/status", "graftd/box/request/train", &long]
        {
            assert!(check(topic, 0).is_err(), "{topic}");
        }
        assert!(check("a", 513).is_err());
    }

    #[test]
    fn other_topics_are_none_of_ours() {
        let topics = Topics::new("graftd/box");
        for topic in
            ["graftd/box-7/cmd/label/1", "graftd/box/cmd/label", "graftd/box/cmd/a/b/c", "x", "graftd/box"]
        {
            assert_eq!(topics.read(topic), None, "{topic}");
        }
    }
}
