//! What must not be lost: samples and their labels, models, messages for the broker.
//!
//! Small records lie in sled (`database`); frames and models are immutable files beside it, written before
//! the record that names them (`durable`). Beside every frame lies a copy of its record as JSON (`blobs`),
//! from which records that sled has lost are restored (`restore`). One process holds the store (`lock`).

mod announced;
mod ballast;
mod blobs;
mod changes;
mod classes;
mod commands;
mod database;
mod deadline;
mod durable;
mod envelope;
mod error;
mod import;
mod index;
mod last_run;
mod limits;
mod lock;
mod looks;
mod models;
mod older;
mod outbox;
mod owner;
mod pending;
mod reading;
mod restore;
mod room;
mod runs;
mod salvage;
mod sample;
mod samples;
mod sealed;
mod verify;

pub use classes::ClassNames;
pub use commands::{Commands, Remembered};
pub use error::StoreError;
pub use import::Imported;
pub use index::State as SampleState;
pub use last_run::LastRun;
pub use limits::Limits;
pub use looks::{Looks, SampleLook};
pub use models::{Models, Slot, SlotRecord};
pub use outbox::{Message, Outbox};
pub use pending::{Pending, PendingRun};
pub use reading::Counts;
pub use runs::{EndedRun, RunEnd, Runs, Scores, ended_runs};
pub use sample::{FoundBox, Interest, Labels, NewLabels, NewSample, Sample, SampleId, UnknownSampleId};
pub use samples::Samples;
pub use verify::{Fault, FaultKind, Report, rebuild, verify};

use std::path::{Path, PathBuf};

use ballast::Ballast;
use database::Database;
use lock::Lock;

/// The version of what lies on disk that this program writes. Raised with the version of any record, so
/// that an older graftd turns the store away: it would take the record for damaged and write over it from a
/// copy of which it knows half. What earlier versions wrote is read.
const SCHEMA: u8 = 4;

/// The device's memory, held by this process alone.
#[derive(Debug)]
pub struct Store {
    db: Database,
    samples: Samples,
    models: Models,
    outbox: Outbox,
    commands: Commands,
    pending: Pending,
    runs: Runs,
    _lock: Lock,
}

impl Store {
    /// Opens the store in `dir` with the usual limits, or makes a new one; waits for nobody.
    ///
    /// # Errors
    /// As [`Store::open_within`].
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        Store::open_within(dir, &Limits::default())
    }

    /// Opens the store in `dir`, or makes a new one; waits for nobody. A database that can't be read is moved
    /// aside and made anew from the copies beside the frames.
    ///
    /// # Errors
    /// When another process holds it, the folder can't be written, or what is there was written by a
    /// newer graftd.
    pub fn open_within(dir: &Path, limits: &Limits) -> Result<Store, StoreError> {
        durable::make_dir(dir)?;
        let lock = Lock::take(&dir.join("graftd.lock"))?;
        durable::sweep(dir)?;
        for name in [database::FOLDER, "blobs", "models", "features"] {
            durable::make_dir(&dir.join(name))?;
        }
        let ballast = Ballast::new(dir, limits.ballast(), limits.min_free());
        let db = Database::open(dir, ballast, limits.patience())?;
        let found = db.read(|trees| Ok(trees.meta.get("schema")?))?;
        let is_older = match found.as_deref() {
            Some([SCHEMA]) => false,
            None | Some([1..SCHEMA]) => true,
            Some(found) => {
                let (found, known) = (found.first().copied().unwrap_or_default(), SCHEMA);
                return Err(StoreError::Newer { path: dir.to_owned(), found, known });
            }
        };
        let samples = Samples::open(&db, &dir.join("blobs"), limits, is_older)?;
        if is_older {
            // Last: a power cut before it has everything brought up to date once more.
            db.write(|trees| {
                trees.meta.insert("schema", &[SCHEMA])?;
                Ok(())
            })?;
        }
        db.ballast().take_on();
        Ok(Store {
            samples,
            models: Models::open(&dir.join("models"))?,
            outbox: Outbox::open(&db)?,
            commands: Commands::open(&db)?,
            pending: Pending::open(&db),
            runs: Runs::open(&db),
            db,
            _lock: lock,
        })
    }

    /// Takes the ballast on again after it was thrown overboard, if there is room by now. To be called now
    /// and then.
    pub fn tend(&self) {
        self.db.ballast().take_on();
    }

    /// Kept frames and their labels.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The slots.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Messages that wait for the broker.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Commands that were taken on, and how they ended.
    pub fn commands(&self) -> &Commands {
        &self.commands
    }

    /// The run that goes on.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }

    /// When the last run began; none before the first.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn last_run(&self) -> Result<Option<LastRun>, StoreError> {
        last_run::get(&self.db)
    }

    /// A run begins; survives a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_last_run(&self, run: LastRun) -> Result<(), StoreError> {
        last_run::set(&self.db, run)
    }

    /// Retained topics that were written and are to be cleared when nobody wants them any more.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn announced(&self) -> Result<Vec<String>, StoreError> {
        announced::get(&self.db)
    }

    /// Remembers all of these; survives a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_announced(&self, topics: &Vec<String>) -> Result<(), StoreError> {
        announced::set(&self.db, topics)
    }

    /// The runs that have ended.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// The folder for the replay memory: features of samples that runs were promoted with.
    pub fn memory_dir(&self) -> PathBuf {
        self.db.dir().join("memory")
    }

    /// The folder for cached features; it may be emptied between runs.
    pub fn features_dir(&self) -> PathBuf {
        self.db.dir().join("features")
    }

    /// Free space where the store lies, bytes; none where the system does not tell.
    pub fn free_space(&self) -> Option<u64> {
        crate::files::free_space(self.db.dir())
    }
}
