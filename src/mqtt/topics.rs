//! The topics, all below one root.

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

    /// A frame was kept.
    pub fn event_sample(&self) -> String {
        format!("{}/event/sample", self.root)
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
    fn other_topics_are_none_of_ours() {
        let topics = Topics::new("graftd/box");
        for topic in
            ["graftd/box-7/cmd/label/1", "graftd/box/cmd/label", "graftd/box/cmd/a/b/c", "x", "graftd/box"]
        {
            assert_eq!(topics.read(topic), None, "{topic}");
        }
    }
}
