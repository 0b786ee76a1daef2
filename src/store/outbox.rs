//! Messages that wait until the broker has acknowledged them, in order, across restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::envelope::{self, Record};
use super::{Database, StoreError};

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
    waiting: sled::Tree,
    aside: sled::Tree,
    next: AtomicU64,
    length: AtomicU64,
}

impl Outbox {
    pub(super) fn open(db: &Database) -> Result<Self, StoreError> {
        let (waiting, aside) = (db.tree("outbox")?, db.tree("outbox_aside")?);
        // Numbers never come back, so that an acknowledgement always means one message.
        let mut next = 0;
        for tree in [&waiting, &aside] {
            if let Some((key, _)) = tree.last()? {
                next = next.max(number(&key)? + 1);
            }
        }
        let length = waiting.len() as u64;
        Ok(Outbox { db: db.clone(), waiting, aside, next: next.into(), length: length.into() })
    }

    /// Adds a message at the end. When this returns it survives a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn push(&self, message: &Message) -> Result<(), StoreError> {
        if self.length.load(Ordering::Relaxed) >= CAPACITY {
            self.make_room()?;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.insert(id.to_be_bytes(), envelope::seal(message))?;
        self.length.fetch_add(1, Ordering::Relaxed);
        self.db.flush()
    }

    /// The first message after number `after` (of all when none), and its number.
    ///
    /// # Errors
    /// When the store fails. A damaged message is removed and reported.
    pub fn next(&self, after: Option<u64>) -> Result<Option<(u64, Message)>, StoreError> {
        let start = after.map_or(0, |after| after + 1);
        for entry in self.waiting.range(start.to_be_bytes()..) {
            let (key, bytes) = entry?;
            let id = number(&key)?;
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
        if let Some(bytes) = self.waiting.get(id.to_be_bytes())? {
            self.aside.insert(id.to_be_bytes(), bytes)?;
            while self.aside.len() > ASIDE {
                self.aside.pop_min()?;
            }
            self.remove(id)?;
        }
        self.db.flush()
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
        self.aside.len() as u64
    }

    fn remove(&self, id: u64) -> Result<(), StoreError> {
        if self.waiting.remove(id.to_be_bytes())?.is_some() {
            self.length.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn make_room(&self) -> Result<(), StoreError> {
        for entry in self.waiting.iter() {
            let (key, bytes) = entry?;
            let id = number(&key)?;
            if envelope::open::<Message>(|| format!("of message {id}"), &bytes)
                .is_ok_and(|message| !message.droppable)
            {
                continue;
            }
            tracing::warn!("the outbox holds {CAPACITY} messages; the oldest event is dropped");
            return self.remove(id);
        }
        Ok(())
    }
}

fn number(key: &[u8]) -> Result<u64, StoreError> {
    let key = key.try_into().map_err(|_| StoreError::Damaged("of an outbox key".into()))?;
    Ok(u64::from_be_bytes(key))
}
