//! Which messages are on their way to the broker, so that its acknowledgements find them.
//!
//! rumqttc gives packet numbers only when a message leaves, in the order in which messages were handed
//! over; so handed-over messages wait in a queue until their numbers come.

use std::collections::{HashMap, VecDeque};

/// Messages of one connection that are on their way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Handed over, no number yet; none is a fact, which has no place in the outbox.
    unnumbered: VecDeque<Option<u64>>,
    /// On the wire: packet number to message.
    numbered: HashMap<u16, Option<u64>>,
    /// The last message of the outbox that was handed over.
    last: Option<u64>,
    /// Whether this connection has acknowledged anything from the outbox.
    pub acknowledged: bool,
}

impl Flight {
    /// A message was handed over to the client.
    pub fn hand_over(&mut self, message: Option<u64>) {
        self.unnumbered.push_back(message);
        self.last = message.or(self.last);
    }

    /// The client has sent a message under this number.
    pub fn sent(&mut self, packet: u16) {
        if let Some(message) = self.unnumbered.pop_front() {
            self.numbered.insert(packet, message);
        }
    }

    /// The broker has acknowledged this number: the outbox's message, if it was one.
    pub fn acknowledge(&mut self, packet: u16) -> Option<u64> {
        let message = self.numbered.remove(&packet).flatten();
        self.acknowledged |= message.is_some();
        message
    }

    /// After which message of the outbox to go on.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Messages on their way.
    pub fn len(&self) -> usize {
        self.unnumbered.len() + self.numbered.len()
    }

    /// The outbox's first message that is on its way.
    pub fn first(&self) -> Option<u64> {
        self.numbered.values().chain(&self.unnumbered).flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_find_their_messages() {
        let mut flight = Flight::default();
        flight.hand_over(Some(7));
        flight.hand_over(None);
        flight.hand_over(Some(8));
        assert_eq!((flight.len(), flight.last(), flight.first()), (3, Some(8), Some(7)));
        flight.sent(1);
        flight.sent(2);
        assert_eq!(flight.acknowledge(2), None);
        assert!(!flight.acknowledged);
        assert_eq!(flight.acknowledge(1), Some(7));
        flight.sent(3);
        assert_eq!(flight.acknowledge(3), Some(8));
        assert_eq!((flight.len(), flight.first()), (0, None));
        assert_eq!(flight.acknowledge(3), None);
    }
}
