//! What is on its way to the broker, so that acknowledgements find it.
//!
//! rumqttc gives packet numbers only when a message leaves, in the order in which messages were handed
//! over; so what was handed over last gets its number last.

use std::collections::VecDeque;

/// Something for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// What a retained topic says.
    Fact(String),
    /// The outbox's message of this number.
    Message(u64),
}

/// What is on its way over one connection.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// In the order in which it was handed over, with the packet's number once it is on the wire.
    items: VecDeque<(Option<u16>, Item)>,
    /// The last message of the outbox that was handed over.
    last: Option<u64>,
    /// Whether this connection has acknowledged anything from the outbox.
    pub acknowledged: bool,
}

impl Flight {
    /// An item was handed over to the client.
    pub fn hand_over(&mut self, item: Item) {
        if let Item::Message(number) = item {
            self.last = Some(number);
        }
        self.items.push_back((None, item));
    }

    /// The client has sent an item under this number.
    pub fn sent(&mut self, packet: u16) {
        if let Some((number, _)) = self.items.iter_mut().find(|(number, _)| number.is_none()) {
            *number = Some(packet);
        }
    }

    /// The broker has acknowledged this number: the item that it stood for.
    pub fn acknowledge(&mut self, packet: u16) -> Option<Item> {
        let place = self.items.iter().position(|(number, _)| *number == Some(packet))?;
        let (_, item) = self.items.remove(place)?;
        self.acknowledged |= matches!(item, Item::Message(_));
        Some(item)
    }

    /// After which message of the outbox to go on.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Items on their way.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The one that is on its way for the longest.
    pub fn first(&self) -> Option<&Item> {
        self.items.front().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_find_their_items() {
        let fact = Item::Fact("state".into());
        let mut flight = Flight::default();
        flight.hand_over(Item::Message(7));
        flight.hand_over(fact.clone());
        flight.hand_over(Item::Message(8));
        assert_eq!((flight.len(), flight.last(), flight.first()), (3, Some(8), Some(&Item::Message(7))));
        flight.sent(1);
        flight.sent(2);
        assert_eq!(flight.acknowledge(2), Some(fact));
        assert!(!flight.acknowledged);
        assert_eq!(flight.acknowledge(1), Some(Item::Message(7)));
        flight.sent(3);
        assert_eq!(flight.acknowledge(3), Some(Item::Message(8)));
        assert_eq!((flight.len(), flight.first()), (0, None));
        assert_eq!(flight.acknowledge(3), None);
        assert!(flight.acknowledged);
    }
}
