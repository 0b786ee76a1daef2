//! What a run tells while it goes on. The daemon turns these into reports, the command line into a
//! progress bar.

use serde::{Deserialize, Serialize};

use super::options::Scope;

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    /// The data and the model have been read; work begins.
    Started {
        /// What is trained.
        scope: Scope,
        /// Samples to learn from.
        samples: usize,
        /// Samples to measure on.
        holdout: usize,
        /// Epochs asked for.
        epochs: u32,
        /// Trained numbers.
        parameters: usize,
        /// `ort` or `tract`.
        runtime: String,
    },
    /// Some training pictures are not learnt from, because the hold-out has them too, or nearly the same.
    LeftOut {
        /// How many.
        samples: usize,
        /// Which, in words.
        reason: String,
    },
    /// The run has chosen what it was not told.
    Chosen {
        /// `scope` or `lr`.
        what: String,
        /// What it chose.
        value: String,
        /// Why.
        reason: String,
    },
    /// The backbone is going over the pictures.
    Features {
        /// Views whose features are in the cache by now.
        done: usize,
        /// Views that the run needs.
        total: usize,
    },
    /// Features take more disk than they may, so the run does with less; see `plan.rs` for the rule.
    Reduced {
        /// What it does without.
        reason: String,
    },
    /// The run was interrupted and goes on.
    Resumed {
        /// The last epoch that was done.
        epoch: u32,
        /// The best hold-out mAP over IoU 0.50 to 0.95 up to there.
        map50_95: f64,
    },
    /// There is a checkpoint, but this run can't go on from it and starts from its beginning.
    NotResumed {
        /// Why not.
        reason: String,
    },
    /// The loss exploded: the run goes on from an earlier epoch with a smaller learning rate.
    RolledBack {
        /// The epoch that it goes on from.
        epoch: u32,
        /// What happened.
        reason: String,
        /// The new peak learning rate.
        lr: f64,
    },
    /// One pass over the samples is done and the hold-out has been measured.
    Epoch {
        /// From 1.
        epoch: u32,
        /// Epochs asked for.
        epochs: u32,
        /// The mean loss of a step, per picture.
        loss: EpochLoss,
        /// The learning rate of the last step.
        lr: f64,
        /// Hold-out mAP at IoU 0.50 of the averaged weights.
        map50: f64,
        /// Hold-out mAP over IoU 0.50 to 0.95 of the averaged weights.
        map50_95: f64,
        /// Training samples per second of wall time.
        samples_per_second: f64,
        /// Seconds until all epochs are done, at this speed.
        seconds_left: f64,
    },
    /// All epochs are done, the budget is spent, or the hold-out stopped improving.
    Trained {
        /// Epochs gone through.
        epochs: u32,
        /// The epoch whose weights are kept.
        best_epoch: u32,
        /// Why it ended.
        reason: String,
    },
}

/// The parts of the loss, each times its gain, per picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochLoss {
    /// CIoU part.
    #[serde(rename = "box")]
    pub box_: f64,
    /// Class part (BCE).
    pub cls: f64,
    /// Distribution focal part, or L1 where the head has no bins.
    pub dfl: f64,
}
