//! When the last run began, and how much was labelled then.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::database::Database;
use super::envelope::{self, Record};

const KEY: &str = "last_run";

/// What the next run waits from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it began, milliseconds since 1970 by the clock of that moment.
    pub began_ms: u64,
    /// Samples that were labelled then, the hold-out among them.
    pub labelled: u64,
}

impl Record for LastRun {}

pub(super) fn get(db: &Database) -> Result<Option<LastRun>, StoreError> {
    let Some(bytes) = db.read(|trees| Ok(trees.meta.get(KEY)?))? else { return Ok(None) };
    envelope::open(|| "of the last run".into(), &bytes).map(Some)
}

pub(super) fn set(db: &Database, run: LastRun) -> Result<(), StoreError> {
    db.insist(|| {
        db.write(|trees| {
            trees.meta.insert(KEY, envelope::seal(&run))?;
            Ok(())
        })
    })
}
