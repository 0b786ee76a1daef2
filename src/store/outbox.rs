//! Messages that wait until the broker has acknowledged them, in order, across restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sled::Transactional;

use super::StoreError;
use super::commands::{self, Remembered};
use super::database::Database;
use super::envelope::{self, Record};

/// Messages that wait, at most; then the oldest that may go (events) makes room.
const CAPACITY: u64 = 10_000;
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
}

impl Record for Message {}

/// The messages that wait.
#[derive(Debug)]
pub struct Outbox {
    db: Database,
    next: AtomicU64,
    length: AtomicU64,
}

impl Outbox {
    pub(super) fn open(db: &Database) -> Result<Self, StoreError> {
        let (next, length) = db.read(|trees| {
            // Numbers never come back, so that an acknowledgement always means one message.
            let mut next = 0;
            for tree in [&trees.outbox, &trees.aside] {
                if let Some((key, _)) = tree.last()? {
                    next = next.max(number(&key)? + 1);
                }
            }
            Ok((next, trees.outbox.len() as u64))
        })?;
        Ok(Outbox { db: db.clone(), next: next.into(), length: length.into() })
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
        if self.length.load(Ordering::Relaxed) >= CAPACITY {
            self.make_room()?;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let sealed = envelope::seal(message);
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
        self.count_out(removed.is_some());
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

    /// Messages that were set aside.
    pub fn aside(&self) -> u64 {
        self.db.read(|trees| Ok(trees.aside.len() as u64)).unwrap_or_default()
    }

    fn remove(&self, id: u64) -> Result<(), StoreError> {
        let removed = self.db.read(|trees| Ok(trees.outbox.remove(id.to_be_bytes())?))?;
        self.count_out(removed.is_some());
        Ok(())
    }

    fn count_out(&self, is_removed: bool) {
        if is_removed {
            // A message that was told to have failed, and came in spite of that, was not counted.
            let less = |length: u64| Some(length.saturating_sub(1));
            let _ = self.length.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn make_room(&self) -> Result<(), StoreError> {
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
        let Some(oldest) = oldest else { return Ok(()) };
        tracing::warn!("the outbox holds {CAPACITY} messages; the oldest event is dropped");
        self.remove(oldest)
    }
}

fn number(key: &[u8]) -> Result<u64, StoreError> {
    let key = key.try_into().map_err(|_| StoreError::Damaged("of an outbox key".into()))?;
    Ok(u64::from_be_bytes(key))
}
