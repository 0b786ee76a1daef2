//! The samples: kept, labelled, listed, counted.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use crate::dataset::Example;

use super::blobs::Blobs;
use super::sample::{Labels, NewLabels, NewSample, Sample, SampleId, milliseconds};
use super::{Database, StoreError, envelope};

/// Frames are refused while less than this is free where they lie, bytes.
const FREE_FLOOR: u64 = 64 * 1024 * 1024;

/// How many samples there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub samples: u64,
    /// Labelled, to learn from.
    pub labelled: u64,
    /// Labelled, to measure on.
    pub holdout: u64,
}

/// The kept frames.
#[derive(Debug)]
pub struct Samples {
    db: Database,
    blobs: Blobs,
    records: sled::Tree,
    /// One key per sample: the letter of its state, then its id.
    by_state: sled::Tree,
    meta: sled::Tree,
    /// One writer at a time: a record and the copy beside its frame must tell the same.
    writing: Mutex<()>,
}

/// The question that `by_state` answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unlabelled = b'u' as isize,
    Learn = b'l' as isize,
    Holdout = b'h' as isize,
}

impl State {
    fn of(sample: &Sample) -> Self {
        match &sample.labels {
            Some(labels) if labels.provenance.is_truth() && labels.holdout => State::Holdout,
            Some(labels) if labels.provenance.is_truth() => State::Learn,
            _ => State::Unlabelled,
        }
    }

    fn key(self, id: SampleId) -> [u8; 17] {
        let mut key = [self as u8; 17];
        key[1..].copy_from_slice(id.0.as_bytes());
        key
    }
}

impl Samples {
    pub(super) fn open(db: &Database, dir: &Path) -> Result<Self, StoreError> {
        let samples = Samples {
            db: db.clone(),
            blobs: Blobs::open(dir)?,
            records: db.tree("samples")?,
            by_state: db.tree("samples_by_state")?,
            meta: db.tree("meta")?,
            writing: Mutex::new(()),
        };
        samples.restore()?;
        Ok(samples)
    }

    /// Puts back records that are missing or damaged from the copies beside the frames.
    fn restore(&self) -> Result<(), StoreError> {
        let mut restored = 0;
        for copy in self.blobs.copies()? {
            match self.get(copy.id) {
                Ok(_) => {}
                Err(StoreError::NoSample(_) | StoreError::Damaged(_)) => {
                    self.put(&copy, None)?;
                    restored += 1;
                }
                Err(error) => return Err(error),
            }
        }
        if restored > 0 {
            tracing::warn!("{restored} samples had no whole record; they are restored from their copies");
            self.db.flush()?;
        }
        Ok(())
    }

    /// Keeps a frame (JPEG or PNG bytes). When this returns the sample survives a power cut.
    ///
    /// # Errors
    /// When the disk is full or fails; nothing is kept then.
    pub fn add(&self, frame: &[u8], new: NewSample) -> Result<Sample, StoreError> {
        let _writing = self.write_lock();
        let dir = self.db.dir.clone();
        if let Some(free) =
            crate::files::free_space(&dir).filter(|&free| free < FREE_FLOOR + frame.len() as u64)
        {
            return Err(StoreError::Full { path: dir, free_mb: free >> 20, floor_mb: FREE_FLOOR >> 20 });
        }
        let sample = Sample {
            id: SampleId::new(),
            frame: self.blobs.put(frame)?,
            width: new.width,
            height: new.height,
            taken_ms: milliseconds(new.taken),
            source: new.source,
            why: new.why,
            found: new.found,
            labels: None,
        };
        self.blobs.write_copy(&sample)?;
        self.put(&sample, None)?;
        self.db.flush()?;
        Ok(sample)
    }

    /// Sets a sample's labels; the last word counts. `holdout` absent keeps what the sample is, or
    /// lets `share` (0 to 1) decide by the sample's id, the same way every time. `covers` absent is a word
    /// too: nothing is kept of what was said before.
    ///
    /// # Errors
    /// When there is no such sample or the disk fails.
    pub fn label(&self, id: SampleId, new: NewLabels, share: f64) -> Result<Sample, StoreError> {
        let _writing = self.write_lock();
        let old = self.get(id)?;
        let was = old.labels.as_ref().map(|labels| labels.holdout);
        let holdout = new.holdout.or(was).unwrap_or_else(|| falls_into_share(id, share));
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
        let new = Sample { labels: Some(labels), ..old.clone() };
        // As in `add` the copy comes first: where it can't be written nothing has changed.
        self.blobs.write_copy(&new)?;
        self.put(&new, Some(&old))?;
        self.db.flush()?;
        Ok(new)
    }

    /// Forgets a sample and its frame.
    ///
    /// # Errors
    /// When there is no such sample or the disk fails.
    pub fn delete(&self, id: SampleId) -> Result<(), StoreError> {
        let _writing = self.write_lock();
        let sample = self.get(id)?;
        // The copy goes first: a record without a copy is whole, a copy without a record would come back.
        self.blobs.remove_copy(&sample)?;
        let key = State::of(&sample).key(id);
        self.transact(|records, states| {
            records.remove(id.0.as_bytes().as_slice())?;
            states.remove(key.as_slice())?;
            Ok(())
        })?;
        self.db.flush()?;
        let shared = self.iter().any(|other| other.is_ok_and(|other| other.frame == sample.frame));
        if shared { Ok(()) } else { self.blobs.remove(&sample.frame) }
    }

    /// One sample.
    ///
    /// # Errors
    /// When there is no such sample or its record is damaged.
    pub fn get(&self, id: SampleId) -> Result<Sample, StoreError> {
        let bytes = self.records.get(id.0.as_bytes())?.ok_or(StoreError::NoSample(id))?;
        envelope::open(|| id.to_string(), &bytes)
    }

    /// All samples, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Result<Sample, StoreError>> + use<> {
        self.records.iter().map(|entry| {
            let (key, bytes) = entry?;
            envelope::open(|| super::blobs::hex(&key), &bytes)
        })
    }

    /// Where a sample's frame lies.
    pub fn frame_path(&self, sample: &Sample) -> PathBuf {
        self.blobs.path(&sample.frame)
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let of = |state: State| self.by_state.scan_prefix([state as u8]).count() as u64;
        let (labelled, holdout) = (of(State::Learn), of(State::Holdout));
        Counts { samples: of(State::Unlabelled) + labelled + holdout, labelled, holdout }
    }

    /// What may be learnt from and what must be measured on, oldest first.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn truth(&self) -> Result<(Vec<Example>, Vec<Example>), StoreError> {
        let classes = self.classes()?;
        let names = |numbers: Vec<u32>| -> Vec<String> {
            numbers.iter().filter_map(|&number| classes.get(number as usize).cloned()).collect()
        };
        let of = |state: State| -> Result<Vec<Example>, StoreError> {
            let keys = self.by_state.scan_prefix([state as u8]).keys();
            keys.map(|key| {
                let key = key?;
                let id = uuid::Uuid::from_slice(&key[1..])
                    .map_err(|_| StoreError::Damaged("of an index".into()))?;
                let sample = self.get(SampleId(id))?;
                let picture = self.frame_path(&sample);
                let (labels, covers) =
                    sample.labels.map(|labels| (labels.boxes, labels.covers)).unwrap_or_default();
                Ok(Example { picture, labels, covers: covers.map(names) })
            })
            .collect()
        };
        Ok((of(State::Learn)?, of(State::Holdout)?))
    }

    /// The class names that labels count in; empty before [`Samples::set_classes`].
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn classes(&self) -> Result<Vec<String>, StoreError> {
        match self.meta.get("classes")? {
            Some(bytes) => envelope::open(|| "classes".into(), &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Sets the class names that labels count in.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_classes(&self, classes: &[String]) -> Result<(), StoreError> {
        self.meta.insert("classes", envelope::seal(&classes.to_vec()))?;
        self.db.flush()
    }

    fn put(&self, new: &Sample, old: Option<&Sample>) -> Result<(), StoreError> {
        let (record, key) = (envelope::seal(new), State::of(new).key(new.id));
        let old_key = old.map(|old| State::of(old).key(old.id));
        self.transact(|records, states| {
            records.insert(new.id.0.as_bytes().as_slice(), record.as_slice())?;
            if let Some(old_key) = old_key {
                states.remove(old_key.as_slice())?;
            }
            states.insert(key.as_slice(), &[])?;
            Ok(())
        })
    }

    fn transact(
        &self,
        change: impl Fn(
            &sled::transaction::TransactionalTree,
            &sled::transaction::TransactionalTree,
        ) -> Result<(), ConflictableTransactionError<()>>,
    ) -> Result<(), StoreError> {
        let done = (&self.records, &self.by_state).transaction(|(records, states)| change(records, states));
        done.map_err(|error| match error {
            TransactionError::Storage(error) => StoreError::Database(error),
            TransactionError::Abort(()) => unreachable!("no change aborts"),
        })
    }

    fn write_lock(&self) -> std::sync::MutexGuard<'_, ()> {
        // It guards an order of writes, no data that a panic could leave torn.
        self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether a sample falls into a share of all, by the random part of its id.
fn falls_into_share(id: SampleId, share: f64) -> bool {
    let random = u64::from_be_bytes(*id.0.as_bytes().last_chunk().expect("a uuid has 16 bytes"));
    (crc32fast::hash(&random.to_be_bytes()) as f64) < share * (f64::from(u32::MAX) + 1.0)
}
