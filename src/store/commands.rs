//! Commands that were taken on, so that one that comes twice is answered and not done twice.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::envelope::{self, Record};
use super::sample::milliseconds;
use super::{Database, StoreError};

/// Settled commands are forgotten after so long.
const REMEMBERED_MS: u64 = 30 * 24 * 3600 * 1000;

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
    tree: sled::Tree,
}

impl Commands {
    pub(super) fn open(db: &Database) -> Result<Self, StoreError> {
        let commands = Commands { db: db.clone(), tree: db.tree("commands")? };
        commands.forget_old()?;
        Ok(commands)
    }

    /// What is remembered of a command, by name and id.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn get(&self, command: &str, id: &str) -> Result<Option<Remembered>, StoreError> {
        let Some(bytes) = self.tree.get(key(command, id))? else { return Ok(None) };
        let (_, remembered): (u64, Remembered) =
            envelope::open(|| format!("of command {command}/{id}"), &bytes)?;
        Ok(Some(remembered))
    }

    /// Remembers that a command was taken on, or how it ended; survives a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set(&self, command: &str, id: &str, remembered: Remembered) -> Result<(), StoreError> {
        let now = milliseconds(SystemTime::now());
        self.tree.insert(key(command, id), envelope::seal(&(now, remembered)))?;
        self.db.flush()
    }

    /// Names and ids of commands that were taken on and never came to an end.
    ///
    /// # Errors
    /// When the store fails.
    pub fn unsettled(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut unsettled = Vec::new();
        for entry in self.tree.iter() {
            let (key, bytes) = entry?;
            let text = String::from_utf8_lossy(&key);
            let Some((command, id)) = text.split_once('/') else { continue };
            let record = envelope::open::<(u64, Remembered)>(|| format!("of command {text}"), &bytes);
            if !matches!(record, Ok((_, Remembered::Settled(_)))) {
                unsettled.push((command.to_owned(), id.to_owned()));
            }
        }
        Ok(unsettled)
    }

    fn forget_old(&self) -> Result<(), StoreError> {
        let now = milliseconds(SystemTime::now());
        for entry in self.tree.iter() {
            let (key, bytes) = entry?;
            let record = envelope::open::<(u64, Remembered)>(String::new, &bytes);
            if matches!(record, Ok((at, Remembered::Settled(_))) if at + REMEMBERED_MS < now) {
                self.tree.remove(key)?;
            }
        }
        Ok(())
    }
}

/// A command's name has no slash; its id may have none either, as it is a level of a topic.
fn key(command: &str, id: &str) -> String {
    format!("{command}/{id}")
}
