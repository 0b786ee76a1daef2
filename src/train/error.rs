//! Why a run ended without an outcome.

use std::path::PathBuf;

use crate::detect::DetectError;
use crate::grad::GradError;
use crate::onnx::OnnxError;
use crate::picture::PictureError;
use crate::runtime::RuntimeError;
use crate::yolo::export::ExportError;

use super::cache::CacheError;
use super::memory::MemoryError;
use super::set::ClassesError;

/// Why a run ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The base is no detector that graftd can train.
    #[error("{}: {source}", path.display())]
    Base {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ExportError,
    },
    /// The labels' classes and the model's don't come together.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// An option is out of its range or does not fit the model.
    #[error("{0}")]
    Option(String),
    /// There is nothing to learn from or to measure on.
    #[error("{0}")]
    TooLittle(String),
    /// A picture can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The feature cache can't be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The replay memory can't be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The head can't be differentiated.
    #[error(transparent)]
    Grad(#[from] GradError),
    /// A graph can't be built.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The loss exploded, and once more with half the learning rate.
    #[error(
        "{what} in epoch {epoch}, at learning rate {lr:e} as before at {tried:e}; nothing was changed: try a much \
         smaller learning rate"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// What happened.
        what: String,
        /// The peak learning rate at last.
        lr: f64,
        /// The peak learning rate at first.
        tried: f64,
    },
    /// A mistake in graftd itself; what it was has been written to stderr.
    #[error("graftd made a mistake in this run (its log has the details); nothing was changed: report it")]
    Panicked,
    /// Somebody asked for it to stop.
    #[error("cancelled; nothing was changed")]
    Cancelled,
}

impl From<DetectError> for TrainError {
    fn from(error: DetectError) -> Self {
        match error {
            DetectError::Model { path, source } => TrainError::Base { path, source },
            DetectError::Size(message) => TrainError::Option(message),
            DetectError::Picture(error) => TrainError::Picture(error),
            DetectError::Runtime(error) => TrainError::Runtime(error),
        }
    }
}
