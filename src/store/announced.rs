//! Retained topics that must be cleared when nobody wants them any more: a broker keeps them for ever.

use super::StoreError;
use super::database::Database;
use super::envelope;

const KEY: &str = "announced";

pub(super) fn get(db: &Database) -> Result<Vec<String>, StoreError> {
    let Some(bytes) = db.read(|trees| Ok(trees.meta.get(KEY)?))? else { return Ok(Vec::new()) };
    envelope::open(|| "of the topics that were announced".into(), &bytes)
}

pub(super) fn set(db: &Database, topics: &Vec<String>) -> Result<(), StoreError> {
    db.insist(|| {
        db.write(|trees| {
            trees.meta.insert(KEY, envelope::seal(topics))?;
            Ok(())
        })
    })
}
