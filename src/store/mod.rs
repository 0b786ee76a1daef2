//! What must not be lost: samples and their labels, models, messages for the broker.
//!
//! Small records lie in sled; frames and models are immutable files beside it, written before the
//! record that names them (`durable`). Beside every frame lies a copy of its record as JSON, from which
//! [`Store::open`] restores records that sled has lost. One process holds the store (`lock`).

mod blobs;
mod commands;
mod durable;
mod envelope;
mod error;
mod lock;
mod models;
mod older;
mod outbox;
mod pending;
mod sample;
mod samples;

pub use commands::{Commands, Remembered};
pub use error::StoreError;
pub use models::{Models, Slot, SlotRecord};
pub use outbox::{Message, Outbox};
pub use pending::{Pending, PendingRun};
pub use sample::{FoundBox, Labels, NewLabels, NewSample, Sample, SampleId, UnknownSampleId};
pub use samples::{Counts, Samples};

use std::path::{Path, PathBuf};

use lock::Lock;

/// The version of what lies on disk that this program writes. Raised with the version of any record, so
/// that an older graftd turns the store away: it would take the record for damaged and write over it from a
/// copy of which it knows half. What earlier versions wrote is read.
const SCHEMA: u8 = 2;

/// The device's memory, held by this process alone.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    samples: Samples,
    models: Models,
    outbox: Outbox,
    commands: Commands,
    pending: Pending,
    _lock: Lock,
}

impl Store {
    /// Opens the store in `dir`, or makes a new one; waits for nobody.
    ///
    /// # Errors
    /// When another process holds it, the folder can't be written, or what is there was written by a
    /// newer graftd or can't be read.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        durable::make_dir(dir)?;
        let lock = Lock::take(&dir.join("graftd.lock"))?;
        for name in ["store", "blobs", "models", "features"] {
            durable::make_dir(&dir.join(name))?;
        }
        let db = Database::open(dir)?;
        db.check_schema()?;
        Ok(Store {
            samples: Samples::open(&db, &dir.join("blobs"))?,
            models: Models::open(&dir.join("models"))?,
            outbox: Outbox::open(&db)?,
            commands: Commands::open(&db)?,
            pending: Pending::open(&db)?,
            dir: dir.to_owned(),
            _lock: lock,
        })
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

    /// The folder for the replay memory: features of samples that runs were promoted with.
    pub fn memory_dir(&self) -> PathBuf {
        self.dir.join("memory")
    }

    /// The folder for cached features; it may be emptied between runs.
    pub fn features_dir(&self) -> PathBuf {
        self.dir.join("features")
    }

    /// Free space where the store lies, bytes; none where the system does not tell.
    pub fn free_space(&self) -> Option<u64> {
        crate::files::free_space(&self.dir)
    }
}

/// sled, and what else must be on the disk for a write to count.
#[derive(Debug, Clone)]
struct Database {
    db: sled::Db,
    dir: PathBuf,
}

impl Database {
    fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("store");
        let config = sled::Config::new().path(&path).cache_capacity(16 * 1024 * 1024).flush_every_ms(None);
        let db = config.open().map_err(|source| StoreError::Open { path, source })?;
        Ok(Database { db, dir: dir.to_owned() })
    }

    fn tree(&self, name: &str) -> Result<sled::Tree, StoreError> {
        Ok(self.db.open_tree(name)?)
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let meta = self.tree("meta")?;
        match meta.get("schema")?.as_deref() {
            Some([SCHEMA]) => Ok(()),
            None | Some([1..SCHEMA]) => {
                meta.insert("schema", &[SCHEMA])?;
                self.flush()
            }
            Some(found) => Err(StoreError::Newer {
                path: self.dir.clone(),
                found: found.first().copied().unwrap_or_default(),
                known: SCHEMA,
            }),
        }
    }

    /// Returns when everything written so far would survive a power cut.
    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        // sled syncs its data, not the directory entries that lead to it.
        durable::sync_dir(&self.dir.join("store"))?;
        durable::sync_dir(&self.dir)
    }
}
