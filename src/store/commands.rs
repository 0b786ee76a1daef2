//! Commands that were taken on, so that one that comes twice is answered and not done twice.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::database::Database;
use super::envelope::{self, Record};
use super::sample::milliseconds;

/// So many settled commands are remembered, the latest. Counted, not timed: a clock that jumps must not make
/// the device forget what it has done.
const REMEMBERED: usize = 10_000;

/// What is remembered of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remembered {
    /// It was taken on.
    Executing,
    /// It came to an end; the answer as it was published.
    Settled(Vec<u8>),
}

/// What is remembered, and since when (milliseconds since 1970).
impl Record for (u64, Remembered) {}

/// The commands that were taken on.
#[derive(Debug)]
pub struct Commands {
    db: Database,
}

impl Commands {
    pub(super) fn open(db: &Database) -> Result<Self, StoreError> {
        let commands = Commands { db: db.clone() };
        commands.forget_old()?;
        Ok(commands)
    }

    /// What is remembered of a command, by name and id.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn get(&self, command: &str, id: &str) -> Result<Option<Remembered>, StoreError> {
        let bytes = self.db.read(|trees| Ok(trees.commands.get(key(command, id))?))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let (_, remembered): (u64, Remembered) =
            envelope::open(|| format!("of command {command}/{id}"), &bytes)?;
        Ok(Some(remembered))
    }

    /// Remembers that a command was taken on, or how it ended; survives a power cut. Where a message says so
    /// to the broker, [`Outbox::answer`](super::Outbox::answer) does both at once.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set(&self, command: &str, id: &str, remembered: Remembered) -> Result<(), StoreError> {
        let (key, record) = entry(command, id, remembered);
        self.db.insist(|| {
            self.db.write(|trees| {
                trees.commands.insert(key.as_str(), record.as_slice())?;
                Ok(())
            })
        })
    }

    /// Names and ids of commands that were taken on and never came to an end.
    ///
    /// # Errors
    /// When the store fails.
    pub fn unsettled(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.db.read(|trees| {
            let mut unsettled = Vec::new();
            for entry in trees.commands.iter() {
                let (key, bytes) = entry?;
                let text = String::from_utf8_lossy(&key);
                let Some((command, id)) = text.split_once('/') else { continue };
                let record = envelope::open::<(u64, Remembered)>(|| format!("of command {text}"), &bytes);
                if !matches!(record, Ok((_, Remembered::Settled(_)))) {
                    unsettled.push((command.to_owned(), id.to_owned()));
                }
            }
            Ok(unsettled)
        })
    }

    fn forget_old(&self) -> Result<(), StoreError> {
        self.db.read(|trees| {
            let mut settled = Vec::new();
            for entry in trees.commands.iter() {
                let (key, bytes) = entry?;
                let record = envelope::open::<(u64, Remembered)>(String::new, &bytes);
                if let Ok((at, Remembered::Settled(_))) = record {
                    settled.push((at, key));
                }
            }
            settled.sort_unstable();
            for (_, key) in &settled[..settled.len().saturating_sub(REMEMBERED)] {
                trees.commands.remove(key)?;
            }
            Ok(())
        })
    }
}

/// What is remembered from now on, as it lies in the database.
pub(super) fn entry(command: &str, id: &str, remembered: Remembered) -> (String, Vec<u8>) {
    (key(command, id), envelope::seal(&(milliseconds(SystemTime::now()), remembered)))
}

/// A command's name has no slash; its id may have none either, as it is a level of a topic.
fn key(command: &str, id: &str) -> String {
    format!("{command}/{id}")
}
