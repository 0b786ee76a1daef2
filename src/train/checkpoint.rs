//! What a run needs to go on after a power cut, on the disk after each epoch.
//!
//! The file is written beside its name, brought to the disk, and renamed: whoever reads it finds one whole
//! epoch or the one before. It holds a hash of all that decides a run, so that a checkpoint is never
//! taken up with other data, another base or other options.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::begun;
use super::cache::FeatureKey;
use super::head::HeadState;
use super::summed::{self, Magic};

const NAME: &str = "run.checkpoint";
const MAGIC: &Magic = b"graftck1";

/// Where a run stands after an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Epochs done.
    pub epoch: u32,
    /// What is trained.
    pub head: HeadState,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Mean loss of the first epoch, per picture.
    pub first_loss: Option<f64>,
    /// The peak learning rate that the run was given or chose.
    pub lr: f64,
    /// What the learning rate is multiplied by: 1, or less after a roll-back.
    pub lr_factor: f64,
    /// Whether the run has been rolled back.
    pub rolled_back: bool,
    /// Seconds that epochs took so far, without pauses.
    pub seconds: f64,
    /// Why training came to its end, when it did.
    pub ended: Option<String>,
}

/// The best epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// Hold-out mAP50-95.
    pub value: f64,
    /// Its number, from 1.
    pub epoch: u32,
    /// The averaged weights.
    pub weights: Vec<f32>,
}

/// What was found when a run looked for its checkpoint.
#[derive(Debug)]
pub(super) enum Found {
    /// There is none: the run starts.
    Nothing,
    /// The run goes on from here.
    Progress(Box<Progress>),
    /// There is one, but not of this run, or not whole; why.
    NotOurs(String),
}

/// The checkpoint of the runs that use one cache.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    /// Hash of all that decides the run.
    identity: FeatureKey,
}

impl Checkpoint {
    /// The checkpoint in `folder` of the run with this identity.
    pub fn new(folder: &Path, identity: FeatureKey) -> Self {
        Checkpoint { path: folder.join(NAME), identity }
    }

    /// Looks for where the run stood.
    pub fn find(&self) -> Found {
        let not_ours =
            |why: &dyn std::fmt::Display| Found::NotOurs(format!("{}: {why}", self.path.display()));
        let body = match summed::read(&self.path, MAGIC) {
            Ok(body) => body,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return not_ours(&error),
        };
        let Some((identity, progress)) = body.as_ref().and_then(|body| body.split_first_chunk()) else {
            return not_ours(&"it is damaged");
        };
        if *identity != self.identity {
            return Found::NotOurs(
                "the checkpoint is of another run: its base, pictures, labels or options were others".into(),
            );
        }
        match postcard::from_bytes(progress) {
            Ok(progress) => Found::Progress(Box::new(progress)),
            Err(error) => not_ours(&error),
        }
    }

    /// Puts where the run stands on the disk.
    pub fn write(&self, progress: &Progress) -> io::Result<()> {
        let mut body = self.identity.to_vec();
        body.extend(postcard::to_stdvec(progress).map_err(io::Error::other)?);
        summed::write(&self.path, MAGIC, &body)
    }

    /// Takes it away.
    pub fn forget(&self) -> io::Result<()> {
        summed::remove(&self.path)
    }
}

/// Takes the checkpoint in this cache away, and what its run was begun with: the run has come to an end, and what it
/// brought is safe.
///
/// # Errors
/// When the disk fails.
pub fn forget_checkpoint(cache: &Path) -> io::Result<()> {
    summed::remove(&cache.join(NAME))?;
    begun::forget(cache)
}
