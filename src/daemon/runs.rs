//! Runs: started by a command, in a thread of their own, reported as they go.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::dataset::Example;
use crate::mqtt::{Answer, ProgressReport, RunOutcome, RunReport, TrainArguments, identified};
use crate::runtime;
use crate::store::{EndedRun, Message, PendingRun, RunEnd, Scores, SlotRecord, StoreError};
use crate::train::{
    Begun, Control, Folders, Outcome, TrainError, TrainEvent, TrainOptions, TrainingSet, fine_tune,
    forget_checkpoint,
};

use super::ask::Ask;
use super::core::Core;
use super::event::Event;
use super::history::{ended, measured};
use super::models::candidate_detector;
use super::names::{Names, changes};

/// The backbone's progress is reported at most so often.
const FEATURES_EVERY: Duration = Duration::from_secs(2);

/// A run that was interrupted is taken up so often before an epoch is done; then it is given up.
const MOST_ATTEMPTS: u32 = 3;

/// Stands in the place of a command's name where the schedule asked for a run.
const SCHEDULED: &str = "(schedule)";

/// A run that goes on.
pub(super) struct Run {
    pub id: String,
    ask: Ask,
    control: Control,
    trained_on: String,
    /// Somebody has paused it.
    paused_by_hand: bool,
    /// The schedule has it wait.
    held: bool,
    /// Samples to learn from, and to measure on.
    samples: (usize, usize),
    /// How far it is.
    pub progress: Option<ProgressReport>,
}

impl Run {
    pub fn is_paused(&self) -> bool {
        self.control.is_paused()
    }

    pub fn is_paused_by_hand(&self) -> bool {
        self.paused_by_hand
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    pub fn is_scheduled(&self) -> bool {
        self.ask == Ask::Schedule
    }

    /// It goes on when neither a person nor the schedule wants it to wait.
    fn obey(&self) {
        match self.paused_by_hand || self.held {
            true => self.control.pause(),
            false => self.control.resume(),
        }
    }

    pub fn asked_by(&self, ask: &Ask) -> bool {
        self.ask == *ask
    }
}

impl Core {
    /// `cmd/train`: starts a run, unless one goes on or there is too little to learn from.
    pub(super) fn start_run(&mut self, arguments: &TrainArguments, ask: &Ask) -> Result<(), String> {
        if let Some(run) = &self.run {
            return Err(format!("run {} goes on; wait for it or cancel it", run.id));
        }
        let id = Uuid::now_v7().to_string();
        // Whatever lies there is of a run that has come to its end.
        forget_checkpoint(&self.store.features_dir()).map_err(|error| error.to_string())?;
        let begun = self.what_is_labelled()?;
        self.launch(id.clone(), arguments, ask, begun)?;
        let pending = PendingRun {
            run: id,
            command: match ask {
                Ask::Command { command, id } => Some((command.clone(), id.clone())),
                Ask::Request { .. } | Ask::Api(_) => None,
                Ask::Schedule => Some((SCHEDULED.into(), String::new())),
            },
            arguments: serde_json::to_vec(arguments).expect("arguments can be written"),
            slot: self.slot.slot,
            attempts: 0,
        };
        // A run that can't be remembered goes on all the same; a restart would answer that it was interrupted.
        if let Err(error) = self.store.pending().set(Some(&pending)) {
            tracing::error!("the run would not be taken up after a restart: {error}");
        }
        self.remember_last_run();
        Ok(())
    }

    /// The run that a restart interrupted goes on where it stood.
    pub(super) fn take_up_run(&mut self) -> Result<(), StoreError> {
        let Some(mut pending) = self.store.pending().run()? else { return Ok(()) };
        pending.attempts += 1;
        self.store.pending().set(Some(&pending))?;
        let id = pending.run.clone();
        let ask = match &pending.command {
            Some((command, _)) if command == SCHEDULED => Ask::Schedule,
            Some((command, id)) => Ask::Command { command: command.clone(), id: id.clone() },
            // Whoever waits at a response topic has given up by now.
            None => Ask::Request { command: "train".into(), reply: None },
        };
        if self.slot.slot > pending.slot {
            return self.had_promoted(id, &ask);
        }
        let launched = if pending.attempts > MOST_ATTEMPTS {
            Err(format!(
                "interrupted {MOST_ATTEMPTS} times before an epoch was done, and given up; look at the device's \
                 memory and log, then send the command again under a new id"
            ))
        } else {
            serde_json::from_slice(&pending.arguments)
                .map_err(|error| format!("interrupted, and its arguments can't be read any more: {error}"))
                .and_then(|arguments| {
                    let begun = Begun::find(&self.store.features_dir());
                    let begun = begun.map_or_else(|| self.what_is_labelled(), Ok)?;
                    self.launch(id.clone(), &arguments, &ask, begun)
                })
        };
        match launched {
            Ok(()) => {
                tracing::info!("run {id} was interrupted and is taken up");
                Ok(())
            }
            Err(reason) => self.run_failed(id, &ask, reason),
        }
    }

    /// The run had promoted its model before it could say so.
    fn had_promoted(&mut self, run: String, ask: &Ask) -> Result<(), StoreError> {
        let record = &self.slot.record;
        let result = json!({
            "run": run, "event": "finished", "slot": self.slot.slot, "promoted": true,
            "reason": record.reason, "before": record.before, "after": record.after,
        });
        let scores = |value: &Option<Value>| serde_json::from_value::<Scores>(value.clone()?).ok();
        self.remember_run(EndedRun {
            before: scores(&record.before),
            after: scores(&record.after),
            slot: Some(self.slot.slot),
            ..ended(&run, RunEnd::Finished, record.reason.as_deref().unwrap_or_default())
        });
        let payload = identified(&result);
        let topic = self.topics.event_run(&run);
        self.push(&Message { topic, payload, droppable: false, correlation: None })?;
        self.settle(ask, &Answer::Successful { result })?;
        self.run_is_over()
    }

    /// Starts the thread of a run.
    fn launch(
        &mut self,
        id: String,
        arguments: &TrainArguments,
        ask: &Ask,
        Begun { set, classes }: Begun,
    ) -> Result<(), String> {
        let samples = (set.train.len(), set.holdout.len());
        let trained_on = format!("{} samples, measured on {}", samples.0, samples.1);
        let guest = self.config.train.guest.clone();
        let options = with(&self.config.train.options, arguments, self.config.model.imgsz);
        let options = TrainOptions { threads: guest.threads(options.threads), classes, ..options };
        let control = Control::new();
        let base = self.store.models().model_path(self.slot.slot);
        let (features, memory) = (self.store.features_dir(), self.store.memory_dir());
        let (choice, events, heard) = (self.config.runtime.training(), self.events.clone(), control.clone());
        let work = move || {
            let mut told = Instant::now();
            let mut tell = |event: TrainEvent| {
                if matches!(event, TrainEvent::Features { done, total } if done < total) {
                    if told.elapsed() < FEATURES_EVERY {
                        return;
                    }
                    told = Instant::now();
                }
                // A daemon that has ended hears nothing; it has cancelled before.
                let _ = events.send(Event::Run(event));
            };
            let run = AssertUnwindSafe(|| {
                let train = || {
                    let runtime = runtime::open(&choice)?;
                    let folders = Folders { cache: &features, memory: Some(&memory) };
                    fine_tune(&base, &set, &options, &*runtime, folders, &mut tell, &heard)
                };
                guest.run(options.threads, train).map_err(|error| {
                    TrainError::Option(format!(
                        "training can't be a guest on this device (train.cpus): {error}"
                    ))
                })?
            });
            // A mistake of ours must not leave the command without an answer and the daemon with a run
            // that never ends.
            let outcome = catch_unwind(run).unwrap_or(Err(TrainError::Panicked));
            let _ = events.send(Event::RunEnded(Box::new(outcome)));
        };
        let started = thread::Builder::new().name("train".into()).spawn(work);
        started.map_err(|error| format!("the system gives no thread: {error}"))?;
        tracing::info!("run {id} starts on {trained_on}");
        self.run = Some(Run {
            id,
            ask: ask.clone(),
            control,
            trained_on,
            paused_by_hand: false,
            held: false,
            samples,
            progress: None,
        });
        self.state_changed();
        Ok(())
    }

    /// What a run learns from that begins now, remembered for the starts that take it up.
    fn what_is_labelled(&self) -> Result<Begun, String> {
        let (train, holdout) = self.store.samples().truth().map_err(|error| error.to_string())?;
        let least = self.config.train.min_samples;
        if train.len() < least {
            let count = train.len();
            return Err(format!(
                "{count} samples are labelled to learn from, {least} are needed; label more"
            ));
        }
        measurable(&holdout)?;
        let set = TrainingSet { classes: self.names.labels.clone(), train, holdout };
        let classes = changes(&self.names, self.detector.classes(), &set);
        let begun = Begun { set, classes };
        if let Err(error) = begun.remember(&self.store.features_dir()) {
            // A full disk must not keep a run from its work.
            tracing::warn!(
                "what the run learns from can't be remembered: {error}; with labels that come in the meantime it \
                 would start from its beginning after a restart"
            );
        }
        Ok(begun)
    }

    /// `cmd/cancel`.
    pub(super) fn cancel_run(&mut self) -> Result<Value, String> {
        let run = self.run.as_ref().ok_or("no run goes on; there is nothing to cancel")?;
        run.control.cancel();
        Ok(json!({"run": run.id}))
    }

    /// `cmd/pause`.
    pub(super) fn pause_run(&mut self) -> Result<Value, String> {
        let run = self.run.as_mut().ok_or("no run goes on; there is nothing to pause")?;
        run.paused_by_hand = true;
        run.obey();
        let answer = json!({"run": run.id});
        self.state_changed();
        Ok(answer)
    }

    /// `cmd/resume`.
    pub(super) fn resume_run(&mut self) -> Result<Value, String> {
        let run = self.run.as_mut().filter(|run| run.is_paused()).ok_or("no run is paused")?;
        if !run.paused_by_hand {
            let waits_for = self.schedule.waits_for.join("; ");
            return Err(format!("nobody has paused it; it is a scheduled run and waits for {waits_for}"));
        }
        run.paused_by_hand = false;
        run.obey();
        let answer = json!({"run": run.id});
        self.state_changed();
        Ok(answer)
    }

    /// The schedule has the run wait, or lets it go on.
    pub(super) fn hold_run(&mut self, hold: bool) {
        let Some(run) = self.run.as_mut().filter(|run| run.held != hold) else { return };
        run.held = hold;
        run.obey();
        tracing::info!("run {} {}", run.id, if hold { "waits for its hours" } else { "goes on" });
        self.state_changed();
    }

    /// Nothing of the run need be taken up any more.
    fn run_is_over(&mut self) -> Result<(), StoreError> {
        if let Err(error) = forget_checkpoint(&self.store.features_dir()) {
            tracing::warn!("the run's checkpoint can't be deleted: {error}");
        }
        self.store.pending().set(None)
    }

    /// The run goes on.
    pub(super) fn run_goes_on(&mut self, event: TrainEvent) -> Result<(), StoreError> {
        match &event {
            TrainEvent::LeftOut { reason, .. } => tracing::warn!("{reason}"),
            TrainEvent::Reduced { reason } => {
                tracing::warn!(
                    "the features of all views take more than cache_mb or the disk allow: {reason}"
                );
            }
            TrainEvent::NotResumed { reason } => {
                tracing::warn!("the run starts from its beginning: {reason}");
            }
            TrainEvent::RolledBack { epoch, reason, lr } => {
                tracing::warn!("{reason}; back to epoch {epoch} with learning rate {lr:e}");
            }
            _ => {}
        }
        if matches!(event, TrainEvent::Epoch { .. }) {
            self.attempt_succeeds()?;
        }
        self.follow_progress(&event);
        let Some(run) = &self.run else { return Ok(()) };
        let report = RunReport::Progress { run: run.id.clone(), event };
        self.report_run(&report)
    }

    /// The run came to an end: a better candidate takes over, everybody is told.
    pub(super) fn run_ended(&mut self, outcome: Result<Outcome, TrainError>) -> Result<(), StoreError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        self.state_changed();
        let outcome = match outcome {
            // `cancel` has been answered that nothing is changed, however late it came.
            Ok(_) if run.control.is_cancelled() => {
                return self.run_failed(run.id, &run.ask, TrainError::Cancelled.to_string());
            }
            Ok(outcome) => outcome,
            Err(error) => return self.run_failed(run.id, &run.ask, error.to_string()),
        };
        let slot = match self.promote_candidate(&run, &outcome) {
            Ok(slot) => slot,
            Err(reason) => return self.run_failed(run.id, &run.ask, reason),
        };
        let (end, reason) = match slot {
            Some(_) => (RunEnd::Finished, outcome.verdict.reason.clone()),
            None => (RunEnd::Refused, outcome.verdict.reason.clone()),
        };
        let event = end.name();
        tracing::info!("run {} {event}: {reason}", run.id);
        let (samples, holdout) = run.samples;
        self.remember_run(EndedRun {
            samples: Some(samples),
            holdout: Some(holdout),
            ..measured(ended(&run.id, end, &reason), &outcome, slot)
        });
        let measured = RunOutcome {
            before: outcome.before,
            after: outcome.after,
            left_out: outcome.left_out,
            epochs: outcome.epochs,
            seconds: outcome.seconds,
            cpu_seconds: outcome.cpu_seconds,
            peak_rss_mb: outcome.peak_rss_mb,
            slot,
            promoted: slot.is_some(),
            confidence: outcome.verdict.confidence,
            more_labels: outcome.verdict.more_labels,
        };
        let report = RunReport::End { run: run.id, event, reason, outcome: Some(Box::new(measured)) };
        self.report_run(&report)?;
        let result = serde_json::to_value(&report).expect("reports can be written");
        self.settle(&run.ask, &Answer::Successful { result })?;
        self.run_is_over()
    }

    fn run_failed(&mut self, run: String, ask: &Ask, reason: String) -> Result<(), StoreError> {
        tracing::warn!("run {run} failed: {reason}");
        self.remember_run(ended(&run, RunEnd::Failed, &reason));
        self.report_run(&RunReport::End { run, event: "failed", reason: reason.clone(), outcome: None })?;
        self.settle(ask, &Answer::failed(reason))?;
        self.run_is_over()
    }

    /// Puts a candidate that passed the gate into a slot, provided that it can be loaded.
    fn promote_candidate(&mut self, run: &Run, outcome: &Outcome) -> Result<Option<u32>, String> {
        if !outcome.verdict.promoted {
            return Ok(None);
        }
        let detector = candidate_detector(&self.config, &outcome.model, &*self.runtime)
            .map_err(|error| format!("the candidate can't be loaded: {error}; the old model stays"))?;
        let names = Names::open(&self.store, detector.classes()).map_err(|error| error.to_string())?;
        let record = SlotRecord {
            classes: detector.classes().to_vec(),
            base: Some(self.slot.sha256.clone()),
            before: serde_json::to_value(&outcome.before).ok(),
            after: serde_json::to_value(&outcome.after).ok(),
            trained_on: Some(run.trained_on.clone()),
            reason: Some(outcome.verdict.reason.clone()),
        };
        let slot = self.store.models().promote(&outcome.model, record).map_err(|error| error.to_string())?;
        let number = slot.slot;
        self.follow(slot, detector, names);
        Ok(Some(number))
    }

    /// The daemon stops: the run ends where it stands, and the next start takes it up.
    pub(super) fn interrupt_run(&mut self) {
        if let Some(run) = self.run.take() {
            run.control.cancel();
            tracing::info!("run {} is interrupted; the next start takes it up", run.id);
        }
    }

    /// An epoch is done, so the run may be interrupted again.
    fn attempt_succeeds(&mut self) -> Result<(), StoreError> {
        match self.store.pending().run()? {
            Some(pending) if pending.attempts > 0 => {
                self.store.pending().set(Some(&PendingRun { attempts: 0, ..pending }))
            }
            _ => Ok(()),
        }
    }

    fn report_run(&mut self, report: &RunReport) -> Result<(), StoreError> {
        let (RunReport::Progress { run, .. } | RunReport::End { run, .. }) = report;
        let payload = identified(report);
        let droppable = matches!(report, RunReport::Progress { .. });
        self.push(&Message { topic: self.topics.event_run(run), payload, droppable, correlation: None })
    }
}

/// Whether a model can be measured on the hold-out, or what to do.
pub(super) fn measurable(holdout: &[Example]) -> Result<(), String> {
    match holdout.iter().all(|example| example.labels.is_empty()) {
        true => {
            Err("no hold-out sample has a box, so nothing can be measured; label one with \"holdout\": true"
                .into())
        }
        false => Ok(()),
    }
}

/// The configured options with what a command says otherwise.
fn with(configured: &TrainOptions, arguments: &TrainArguments, imgsz: Option<usize>) -> TrainOptions {
    let options = configured.clone();
    TrainOptions {
        scope: arguments.scope.unwrap_or(options.scope),
        epochs: arguments.epochs.unwrap_or(options.epochs),
        batch: arguments.batch.unwrap_or(options.batch),
        lr: arguments.lr.unwrap_or(options.lr),
        views: arguments.views.unwrap_or(options.views),
        seed: arguments.seed.unwrap_or(options.seed),
        patience: arguments.patience.unwrap_or(options.patience),
        max_minutes: arguments.max_minutes.or(options.max_minutes),
        imgsz: options.imgsz.or(imgsz),
        ..options
    }
}
