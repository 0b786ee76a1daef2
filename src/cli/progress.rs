//! Progress of long work: a bar on a terminal, now and then a line elsewhere. Both on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::train::{EpochLoss, TrainEvent};

/// Between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

/// A bar over pictures; invisible where stderr is no terminal.
pub(super) fn pictures(count: usize) -> ProgressBar {
    bar(count as u64, "{bar:30} {pos}/{len} pictures, {eta} left")
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Tells of a run.
pub(super) struct RunProgress {
    terminal: bool,
    bar: Option<ProgressBar>,
    last_line: Instant,
    best: f64,
}

impl RunProgress {
    /// Nothing told yet.
    pub fn new() -> Self {
        RunProgress {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            last_line: Instant::now(),
            best: 0.0,
        }
    }

    /// Tells of one event.
    pub fn tell(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Features { done, total } => self.features(*done, *total),
            TrainEvent::Epoch { epoch, epochs, loss, map50, map50_95, .. } => {
                self.best = self.best.max(*map50_95);
                if self.terminal {
                    self.epoch(*epoch, *epochs, &measures(loss, *map50, *map50_95));
                } else if epoch == epochs || *epoch == 1 || self.last_line.elapsed() >= QUIET {
                    self.say(&format!("{} (best {:.3})", words(event), self.best));
                }
            }
            TrainEvent::Resumed { map50_95, .. } => {
                self.best = *map50_95;
                self.say(&words(event));
            }
            TrainEvent::RolledBack { .. } | TrainEvent::Trained { .. } => {
                self.clear();
                self.say(&words(event));
            }
            TrainEvent::Started { .. }
            | TrainEvent::Chosen { .. }
            | TrainEvent::LeftOut { .. }
            | TrainEvent::Reduced { .. }
            | TrainEvent::NotResumed { .. } => self.say(&words(event)),
        }
    }

    /// Does what writes to the terminal, so that the bar stays below it.
    pub fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Tells of samples being labelled.
    pub fn labels(&mut self, done: usize, total: usize) {
        if self.terminal {
            let bar = self
                .bar
                .get_or_insert_with(|| bar(total as u64, "frames kept and labelled {bar:30} {pos}/{len}"));
            bar.set_position(done as u64);
        } else if done == total || self.last_line.elapsed() >= QUIET {
            self.say(&format!("{done}/{total} frames kept and labelled"));
        }
        if done == total {
            self.clear();
        }
    }

    fn features(&mut self, done: usize, total: usize) {
        if self.terminal {
            let bar = self
                .bar
                .get_or_insert_with(|| bar(total as u64, "features {bar:30} {pos}/{len} views, {eta} left"));
            bar.set_position(done as u64);
        } else if done == total || self.last_line.elapsed() >= QUIET {
            self.say(&words(&TrainEvent::Features { done, total }));
        }
        if done == total {
            self.clear();
        }
    }

    fn epoch(&mut self, epoch: u32, epochs: u32, measures: &str) {
        let message = format!("{measures} (best {:.3})", self.best);
        let bar = self.bar.get_or_insert_with(|| bar(u64::from(epochs), "epoch {pos}/{len} {bar:30} {msg}"));
        bar.set_message(message);
        bar.set_position(u64::from(epoch));
    }

    fn say(&mut self, text: &str) {
        eprintln!("{text}");
        self.last_line = Instant::now();
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// One event in words.
pub(super) fn words(event: &TrainEvent) -> String {
    match event {
        TrainEvent::Started { scope, samples, holdout, epochs, parameters, runtime } => format!(
            "training {parameters} numbers (scope {scope}) on {samples} pictures, measured on {holdout}, up to \
             {epochs} epochs, with {runtime}"
        ),
        TrainEvent::Features { done, total } => format!("features of {done}/{total} views"),
        TrainEvent::Epoch { epoch, epochs, loss, map50, map50_95, seconds_left, .. } => {
            let measures = measures(loss, *map50, *map50_95);
            format!("epoch {epoch}/{epochs}: {measures}, {seconds_left:.0} s left")
        }
        TrainEvent::Chosen { what, value, reason } => format!("{what} {value}: {reason}"),
        TrainEvent::LeftOut { reason, .. } => reason.clone(),
        TrainEvent::Reduced { reason } => {
            format!("features take more disk than they may (--cache-mb): {reason}")
        }
        TrainEvent::Resumed { epoch, .. } => {
            format!("the run was interrupted and goes on after epoch {epoch}")
        }
        TrainEvent::NotResumed { reason } => format!("the run starts from its beginning: {reason}"),
        TrainEvent::RolledBack { epoch, reason, lr } => {
            format!("{reason}; back to epoch {epoch} with learning rate {lr:e}")
        }
        TrainEvent::Trained { epochs, best_epoch, reason } => {
            format!("{epochs} epochs, {reason}; epoch {best_epoch} is kept")
        }
    }
}

fn measures(loss: &EpochLoss, map50: f64, map50_95: f64) -> String {
    let total = loss.box_ + loss.cls + loss.dfl;
    format!("loss {total:.3}, mAP50 {map50:.3}, mAP50-95 {map50_95:.3}")
}
