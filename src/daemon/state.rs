//! What goes on, for whoever looks: the state at the broker and the API, a line for the service manager.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mqtt::{CameraTrouble, StateReport};

use super::core::Core;
use super::runs::Run;
use super::{heart, machine};

/// The state is published at least so often, and after a change at most each second.
const STATE_EVERY: Duration = Duration::from_secs(30);
const STATE_AFTER_CHANGE: Duration = Duration::from_secs(1);

impl Core {
    /// Something that the state tells has changed.
    pub(super) fn state_changed(&mut self) {
        self.state_due = self.state_due.min(self.state_published + STATE_AFTER_CHANGE);
    }

    pub(super) fn publish_state(&mut self) {
        self.store.tend();
        self.state_published = Instant::now();
        self.state_due = self.state_published + STATE_EVERY;
        let payload = serde_json::to_vec(&self.state()).expect("reports can be written");
        self.publish_fact(&self.topics.state(), &payload);
        heart::status(&self.in_a_line());
    }

    /// What goes on, for whoever looks at the service.
    fn in_a_line(&self) -> String {
        let camera = match (&self.eyes.camera, &self.eyes.trouble) {
            (_, Some(trouble)) => trouble.reason.clone(),
            (None, None) => "no camera".into(),
            (Some(_), None) => format!("{} frames", self.eyes.frames),
        };
        let run = match &self.run {
            Some(run) if run.is_paused() => format!("run {} is paused", run.id),
            Some(run) => format!("run {} goes on", run.id),
            None if self.schedule.waits_for.is_empty() => "no run goes on".into(),
            None => format!("the next run waits for {}", self.schedule.waits_for.join("; ")),
        };
        format!("slot {}; {camera}; {run}", self.slot.slot)
    }

    /// The state as `cmd/state` gives it.
    pub(super) fn state_value(&self) -> Value {
        serde_json::to_value(self.state()).expect("reports can be written")
    }

    fn state(&self) -> StateReport {
        let counts = self.store.samples().counts();
        StateReport {
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed().as_secs(),
            slot: self.slot.slot,
            classes: self.names.labels.clone(),
            samples: counts.samples,
            labelled: counts.labelled,
            holdout: counts.holdout,
            frames: self.eyes.frames,
            bad_frames: self.eyes.bad_frames,
            camera: match (&self.eyes.camera, &self.eyes.trouble) {
                (None, _) => "off",
                (Some(_), Some(_)) => "away",
                (Some(_), None) => "on",
            },
            camera_gives: self.eyes.gives.clone(),
            camera_trouble: self.eyes.trouble.as_ref().map(|trouble| CameraTrouble {
                reason: trouble.reason.clone(),
                seconds: trouble.since.elapsed().as_secs(),
                tries: trouble.tries,
                next_try: trouble.next_try.saturating_duration_since(Instant::now()).as_secs(),
            }),
            runtime: self.runtime.name(),
            run: self.run.as_ref().map(|run| run.id.clone()),
            paused: self.run.as_ref().is_some_and(Run::is_paused),
            progress: self.run.as_ref().and_then(|run| run.progress.clone()),
            outbox: self.store.outbox().len(),
            set_aside: self.store.outbox().aside(),
            storage: if self.eyes.full_since.is_some() { "full" } else { "ok" },
            frames_mb: counts.bytes >> 20,
            disk_free_mb: self.store.free_space().map(|bytes| bytes >> 20),
            temperature: machine::temperature(),
            waits_for: self.schedule.waits_for.clone(),
            faults: [&self.probation.trouble, &self.broker_refuses]
                .into_iter()
                .flatten()
                .chain(&self.config_faults)
                .cloned()
                .collect(),
        }
    }
}
