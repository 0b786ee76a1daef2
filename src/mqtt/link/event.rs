//! What the link tells, and what it hears back.

use super::super::wire::ReplyTo;

/// What the link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Connected,
    /// The first connection has failed, and is tried again; told once.
    Away,
    /// The broker knows us and does not want us: what it said and what to do.
    Refused(String),
    /// A message on a topic of ours. The broker gets its acknowledgement when the callback says that it
    /// has been taken; otherwise it brings the message again at the next connection.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
        /// Where the answer is to go instead of the usual topic; MQTT 5.
        reply: Option<ReplyTo>,
    },
}

/// What became of an event of the link's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It could not be taken; the broker is to bring it again.
    No,
    /// It needs no work.
    Idle,
    /// It was a command.
    Command,
}
