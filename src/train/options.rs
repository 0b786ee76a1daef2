//! What a run may be told: scope, length, step size, budget.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::yolo::cut;

use super::TrainError;
use super::classes::ClassChanges;
use super::coverage::Distill;
use super::views::Turns;

/// [`TrainOptions::batch`] and [`TrainOptions::views`] at most: a run may come from afar, and must not be
/// asked for more than a machine has.
pub const MAX_BATCH: usize = 256;
/// See [`MAX_BATCH`].
pub const MAX_VIEWS: u32 = 64;

/// The peak learning rate when nobody says another.
pub(super) const DEFAULT_LR: f64 = 0.008;

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
#[error("there is no scope {0:?}; it is one of auto, last, cls, head")]
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

impl Scope {
    /// The convolutions that it trains.
    pub fn chooses(self) -> cut::Chooses<'static> {
        match self {
            Scope::Last => &cut::last,
            Scope::Cls => &cut::class_branch,
            Scope::Head => &cut::whole_head,
        }
    }
}

/// A scope, or that the run shall choose one by labels, memory and time; see `prepare.rs` for the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ScopeChoice {
    /// The run chooses.
    Auto,
    /// This one.
    Fixed(Scope),
}

impl From<Scope> for ScopeChoice {
    fn from(scope: Scope) -> Self {
        ScopeChoice::Fixed(scope)
    }
}

impl fmt::Display for ScopeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScopeChoice::Auto => f.write_str("auto"),
            ScopeChoice::Fixed(scope) => scope.fmt(f),
        }
    }
}

impl FromStr for ScopeChoice {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        if text == "auto" { Ok(ScopeChoice::Auto) } else { text.parse().map(ScopeChoice::Fixed) }
    }
}

impl TryFrom<String> for ScopeChoice {
    type Error = UnknownScope;

    fn try_from(text: String) -> Result<Self, UnknownScope> {
        text.parse()
    }
}

impl From<ScopeChoice> for String {
    fn from(choice: ScopeChoice) -> String {
        choice.to_string()
    }
}

/// A peak learning rate, or that the run shall try some and choose; see `rate.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrWord", into = "NumberOrWord")]
pub enum Rate {
    /// The run chooses.
    Auto,
    /// This one.
    Fixed(f64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Auto => f.write_str("auto"),
            Rate::Fixed(rate) => rate.fmt(f),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Rate::Auto),
            text => text
                .parse()
                .map(Rate::Fixed)
                .map_err(|_| format!("{text:?} is no learning rate; it is a number above 0, or auto")),
        }
    }
}

/// How a [`Rate`] stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NumberOrWord {
    Number(f64),
    Word(String),
}

impl TryFrom<NumberOrWord> for Rate {
    type Error = String;

    fn try_from(value: NumberOrWord) -> Result<Self, String> {
        match value {
            NumberOrWord::Number(rate) => Ok(Rate::Fixed(rate)),
            NumberOrWord::Word(word) => word.parse(),
        }
    }
}

impl From<Rate> for NumberOrWord {
    fn from(rate: Rate) -> Self {
        match rate {
            Rate::Fixed(rate) => NumberOrWord::Number(rate),
            Rate::Auto => NumberOrWord::Word("auto".into()),
        }
    }
}

/// Settings of one run. [`Default`] is what a small data set on a small board wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// Which convolutions are trained.
    pub scope: ScopeChoice,
    /// Passes over the training samples (each pass takes one view of each sample).
    pub epochs: u32,
    /// Side of the square network input, pixels; none takes the export's own size.
    pub imgsz: Option<usize>,
    /// Samples per step.
    pub batch: usize,
    /// Seed of views and of the order of samples: the same seed gives the same weights.
    pub seed: u64,
    /// Peak learning rate of AdamW.
    pub lr: Rate,
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
    /// Share of the varied views that are mosaics of four training samples, from 0 (none) to 1 (all but
    /// the plain picture); they are spread evenly, every second view at 0.5.
    pub mosaic: f64,
    /// Which way up views may be turned.
    pub turns: Turns,
    /// What the base teaches of classes that the labels don't cover.
    pub distill: Distill,
    /// Share of each batch that the replay memory fills, where there is one with anything in it.
    pub replay: f64,
    /// Disk that the replay memory may take, MB.
    pub memory_mb: u64,
    /// Stop after this many epochs without a better hold-out mAP50-95; 0 never stops early.
    pub patience: u32,
    /// How sure the gate must be that a candidate is better and not only lucky on the hold-out's
    /// pictures, from 0 (its figure need only be higher) to below 1. At 0.9 a candidate that is just as
    /// good passes about once in ten, and fewer than four pictures are never enough.
    pub gate_confidence: f64,
    /// Stop in good order after this many minutes.
    pub max_minutes: Option<f64>,
    /// Memory that the process may hold, MB; a run that would need more takes less at once, or is refused.
    pub max_memory_mb: Option<u64>,
    /// Disk that cached features may take, MB. When a run wants more it takes fewer views, then fewer
    /// samples; see `plan.rs`.
    pub cache_mb: u64,
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
            scope: ScopeChoice::Auto,
            epochs: 40,
            imgsz: None,
            batch: 8,
            seed: 0,
            lr: Rate::Fixed(DEFAULT_LR),
            lr_before_last: 0.3,
            last_alone: true,
            weight_decay: 5e-4,
            views: 4,
            mosaic: 0.0,
            turns: Turns::Mirror,
            distill: Distill::Auto,
            replay: 0.25,
            memory_mb: 256,
            patience: 15,
            gate_confidence: 0.9,
            max_minutes: None,
            max_memory_mb: None,
            cache_mb: 4096,
            threads: 0,
            classes: ClassChanges::default(),
        }
    }
}

impl TrainOptions {
    /// Every option within its range.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        match self.faults().first() {
            Some(fault) => Err(TrainError::Option(fault.to_string())),
            None => Ok(()),
        }
    }

    /// The options that are out of their ranges.
    pub fn faults(&self) -> Vec<OutOfRange> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, name, value: &dyn fmt::Display, range: &str| {
            if !holds {
                faults.push(OutOfRange { name, value: value.to_string(), range: range.to_owned() });
            }
        };
        require(self.epochs > 0, "epochs", &self.epochs, "at least 1");
        let batch = (1..=MAX_BATCH).contains(&self.batch);
        require(batch, "batch", &self.batch, &format!("from 1 to {MAX_BATCH}"));
        let views = (1..=MAX_VIEWS).contains(&self.views);
        require(views, "views", &self.views, &format!("from 1 to {MAX_VIEWS}"));
        if let Rate::Fixed(lr) = self.lr {
            require(lr > 0.0 && lr.is_finite(), "lr", &lr, "above 0, or auto");
        }
        let before_last = (0.0..=1.0).contains(&self.lr_before_last);
        require(before_last, "lr_before_last", &self.lr_before_last, "from 0 to 1");
        let decay = self.weight_decay >= 0.0 && self.weight_decay.is_finite();
        require(decay, "weight_decay", &self.weight_decay, "0 or more");
        require((0.0..=1.0).contains(&self.mosaic), "mosaic", &self.mosaic, "from 0 to 1");
        let range = "from 0 to below 1 (no number of pictures makes sure)";
        let gate = (0.0..1.0).contains(&self.gate_confidence);
        require(gate, "gate_confidence", &self.gate_confidence, range);
        require((0.0..1.0).contains(&self.replay), "replay", &self.replay, "from 0 to below 1");
        if let Some(minutes) = self.max_minutes {
            require(minutes > 0.0 && minutes < 1e6, "max_minutes", &minutes, "above 0");
        }
        faults
    }
}

/// An option that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// Which.
    pub name: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be.
    pub range: String,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but it must be {}", self.name, self.value, self.range)
    }
}
