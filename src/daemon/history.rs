//! What of runs is told while they go on, and remembered when they have ended.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::mqtt::ProgressReport;
use crate::store::{EndedRun, RunEnd, Scores};
use crate::train::{Outcome, TrainEvent};
use crate::yolo::metrics::Evaluation;

use super::core::Core;

impl Core {
    /// What the state tells of the run that goes on.
    pub(super) fn follow_progress(&mut self, event: &TrainEvent) {
        let Some(run) = &mut self.run else { return };
        let best_before = run.progress.as_ref().and_then(|progress| progress.best_map50_95);
        let progress = match *event {
            TrainEvent::Features { done, total } => ProgressReport {
                stage: "features",
                done: done as u64,
                total: total as u64,
                map50_95: None,
                best_map50_95: None,
                seconds_left: None,
            },
            TrainEvent::Epoch { epoch, epochs, map50_95, seconds_left, .. } => ProgressReport {
                stage: "epochs",
                done: u64::from(epoch),
                total: u64::from(epochs),
                map50_95: Some(map50_95),
                best_map50_95: Some(best_before.map_or(map50_95, |best| best.max(map50_95))),
                seconds_left: Some(seconds_left),
            },
            _ => return,
        };
        run.progress = Some(progress);
        self.state_changed();
    }

    /// Remembers how a run ended. A history that can't be written must not keep the run from ending.
    pub(super) fn remember_run(&self, ended: EndedRun) {
        if let Err(error) = self.store.runs().add(ended) {
            tracing::error!("the run is missing in the history: {error}");
        }
    }
}

/// A run that has ended just now, of which no more is known.
pub(super) fn ended(run: &str, event: RunEnd, reason: &str) -> EndedRun {
    EndedRun {
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        run: run.to_owned(),
        event,
        reason: reason.to_owned(),
        before: None,
        after: None,
        samples: None,
        holdout: None,
        epochs: None,
        seconds: None,
        slot: None,
    }
}

/// The same with what was measured.
pub(super) fn measured(ended: EndedRun, outcome: &Outcome, slot: Option<u32>) -> EndedRun {
    EndedRun {
        before: scores(&outcome.before),
        after: scores(&outcome.after),
        epochs: Some(outcome.epochs),
        seconds: Some(outcome.seconds),
        slot,
        ..ended
    }
}

/// None where the hold-out has no box.
fn scores(evaluation: &Evaluation) -> Option<Scores> {
    Some(Scores { map50: evaluation.map50?, map50_95: evaluation.map50_95? })
}
