//! What a run needs to go on after a power cut, on the disk after each epoch.
//!
//! The file is written beside its name, brought to the disk, and renamed: whoever reads it finds one whole
//! epoch or the one before. It holds a hash of all that decides a run, so that a checkpoint is never
//! taken up with other data, another base or other options.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

use super::cache::FeatureKey;
use super::head::HeadState;

const NAME: &str = "run.checkpoint";
const MAGIC: &[u8; 8] = b"graftck1";

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
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return Found::NotOurs(format!("{}: {error}", self.path.display())),
        };
        let Some(body) = opened(&bytes) else {
            return Found::NotOurs(format!("{}: it is damaged", self.path.display()));
        };
        let (identity, progress) = body.split_at(self.identity.len());
        if identity != self.identity {
            return Found::NotOurs(
                "the checkpoint is of another run: its base, pictures, labels or options were others".into(),
            );
        }
        match postcard::from_bytes(progress) {
            Ok(progress) => Found::Progress(Box::new(progress)),
            Err(error) => Found::NotOurs(format!("{}: {error}", self.path.display())),
        }
    }

    /// Puts where the run stands on the disk.
    pub fn write(&self, progress: &Progress) -> io::Result<()> {
        let mut body = self.identity.to_vec();
        body.extend(postcard::to_stdvec(progress).map_err(io::Error::other)?);
        let sum = crc32fast::hash(&body).to_le_bytes();
        files::place(&self.path, &[&MAGIC[..], &sum, &body].concat())?;
        let folder = files::folder_of(&self.path);
        files::sync_dir(folder)?;
        // A run that was killed may have made the folder and not brought its name to the disk.
        files::sync_dir(files::folder_of(folder))
    }

    /// Takes it away.
    pub fn forget(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// The checked content of a file.
fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_first_chunk::<4>()?;
    let whole = crc32fast::hash(body) == u32::from_le_bytes(*sum) && body.len() >= size_of::<FeatureKey>();
    whole.then_some(body)
}

/// Takes the checkpoint in this cache away: its run has come to an end, and what it brought is safe.
///
/// # Errors
/// When the disk fails.
pub fn forget_checkpoint(cache: &Path) -> io::Result<()> {
    remove(&cache.join(NAME))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
