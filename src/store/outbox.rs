//! Messages that wait until the broker has acknowledged them, in order, across restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sled::Transactional;

use super::StoreError;
use super::commands::{self, Remembered};
use super::database::Database;
use super::envelope::{self, Record};
use super::older::MessageV1;

/// Messages that wait, and what they take together, at most; then the oldest that may go (events) make room.
const CAPACITY: u64 = 10_000;
const BYTES: u64 = 64 * 1024 * 1024;
/// Messages that are remembered after they were set aside, at most.
const ASIDE: usize = 100;

/// A message for the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Whether it may go when the outbox is full.
    pub droppable: bool,
    /// Correlation data of the request that it answers, where MQTT 5 gave some.
    pub correlation: Option<Vec<u8>>,
}

impl Record for Message {
    const VERSION: u8 = 2;

    fn read_older(version: u8, body: &[u8]) -> Option<Self> {
        (version == 1).then(|| postcard::from_bytes::<MessageV1>(body).ok().map(Message::from)).flatten()
    }
}

/// The messages that wait.
#[derive(Debug)]
pub struct Outbox {
    db: Database,
    next: AtomicU64,
    length: AtomicU64,
    bytes: AtomicU64,
    most_bytes: u64,
}

impl Outbox {
    pub(super) fn open(db: &Database) -> Result<Self, StoreError> {
        Self::open_within(db, BYTES)
    }

    fn open_within(db: &Database, most_bytes: u64) -> Result<Self, StoreError> {
        let (next, length, bytes) = db.read(|trees| {
            // Numbers never come back, so that an acknowledgement always means one message.
            let mut next = 0;
            for tree in [&trees.outbox, &trees.aside] {
                if let Some((key, _)) = tree.last()? {
                    next = next.max(number(&key)? + 1);
                }
            }
            let (mut length, mut bytes) = (0, 0);
            for entry in trees.outbox.iter() {
                length += 1;
                bytes += entry?.1.len() as u64;
            }
            Ok((next, length, bytes))
        })?;
        Ok(Outbox {
            db: db.clone(),
            next: next.into(),
            length: length.into(),
            bytes: bytes.into(),
            most_bytes,
        })
    }

    /// Adds a message at the end. When this returns it survives a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn push(&self, message: &Message) -> Result<(), StoreError> {
        self.push_beside(message, None)
    }

    /// Remembers how a command stands and adds the message that says so, both or neither, whatever happens
    /// in between. When this returns both survive a power cut.
    ///
    /// # Errors
    /// When the disk fails. Both may be there in spite of that once it works again, never one alone.
    pub fn answer(
        &self,
        command: &str,
        id: &str,
        remembered: Remembered,
        message: &Message,
    ) -> Result<(), StoreError> {
        self.push_beside(message, Some(commands::entry(command, id, remembered)))
    }

    fn push_beside(&self, message: &Message, command: Option<(String, Vec<u8>)>) -> Result<(), StoreError> {
        let sealed = envelope::seal(message);
        let size = sealed.len() as u64;
        while (self.len() >= CAPACITY || self.bytes() + size > self.most_bytes) && self.make_room()? {}
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let old = self.db.insist(|| {
            self.db.write(|trees| {
                let both = (&trees.outbox, &trees.commands);
                let old = both.transaction(|(outbox, commands)| {
                    if let Some((key, record)) = &command {
                        commands.insert(key.as_bytes(), record.as_slice())?;
                    }
                    Ok(outbox.insert(&id.to_be_bytes(), sealed.as_slice())?)
                })?;
                Ok(old)
            })
        })?;
        if old.is_none() {
            self.length.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The first message after number `after` (of all when none), and its number.
    ///
    /// # Errors
    /// When the store fails. A damaged message is removed and reported.
    pub fn next(&self, after: Option<u64>) -> Result<Option<(u64, Message)>, StoreError> {
        let mut start = after.map_or(0, |after| after + 1);
        while let Some((key, bytes)) =
            self.db.read(|trees| Ok(trees.outbox.range(start.to_be_bytes()..).next().transpose()?))?
        {
            let id = number(&key)?;
            start = id + 1;
            match envelope::open(|| format!("of message {id}"), &bytes) {
                Ok(message) => return Ok(Some((id, message))),
                Err(error) => {
                    tracing::error!("a message for the broker is lost: {error}");
                    self.remove(id)?;
                }
            }
        }
        Ok(None)
    }

    /// The broker has acknowledged a message. A power cut may bring it back: it is sent twice then.
    ///
    /// # Errors
    /// When the store fails.
    pub fn acknowledge(&self, id: u64) -> Result<(), StoreError> {
        self.remove(id)
    }

    /// Takes a message out of the way that no broker will take. The last ones are kept to look at.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_aside(&self, id: u64) -> Result<(), StoreError> {
        let removed = self.db.write(|trees| {
            let Some(bytes) = trees.outbox.get(id.to_be_bytes())? else { return Ok(None) };
            trees.aside.insert(id.to_be_bytes(), bytes)?;
            while trees.aside.len() > ASIDE {
                trees.aside.pop_min()?;
            }
            Ok(trees.outbox.remove(id.to_be_bytes())?)
        })?;
        self.count_out(removed.as_deref());
        Ok(())
    }

    /// Messages that wait.
    pub fn len(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the messages that wait take together, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether three quarters of its room are taken: whoever makes more messages should wait.
    pub fn is_crowded(&self) -> bool {
        self.len() >= CAPACITY / 4 * 3 || self.bytes() >= self.most_bytes / 4 * 3
    }

    /// Messages that were set aside.
    pub fn aside(&self) -> u64 {
        self.db.read(|trees| Ok(trees.aside.len() as u64)).unwrap_or_default()
    }

    fn remove(&self, id: u64) -> Result<(), StoreError> {
        let removed = self.db.read(|trees| Ok(trees.outbox.remove(id.to_be_bytes())?))?;
        self.count_out(removed.as_deref());
        Ok(())
    }

    fn count_out(&self, removed: Option<&[u8]>) {
        if let Some(bytes) = removed {
            // A message that was told to have failed, and came in spite of that, was not counted.
            for (count, by) in [(&self.length, 1), (&self.bytes, bytes.len() as u64)] {
                let less = |count: u64| Some(count.saturating_sub(by));
                let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }

    /// Drops the oldest event; whether there was one.
    fn make_room(&self) -> Result<bool, StoreError> {
        let oldest = self.db.read(|trees| {
            for entry in trees.outbox.iter() {
                let (key, bytes) = entry?;
                let id = number(&key)?;
                let message = envelope::open::<Message>(String::new, &bytes);
                if message.map_or(true, |message| message.droppable) {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        })?;
        let Some(oldest) = oldest else { return Ok(false) };
        tracing::warn!(
            "the outbox holds {} messages of {} bytes; the oldest event is dropped",
            self.len(),
            self.bytes()
        );
        self.remove(oldest)?;
        Ok(true)
    }
}

fn number(key: &[u8]) -> Result<u64, StoreError> {
    let key = key.try_into().map_err(|_| StoreError::Damaged("of an outbox key".into()))?;
    Ok(u64::from_be_bytes(key))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ballast::Ballast;
    use super::*;

    /// So much fits into the outbox of these tests.
    const ROOM: u64 = 64 * 1024;

    fn message(topic: &str, droppable: bool) -> Message {
        Message { topic: topic.into(), payload: vec![7; 1024], droppable, correlation: None }
    }

    fn topics(outbox: &Outbox) -> Vec<String> {
        let mut after = None;
        let next = std::iter::from_fn(|| {
            let (id, message) = outbox.next(after).expect("a message can be read")?;
            after = Some(id);
            Some(message.topic)
        });
        next.collect()
    }

    #[test]
    fn the_oldest_events_go_when_there_is_no_room_and_answers_never() {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Database::open(dir.path(), Ballast::new(dir.path(), 0, 0), Duration::from_secs(60))
            .expect("a database");
        let outbox = &Outbox::open_within(&db, ROOM).expect("an outbox");
        for round in 0..40 {
            outbox.push(&message(&format!("event {round}"), true)).expect("pushed");
            outbox.push(&message(&format!("answer {round}"), false)).expect("pushed");
        }
        assert!(outbox.bytes() <= ROOM && outbox.is_crowded());
        let topics = topics(outbox);
        let answers = topics.iter().filter(|topic| topic.starts_with("answer")).count();
        assert_eq!(answers, 40);
        let events: Vec<_> = topics.iter().filter(|topic| topic.starts_with("event")).collect();
        let kept: Vec<_> = (40 - events.len()..40).map(|round| format!("event {round}")).collect();
        assert_eq!(events, kept.iter().collect::<Vec<_>>());
        // Answers alone go beyond it: nothing else removes one.
        for round in 40..70 {
            outbox.push(&message(&format!("answer {round}"), false)).expect("pushed");
        }
        let (length, bytes) = (outbox.len(), outbox.bytes());
        assert!(length == 70 && bytes > ROOM);
        let outbox = Outbox::open_within(&db, ROOM).expect("it opens again");
        assert_eq!((outbox.len(), outbox.bytes()), (length, bytes));
        let first = outbox.next(None).expect("read").expect("there").0;
        outbox.acknowledge(first).expect("acknowledged");
        assert_eq!(outbox.len(), length - 1);
        assert!(outbox.bytes() < bytes);
    }

    #[test]
    fn a_message_of_version_1_is_read() {
        let body = postcard::to_stdvec(&("t", vec![1_u8, 2], true)).expect("written");
        let read = Message::read_older(1, &body).expect("a message");
        let wanted = Message { topic: "t".into(), payload: vec![1, 2], droppable: true, correlation: None };
        assert_eq!(read, wanted);
        assert_eq!(Message::read_older(3, &body), None);
    }
}
