//! Brings records, the copies beside frames, index and counts together again.
//!
//! Done when the store is opened and the numbers of the last change differ: a power cut in the middle of a
//! change, or a database that has lost some. Of a record and its copy the one of the later change counts.

use std::collections::HashSet;

use super::blobs::{BlobFile, hex};
use super::index::{self, Totals};
use super::sample::{Sample, SampleId};
use super::samples::{CHANGE, Samples, TOTALS, Writer, change_in};
use super::{StoreError, durable, envelope};

/// What a restoration did.
#[derive(Debug, Default)]
struct Done {
    records: u64,
    copies: u64,
    forgotten: u64,
    set_aside: u64,
}

impl Samples {
    /// Looks whether the database has lost records without saying so, as sled does over flipped bits, and
    /// restores them. Reads the keys of all records.
    ///
    /// # Errors
    /// When the store fails.
    pub fn make_whole(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let (records, keys) = self.db.read(|trees| Ok((trees.samples.len(), trees.by_state.len())))?;
        let told = writer.totals.samples();
        if records as u64 != told || keys as u64 != told {
            tracing::error!("the database holds {records} of {told} samples; the rest is restored");
            self.restore(&mut writer)?;
        }
        Ok(())
    }

    /// Goes through everything.
    pub(super) fn restore(&self, writer: &mut Writer) -> Result<(), StoreError> {
        self.blobs.sweep()?;
        self.blobs.settle()?;
        let opening = self.db.opening();
        let told = self.db.read(change_in)?.max(self.changes.get()).unwrap_or_default();
        self.changes.forget()?;
        let mut done = Done::default();
        let copied = self.records_from_copies(&mut done)?;
        let (totals, change, last) = self.copies_from_records(&copied, &mut done)?;
        // Above every number that was ever given.
        let change = change.max(writer.change).max(told) + 1;
        let names = self.class_names()?;
        if !names.classes.is_empty() {
            self.put_names(&names)?;
        }
        self.db.write(|trees| {
            trees.meta.insert(TOTALS, envelope::seal(&totals))?;
            trees.meta.insert(CHANGE, &change.to_be_bytes())?;
            Ok(())
        })?;
        self.changes.set(change)?;
        *writer = Writer { last, change, totals, opening };
        self.show(totals);
        let Done { records, copies, forgotten, set_aside } = done;
        if records + copies + forgotten + set_aside > 0 {
            tracing::warn!(
                "the store was put right: {records} records from their copies, {copies} copies from their \
                 records, {forgotten} deletions brought to an end, {set_aside} damaged records set aside"
            );
        }
        Ok(())
    }

    /// Puts back what the copies know better; gives the samples whose copies are whole.
    fn records_from_copies(&self, done: &mut Done) -> Result<HashSet<SampleId>, StoreError> {
        let mut copied = HashSet::new();
        self.blobs.each(|path, file| {
            let BlobFile::Copy(_) = file else { return Ok(()) };
            let copy = match self.blobs.read_copy(&path) {
                Ok(copy) => copy,
                Err(reason) => {
                    tracing::warn!("{}: {reason}; nothing can be restored from it", path.display());
                    return Ok(());
                }
            };
            if !self.frame_path(&copy).exists() {
                tracing::warn!("{}: its frame is missing", path.display());
                return Ok(());
            }
            let is_behind = match self.get(copy.id) {
                Ok(record) => record.change < copy.change,
                Err(StoreError::NoSample(_) | StoreError::Damaged(_)) => true,
                Err(error) => return Err(error),
            };
            if is_behind {
                self.put(&copy)?;
                done.records += 1;
            }
            copied.insert(copy.id);
            Ok(())
        })?;
        Ok(copied)
    }

    /// Writes the copies that are missing or damaged, makes index and counts anew, and ends deletions; gives
    /// the totals, the highest number of a change, and the newest sample.
    fn copies_from_records(
        &self,
        copied: &HashSet<SampleId>,
        done: &mut Done,
    ) -> Result<(Totals, u64, Option<SampleId>), StoreError> {
        self.db.read(|trees| Ok(trees.by_state.clear()?))?;
        let (mut totals, mut change, mut last) = (Totals::default(), 0, None);
        for entry in self.raw() {
            let (key, bytes) = entry?;
            let Ok(mut sample) = envelope::open::<Sample>(String::new, &bytes) else {
                self.set_aside(&key, &bytes)?;
                done.set_aside += 1;
                continue;
            };
            let size = self.blobs.size(&sample.frame);
            if size.is_none() && !self.blobs.copy_path(&sample).exists() {
                self.db.read(|trees| Ok(trees.samples.remove(&key)?))?;
                done.forgotten += 1;
                continue;
            }
            if let Some(size) = size.filter(|_| sample.bytes == 0) {
                // Written before samples knew their size.
                sample.bytes = size;
                self.put(&sample)?;
            }
            if size.is_some() && !copied.contains(&sample.id) {
                self.blobs.write_copy(&sample)?;
                done.copies += 1;
            }
            self.db.read(|trees| Ok(trees.by_state.insert(index::key(&sample), &[])?))?;
            totals.add(&sample);
            change = change.max(sample.change);
            last = Some(sample.id);
        }
        Ok((totals, change, last))
    }

    /// A record whose bytes are no record any more is kept as a file, for whoever can make sense of it.
    fn set_aside(&self, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let folder = self.db.dir().join("lost");
        durable::make_dir(&folder)?;
        let path = folder.join(format!("{}.record", hex(key)));
        durable::write(&path, bytes)?;
        tracing::error!(
            "the record of sample {} is damaged and has no whole copy; it is set aside as {}",
            hex(key),
            path.display()
        );
        self.db.read(|trees| Ok(trees.samples.remove(key)?))?;
        Ok(())
    }

    fn put(&self, sample: &Sample) -> Result<(), StoreError> {
        self.db.read(|trees| Ok(trees.samples.insert(sample.id.0.as_bytes(), envelope::seal(sample))?))?;
        Ok(())
    }
}
