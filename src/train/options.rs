//! What a run may be told: scope, length, step size, budget.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::classes::ClassChanges;
use super::views::Turns;

/// [`TrainOptions::batch`] and [`TrainOptions::views`] at most: a run may come from afar, and must not be
/// asked for more than a machine has.
pub const MAX_BATCH: usize = 256;
/// See [`MAX_BATCH`].
pub const MAX_VIEWS: u32 = 64;

/// Which convolutions of the head are trained; everything else stays frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The last 1×1 convolution of each branch and level.
    Last,
    /// The class branch (`cv3`) of each level; boxes stay as they are.
    Cls,
    /// The whole head: box (`cv2`) and class (`cv3`) branches.
    Head,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Last => "last",
            Scope::Cls => "cls",
            Scope::Head => "head",
        })
    }
}

/// The text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {0:?}; it is one of last, cls, head")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "last" => Ok(Scope::Last),
            "cls" => Ok(Scope::Cls),
            "head" => Ok(Scope::Head),
            other => Err(UnknownScope(other.to_owned())),
        }
    }
}

/// Settings of one run. [`Default`] is what a small data set on a small board wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// Which convolutions are trained.
    pub scope: Scope,
    /// Passes over the training samples (each pass takes one view of each sample).
    pub epochs: u32,
    /// Side of the square network input, pixels; none takes the export's own size.
    pub imgsz: Option<usize>,
    /// Samples per step.
    pub batch: usize,
    /// Seed of views and of the order of samples: the same seed gives the same weights.
    pub seed: u64,
    /// Peak learning rate of AdamW.
    pub lr: f64,
    /// Learning rate of the layers before the last ones, as a factor of `lr`: they are nearer to what
    /// they should be than the last ones are.
    pub lr_before_last: f64,
    /// Whether the last layers learn alone at first, so that their beginnings don't spoil what stands
    /// before them.
    pub last_alone: bool,
    /// Decoupled weight decay, on convolution kernels only.
    pub weight_decay: f64,
    /// Deterministic views per sample that the backbone sees once each; 1 is the plain picture alone.
    pub views: u32,
    /// Which way up views may be turned.
    pub turns: Turns,
    /// Stop after this many epochs without a better hold-out mAP50-95; 0 never stops early.
    pub patience: u32,
    /// Stop in good order after this many minutes.
    pub max_minutes: Option<f64>,
    /// Threads for the backbone, the head and the criterion; 0 takes one per core.
    pub threads: usize,
    /// What becomes of the model's classes. Whoever runs a fleet counts on the classes that it has, so
    /// neither the configuration nor a command from afar can change them.
    #[serde(skip)]
    pub classes: ClassChanges,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            scope: Scope::Head,
            epochs: 40,
            imgsz: None,
            batch: 8,
            seed: 0,
            lr: 0.004,
            lr_before_last: 1.0,
            last_alone: true,
            weight_decay: 5e-4,
            views: 8,
            turns: Turns::Mirror,
            patience: 15,
            max_minutes: None,
            threads: 0,
            classes: ClassChanges::default(),
        }
    }
}
