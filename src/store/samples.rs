//! The samples as they change: kept, labelled, forgotten.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sled::Transactional;
use sled::transaction::ConflictableTransactionError;

use super::blobs::Blobs;
use super::changes::Changes;
use super::database::{Database, Trees};
use super::index::{self, Totals};
use super::limits::Limits;
use super::sample::{Labels, NewLabels, NewSample, Sample, SampleId, milliseconds};
use super::{StoreError, envelope};

pub(super) const TOTALS: &str = "totals";
pub(super) const CHANGE: &str = "change";
/// No database was opened so often: nothing is known to be whole.
const NEVER: u64 = 0;

/// The kept frames.
#[derive(Debug)]
pub struct Samples {
    pub(super) db: Database,
    pub(super) blobs: Blobs,
    pub(super) changes: Changes,
    pub(super) limits: Limits,
    /// One writer at a time: a record and the copy beside its frame must tell the same.
    writer: Mutex<Writer>,
    /// How many there are, for whoever only wants to know: the writer may go through everything.
    pub(super) shown: Mutex<Totals>,
}

/// What the next change goes on from.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The newest sample.
    pub last: Option<SampleId>,
    /// The number of the last change, whether it came to an end or not.
    pub change: u64,
    /// As in the database.
    pub totals: Totals,
    /// How often the database had been opened when all was last known to be whole.
    pub opening: u64,
}

impl Samples {
    /// Opens the samples. `restore` has records, copies and counts compared with each other; where the
    /// numbers of the last change differ they are so in any case.
    pub(super) fn open(
        db: &Database,
        dir: &Path,
        limits: &Limits,
        restore: bool,
    ) -> Result<Self, StoreError> {
        let samples = Samples {
            db: db.clone(),
            blobs: Blobs::new(dir),
            changes: Changes::open(db.dir())?,
            limits: limits.clone(),
            writer: Mutex::default(),
            shown: Mutex::default(),
        };
        let (change, totals, last) =
            db.read(|trees| Ok((change_in(trees)?, totals_in(trees)?, trees.samples.last()?)))?;
        match (totals, change) {
            (Some(totals), Some(change)) if !restore && samples.changes.get() == Some(change) => {
                let last = last.and_then(|(key, _)| uuid::Uuid::from_slice(&key).ok()).map(SampleId);
                *samples.writer() = Writer { last, change, totals, opening: db.opening() };
                samples.show(totals);
            }
            _ => samples.restore(&mut samples.writer())?,
        }
        Ok(samples)
    }

    /// Keeps a frame (JPEG or PNG bytes). When this returns the sample survives a power cut. Where the
    /// limits are reached, others make room.
    ///
    /// # Errors
    /// When there is no room or the disk fails; nothing is kept then.
    pub fn add(&self, frame: &[u8], new: NewSample) -> Result<Sample, StoreError> {
        let mut writer = self.writer();
        self.be_whole(&mut writer)?;
        self.make_room(&mut writer, frame.len() as u64)?;
        self.begin(&mut writer)?;
        let (name, is_new) = self.blobs.put(frame)?;
        let sample = Sample {
            id: SampleId::after(writer.last),
            frame: name,
            width: new.width,
            height: new.height,
            taken_ms: milliseconds(new.taken),
            source: new.source,
            why: new.why,
            found: new.found,
            labels: None,
            interest: new.interest,
            bytes: frame.len() as u64,
            change: writer.change,
        };
        let kept = self.blobs.write_copy(&sample);
        let kept = kept.and_then(|()| self.commit(&mut writer, sample.id, Some(&sample)));
        if let Err(error) = kept {
            // A record that stays in spite of this goes when the two are compared next.
            let _ = self.blobs.remove_copy(&sample);
            if is_new {
                let _ = self.blobs.remove(&sample.frame);
            }
            return Err(error);
        }
        writer.last = Some(sample.id);
        Ok(sample)
    }

    /// Sets a sample's labels; the last word counts. `holdout` absent keeps what the sample is, or
    /// lets `share` (0 to 1) decide by its frame's content, the same way every time: a frame that is deleted and
    /// comes again, or is kept twice, does not change parts. `covers` absent is a word
    /// too: nothing is kept of what was said before.
    ///
    /// # Errors
    /// When there is no such sample or the disk fails: the labels are as they were then, and stay so. Where
    /// not even that can be written the error is [`StoreError::Uncertain`]: which labels are in force is
    /// settled at the next change of a sample, or at the next start.
    pub fn label(&self, id: SampleId, new: NewLabels, share: f64) -> Result<Sample, StoreError> {
        let mut writer = self.writer();
        self.be_whole(&mut writer)?;
        let old = self.get(id)?;
        let was = old.labels.as_ref().map(|labels| labels.holdout);
        let holdout = new.holdout.or(was).unwrap_or_else(|| falls_into_share(&old.frame, share));
        let covers = new.covers.map(|mut classes| {
            classes.sort_unstable();
            classes.dedup();
            classes
        });
        let labels = Labels {
            boxes: new.boxes,
            provenance: new.provenance,
            holdout,
            at_ms: milliseconds(SystemTime::now()),
            covers,
        };
        self.begin(&mut writer)?;
        let new = Sample { labels: Some(labels), ..old.clone() };
        self.replace(&mut writer, new).map_err(|error| self.take_back(&mut writer, old, error))
    }

    /// Gives a sample another record, with the number of the change that has begun. As in `add` the copy comes
    /// first.
    fn replace(&self, writer: &mut Writer, new: Sample) -> Result<Sample, StoreError> {
        let new = Sample { change: writer.change, ..new };
        self.db.insist(|| self.blobs.write_copy(&new))?;
        self.db.insist(|| self.commit(writer, new.id, Some(&new)))?;
        Ok(new)
    }

    /// After a change that failed: its copy, and in the log even its record, may have come to the disk, and
    /// would count whenever the two are compared. What was there before counts more as a later change.
    fn take_back(&self, writer: &mut Writer, old: Sample, error: StoreError) -> StoreError {
        let sample = old.id;
        match self.begin(writer).and_then(|()| self.replace(writer, old)) {
            Ok(_) => error,
            Err(_) => {
                writer.opening = NEVER;
                StoreError::Uncertain { sample, source: Box::new(error) }
            }
        }
    }

    /// Forgets a sample and its frame.
    ///
    /// # Errors
    /// When there is no such sample or the disk fails. A deletion that had begun is brought to its end at the
    /// next change of a sample, or at the next start.
    pub fn delete(&self, id: SampleId) -> Result<(), StoreError> {
        let mut writer = self.writer();
        self.be_whole(&mut writer)?;
        let sample = self.get(id)?;
        self.forget(&mut writer, &sample)
    }

    pub(super) fn forget(&self, writer: &mut Writer, sample: &Sample) -> Result<(), StoreError> {
        self.begin(writer)?;
        // A record without copy and frame is one that was being deleted.
        let is_alone = self.blobs.is_alone(sample)?;
        self.blobs.remove_copy(sample)?;
        if is_alone {
            self.blobs.remove(&sample.frame)?;
        }
        self.commit(writer, sample.id, None)
    }

    /// Puts right what an error of the disk in the middle of something left.
    fn be_whole(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.opening != self.db.opening() {
            self.db.insist(|| self.restore(writer))?;
        }
        Ok(())
    }

    /// Begins a change: gives it a number and writes it down outside of sled. Until sled has it too the two
    /// differ, and what a kill or a power cut leaves is put right at the next start, before it is told.
    fn begin(&self, writer: &mut Writer) -> Result<(), StoreError> {
        self.be_whole(writer)?;
        writer.change += 1;
        self.changes.set(writer.change)
    }

    /// Gives a sample a record, or none, keeps index and counts in step, and writes the change's number down,
    /// which ends what [`Samples::begin`] began; survives a power cut when it returns. Done twice it is as if
    /// done once.
    fn commit(&self, writer: &mut Writer, id: SampleId, new: Option<&Sample>) -> Result<(), StoreError> {
        let change = writer.change;
        writer.totals = self.db.write(|trees| {
            let all = (&trees.samples, &trees.by_state, &trees.meta);
            let done = all.transaction(|(records, states, meta)| {
                let whole = |bytes: sled::IVec| envelope::open::<Sample>(String::new, &bytes).ok();
                let told = meta.get(TOTALS)?;
                let told = told.and_then(|bytes| envelope::open::<Totals>(String::new, &bytes).ok());
                let mut totals = told.unwrap_or_default();
                if let Some(old) = records.remove(id.0.as_bytes().as_slice())?.and_then(whole) {
                    states.remove(index::key(&old).as_slice())?;
                    totals.remove(&old);
                }
                if let Some(new) = new {
                    records.insert(id.0.as_bytes().as_slice(), envelope::seal(new))?;
                    states.insert(index::key(new).as_slice(), &[])?;
                    totals.add(new);
                }
                meta.insert(TOTALS, envelope::seal(&totals))?;
                meta.insert(CHANGE, change.to_be_bytes().as_slice())?;
                Ok::<Totals, ConflictableTransactionError<()>>(totals)
            });
            Ok(done?)
        })?;
        self.show(writer.totals);
        Ok(())
    }

    pub(super) fn show(&self, totals: Totals) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        // What a panic left behind is of the last change that came to an end.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the last change that the database knows.
pub(super) fn change_in(trees: &Trees) -> Result<Option<u64>, StoreError> {
    let bytes = trees.meta.get(CHANGE)?;
    Ok(bytes.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?))))
}

/// How many samples the database says that there are; none where it does not say, or can't be read.
pub(super) fn totals_in(trees: &Trees) -> Result<Option<Totals>, StoreError> {
    let bytes = trees.meta.get(TOTALS)?;
    Ok(bytes.and_then(|bytes| envelope::open(String::new, &bytes).ok()))
}

/// Whether a frame falls into a share of all, by its name, which is a hash of its content.
fn falls_into_share(frame: &str, share: f64) -> bool {
    f64::from(crc32fast::hash(frame.as_bytes())) < share * (f64::from(u32::MAX) + 1.0)
}
