//! What the daemon publishes, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::store::Slot;
use crate::train::TrainEvent;
use crate::yolo::metrics::Evaluation;

/// A report as JSON, with an id of its own: a report that comes twice has the same id both times.
pub fn identified(report: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Identified<'a, T> {
        id: Uuid,
        #[serde(flatten)]
        report: &'a T,
    }
    serde_json::to_vec(&Identified { id: Uuid::now_v7(), report }).expect("reports are plain objects")
}

/// A command's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Answer {
    /// Work on it goes on.
    Executing,
    /// It is done.
    Successful {
        /// What came of it.
        result: Value,
    },
    /// It was not done, and nothing of it.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

impl From<Result<Value, String>> for Answer {
    fn from(done: Result<Value, String>) -> Self {
        match done {
            Ok(result) => Answer::Successful { result },
            Err(reason) => Answer::failed(reason),
        }
    }
}

impl Answer {
    /// Not done.
    pub fn failed(reason: impl Into<String>) -> Self {
        Answer::Failed { reason: reason.into() }
    }
}

/// A box that the model found, in shares of the frame, so that `cmd/label` can send it back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoxReport {
    /// Name of the class.
    pub class: String,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Centre, in widths of the frame.
    pub cx: f32,
    /// Centre, in heights of the frame.
    pub cy: f32,
    /// Width, in widths of the frame.
    pub w: f32,
    /// Height, in heights of the frame.
    pub h: f32,
}

/// `event/sample`: a frame was kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleReport {
    /// The sample's id.
    pub sample: String,
    /// When the frame was taken, seconds since 1970.
    pub time: f64,
    /// Where the frame came from; of a folder, the file's name.
    pub source: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Why it was kept.
    pub why: String,
    /// What the model found.
    pub boxes: Vec<BoxReport>,
}

/// `event/run/<run-id>`: what goes on in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunReport {
    /// Begun, features, an epoch, trained.
    Progress {
        /// The run's id.
        run: String,
        /// What happened.
        #[serde(flatten)]
        event: TrainEvent,
    },
    /// It came to an end.
    End {
        /// The run's id.
        run: String,
        /// `finished` (promoted), `refused` (by the gate) or `failed`.
        event: &'static str,
        /// Why.
        reason: String,
        /// What was measured, unless it failed.
        #[serde(flatten)]
        outcome: Option<Box<RunOutcome>>,
    },
}

/// What a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// The model that was current, on the hold-out.
    pub before: Evaluation,
    /// The candidate, on the hold-out.
    pub after: Evaluation,
    /// Training pictures that were left out because the hold-out has them too, or nearly the same. Runs of before
    /// there was such a field did not tell.
    #[serde(default)]
    pub left_out: usize,
    /// Epochs gone through.
    pub epochs: u32,
    /// Wall time.
    pub seconds: f64,
    /// CPU time.
    pub cpu_seconds: f64,
    /// The most memory that the process has held, MB.
    pub peak_rss_mb: Option<f64>,
    /// The new slot, when promoted.
    pub slot: Option<u32>,
    /// Whether it was promoted.
    pub promoted: bool,
    /// How surely the candidate is better and not only lucky, 0 to 1.
    pub confidence: Option<f64>,
    /// When that was too little: about how many more hold-out labels would tell.
    pub more_labels: Option<usize>,
}

/// `model`: the current model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// Its slot; 0 is the base.
    pub slot: u32,
    /// Of its file.
    pub sha256: String,
    /// Its classes.
    pub classes: Vec<String>,
    /// When it was made, seconds since 1970.
    pub time: f64,
    /// sha256 of the model that it was trained from; none for the base.
    pub base: Option<String>,
    /// The model before it, on the hold-out.
    pub before: Option<Value>,
    /// This model, on the hold-out.
    pub after: Option<Value>,
    /// What it was trained on, in words.
    pub trained_on: Option<String>,
}

/// `event/model`: another model detects, and nobody has asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelEvent {
    /// `rolled_back`.
    pub event: &'static str,
    /// The slot that was current.
    pub from: u32,
    /// The slot that is.
    pub to: u32,
    /// Why.
    pub reason: String,
}

impl From<&Slot> for ModelReport {
    fn from(slot: &Slot) -> Self {
        ModelReport {
            slot: slot.slot,
            sha256: slot.sha256.clone(),
            classes: slot.record.classes.clone(),
            time: slot.created_ms as f64 / 1000.0,
            base: slot.record.base.clone(),
            before: slot.record.before.clone(),
            after: slot.record.after.clone(),
            trained_on: slot.record.trained_on.clone(),
        }
    }
}

/// Why the camera gives no frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CameraTrouble {
    /// What is wrong, and what to do.
    pub reason: String,
    /// For so long.
    pub seconds: u64,
    /// How often it has been tried to open it again.
    pub tries: u32,
    /// Seconds until the next try.
    pub next_try: u64,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProgressReport {
    /// `features` while the backbone goes over the pictures, then `epochs`.
    pub stage: &'static str,
    /// Views or epochs that are done.
    pub done: u64,
    /// Views that are needed, or epochs that were asked for.
    pub total: u64,
    /// Hold-out mAP over IoU 0.50 to 0.95 after the last epoch.
    pub map50_95: Option<f64>,
    /// The best of these since the daemon started.
    pub best_map50_95: Option<f64>,
    /// Seconds until all epochs are done, at the speed of the last.
    pub seconds_left: Option<f64>,
}

/// `state`: what goes on on the device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateReport {
    /// graftd's version.
    pub version: &'static str,
    /// Seconds since the daemon started.
    pub uptime: u64,
    /// The current slot.
    pub slot: u32,
    /// The model's classes.
    pub classes: Vec<String>,
    /// Kept frames.
    pub samples: u64,
    /// Of these, labelled to learn from.
    pub labelled: u64,
    /// Of these, labelled to measure on.
    pub holdout: u64,
    /// Frames seen since the start.
    pub frames: u64,
    /// Frames since the start that could not be looked at.
    pub bad_frames: u64,
    /// Whether the camera gives frames: `on`, `away` while it gives none and is tried again, `off` where
    /// there is none or it has no more.
    pub camera: &'static str,
    /// What it gives, in words: size and rate, and where these are not what was wished for.
    pub camera_gives: Option<String>,
    /// Why it gives none.
    pub camera_trouble: Option<CameraTrouble>,
    /// What detects: `ort` or `tract`.
    pub runtime: &'static str,
    /// The run that goes on.
    pub run: Option<String>,
    /// Whether it waits, because somebody paused it.
    pub paused: bool,
    /// How far the run is; none before it is known.
    pub progress: Option<ProgressReport>,
    /// Messages that wait for the broker.
    pub outbox: u64,
    /// Messages that were set aside because no broker would take them.
    pub set_aside: u64,
    /// Whether frames can be kept: `ok`, or `full` while the disk or the store has no room.
    pub storage: &'static str,
    /// What the kept frames take, MiB.
    pub frames_mb: u64,
    /// Free space where the state lies, MB.
    pub disk_free_mb: Option<u64>,
    /// Of the warmest zone, °C; none where the machine does not tell.
    pub temperature: Option<f64>,
    /// What the next run waits for, or the one that goes on, for people; empty while one goes on.
    pub waits_for: Vec<String>,
    /// What does not work and is tried again, for people.
    pub faults: Vec<String>,
}
