//! The run that goes on: remembered, so that the next start of the daemon takes it up.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::database::Database;
use super::envelope::{self, Record};

const KEY: &str = "run";

/// A run that was begun and has not come to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRun {
    /// Its id.
    pub run: String,
    /// The command that asked for it, and the command's id; none for the short form without an id.
    pub command: Option<(String, String)>,
    /// What it was asked with, as JSON.
    pub arguments: Vec<u8>,
    /// The slot that it trains from.
    pub slot: u32,
    /// Starts since an epoch was done: what kills the daemon again and again must not be tried for ever.
    pub attempts: u32,
}

impl Record for PendingRun {}

/// Where the run that goes on is remembered.
#[derive(Debug)]
pub struct Pending {
    db: Database,
}

impl Pending {
    pub(super) fn open(db: &Database) -> Self {
        Pending { db: db.clone() }
    }

    /// The run that was begun, if any.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn run(&self) -> Result<Option<PendingRun>, StoreError> {
        let Some(bytes) = self.db.read(|trees| Ok(trees.pending.get(KEY)?))? else { return Ok(None) };
        envelope::open(|| "of the run that goes on".into(), &bytes).map(Some)
    }

    /// Remembers a run, or that there is none; survives a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set(&self, run: Option<&PendingRun>) -> Result<(), StoreError> {
        self.db.insist(|| {
            self.db.write(|trees| {
                match run {
                    Some(run) => trees.pending.insert(KEY, envelope::seal(run))?,
                    None => trees.pending.remove(KEY)?,
                };
                Ok(())
            })
        })
    }
}
