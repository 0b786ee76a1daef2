//! The loop: epochs over cached features, each measured on the hold-out and put on the disk.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::grad::Schedule;
use crate::yolo::assign::Assigner;
use crate::yolo::criterion::{Criterion, Gains, Loss, Sums, normaliser};
use crate::yolo::decode::{detections_of_maps, likely_places};
use crate::yolo::distil::Coverage;
use crate::yolo::letterbox::{Fit, Letterbox};
use crate::yolo::maps::HeadShape;
use crate::yolo::metrics::{Evaluation, Evaluator, TruthBox};
use crate::yolo::nms::Keep;

use super::TrainError;
use super::batches::Member;
use super::cache::{FeatureCache, FeatureKey};
use super::checkpoint::{Best, Checkpoint, Found, Progress};
use super::control::Control;
use super::event::{EpochLoss, TrainEvent};
use super::features::{Sample, Views};
use super::head::{Head, Weights};
use super::options::{Rate, TrainOptions};
use super::replay::Replay;
use super::schedule::Course;

/// A loss that is so many times what it was in the first epoch has exploded.
const EXPLODED: f64 = 10.0;

/// What the learning rate is multiplied by when a run is rolled back.
const AFTER_ROLL_BACK: f64 = 0.5;

/// The loop and what it works with.
pub(super) struct Epochs<'a> {
    pub shape: HeadShape,
    pub classes: &'a [String],
    pub head: Head,
    /// Constants of the last convolution of each branch and level.
    pub last: HashSet<String>,
    pub features: FeatureCache,
    pub views: Views<'a>,
    pub views_per_sample: u32,
    pub samples: Vec<Sample<'a>>,
    pub holdout: Vec<Sample<'a>>,
    /// Per sample, what is known of each class.
    pub coverage: Vec<Vec<Coverage>>,
    /// Samples of earlier runs.
    pub replay: Option<Replay>,
    pub options: &'a TrainOptions,
    /// Samples per step.
    pub batch: usize,
    pub checkpoint: Checkpoint,
    pub control: &'a Control,
    /// How long epochs may take together.
    pub time: Option<Duration>,
}

/// The weights that a run keeps.
pub(super) struct Kept {
    pub weights: Vec<f32>,
    pub epochs: u32,
}

/// How a pass over the samples went.
enum Pass {
    /// The mean loss of a step, per picture.
    Done(Loss),
    /// The loss or its gradient is no longer a number, or much too large; what it was.
    Exploded(String),
}

impl Epochs<'_> {
    /// Trains until the epochs are done, the time is spent or the hold-out stops improving.
    pub fn train(&mut self, on_event: &mut dyn FnMut(TrainEvent)) -> Result<Kept, TrainError> {
        let criterion = Criterion::new(&self.shape, Gains::default(), Assigner::for_head(&self.shape));
        let steps = self.samples.len().div_ceil(self.own());
        let mut progress = self.start(&criterion, on_event)?;
        let course = Course::new(self.options, progress.lr, steps);
        while progress.ended.is_none() {
            let epoch = progress.epoch + 1;
            let started = Instant::now();
            let (pass, paused) = self.pass(epoch, &criterion, &course, &progress)?;
            let loss = match pass {
                Pass::Done(loss) => loss,
                Pass::Exploded(what) => {
                    self.roll_back(&mut progress, epoch, what, on_event)?;
                    continue;
                }
            };
            let trained = started.elapsed() - paused;
            let evaluation = self.evaluate()?;
            progress.epoch = epoch;
            progress.seconds += (started.elapsed() - paused).as_secs_f64();
            progress.first_loss.get_or_insert(loss.total());
            let map50_95 = evaluation.map50_95.unwrap_or(0.0);
            // While nothing is found yet the latest is as good as any, and patience does not begin.
            if progress.best.as_ref().is_none_or(|best| map50_95 > best.value || best.value == 0.0) {
                progress.best = Some(Best { value: map50_95, epoch, weights: self.head.averaged() });
            }
            progress.ended = self.is_over(&progress);
            progress.head = self.head.state();
            if let Err(error) = self.checkpoint.write(&progress) {
                // A full disk must not end a run that needs no more of it.
                tracing::warn!("no checkpoint could be written after epoch {epoch}: {error}");
            }
            let left = f64::from(self.options.epochs - epoch);
            on_event(TrainEvent::Epoch {
                epoch,
                epochs: self.options.epochs,
                loss: EpochLoss { box_: loss.box_, cls: loss.cls, dfl: loss.dfl },
                lr: progress.lr_factor * course.at(u64::from(epoch) * steps as u64 - 1).lr,
                map50: evaluation.map50.unwrap_or(0.0),
                map50_95,
                samples_per_second: (steps * self.own()) as f64 / trained.as_secs_f64(),
                seconds_left: progress.seconds / f64::from(epoch) * left,
            });
        }
        let best = progress.best.expect("there is at least one epoch");
        let reason = progress.ended.unwrap_or_default();
        on_event(TrainEvent::Trained { epochs: progress.epoch, best_epoch: best.epoch, reason });
        Ok(Kept { weights: best.weights, epochs: progress.epoch })
    }

    /// Where the run was interrupted, or its beginning.
    fn start(
        &mut self,
        criterion: &Criterion,
        on_event: &mut dyn FnMut(TrainEvent),
    ) -> Result<Progress, TrainError> {
        match self.checkpoint.find() {
            Found::Progress(progress) => {
                self.head.restore(&progress.head);
                let map50_95 = progress.best.as_ref().map_or(0.0, |best| best.value);
                on_event(TrainEvent::Resumed { epoch: progress.epoch, map50_95 });
                return Ok(*progress);
            }
            Found::NotOurs(reason) => {
                on_event(TrainEvent::NotResumed { reason });
            }
            Found::Nothing => {}
        }
        let lr = match self.options.lr {
            Rate::Fixed(rate) => rate,
            Rate::Auto => self.choose_rate(criterion, on_event)?,
        };
        Ok(Progress {
            lr,
            epoch: 0,
            head: self.head.state(),
            best: None,
            first_loss: None,
            lr_factor: 1.0,
            rolled_back: false,
            seconds: 0.0,
            ended: None,
        })
    }

    /// Why the run is over after the epoch that `progress` has reached, if it is.
    fn is_over(&self, progress: &Progress) -> Option<String> {
        let best_epoch = progress.best.as_ref().map_or(0, |best| best.epoch);
        let patience = self.options.patience;
        if progress.epoch >= self.options.epochs {
            return Some("all epochs are done".into());
        }
        if patience > 0 && progress.epoch - best_epoch >= patience {
            return Some(format!("the hold-out has not improved for {patience} epochs"));
        }
        let spent = self.time.is_some_and(|time| progress.seconds >= time.as_secs_f64());
        spent.then(|| "the time is spent".into())
    }

    /// Goes back to the last epoch that went well, with half the learning rate; once.
    fn roll_back(
        &mut self,
        progress: &mut Progress,
        epoch: u32,
        what: String,
        on_event: &mut dyn FnMut(TrainEvent),
    ) -> Result<(), TrainError> {
        let lr = progress.lr_factor * progress.lr;
        if progress.rolled_back {
            // The next run must not begin where this one could not go on.
            if let Err(error) = self.checkpoint.forget() {
                tracing::warn!("the checkpoint can't be deleted: {error}");
            }
            return Err(TrainError::Diverged { epoch, what, lr, tried: progress.lr });
        }
        progress.rolled_back = true;
        progress.lr_factor *= AFTER_ROLL_BACK;
        self.head.restore(&progress.head);
        let lr = progress.lr_factor * progress.lr;
        on_event(TrainEvent::RolledBack { epoch: progress.epoch, reason: what, lr });
        Ok(())
    }

    /// One pass over the samples; gives also how long it was paused.
    fn pass(
        &mut self,
        epoch: u32,
        criterion: &Criterion,
        course: &Course,
        progress: &Progress,
    ) -> Result<(Pass, Duration), TrainError> {
        let batches = self.batches(epoch);
        let mut paused = Duration::ZERO;
        let mut sum = Loss::default();
        for (number, members) in batches.iter().enumerate() {
            let t = u64::from(epoch - 1) * batches.len() as u64 + number as u64;
            let mut schedule = course.at(t);
            schedule.lr *= progress.lr_factor;
            self.head.scale_before_last(course.before_last(t), &self.last);
            let (loss, norm, waited) = self.step(members, criterion, &schedule)?;
            paused += waited;
            // The criterion's polynomials take a NaN for a small number; the gradient shows it.
            if !loss.total().is_finite() || !norm.is_finite() {
                return Ok((Pass::Exploded("the loss or its gradient is no longer finite".into()), paused));
            }
            sum = sum + loss;
        }
        let mean = sum * (1.0 / batches.len() as f64);
        if let Some(first) = progress.first_loss.filter(|first| mean.total() > EXPLODED * first) {
            let what = format!("the loss has grown from {first:.2} to {:.2}", mean.total());
            return Ok((Pass::Exploded(what), paused));
        }
        Ok((Pass::Done(mean), paused))
    }

    /// One step: a batch forward and back, part by part, then the update. Gives the loss per picture, the
    /// norm of the gradient before clipping, and how long the run was paused meanwhile.
    pub fn step(
        &mut self,
        members: &[Member],
        criterion: &Criterion,
        schedule: &Schedule,
    ) -> Result<(Loss, f32, Duration), TrainError> {
        let mut sums = Sums::default();
        let mut paused = Duration::ZERO;
        for part in members.chunks(self.head.part()) {
            paused += self.control.go_on()?;
            let (batch, truth, coverage) = self.read(part)?;
            sums = sums + self.head.accumulate(&batch, &truth, &coverage, criterion)?;
        }
        let scale = normaliser(members.len(), sums.scores);
        let norm = self.head.update(scale, schedule)?;
        Ok((sums.loss * (scale / members.len() as f64), norm, paused))
    }

    /// The averaged weights on the hold-out, from cached features.
    fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        let mut evaluator = Evaluator::new(self.classes);
        for samples in self.holdout.chunks(self.head.part()) {
            let keys: Vec<FeatureKey> = samples.iter().map(|sample| self.views.key(sample, 0)).collect();
            let batch = self.head.read(&self.features, &keys);
            let shape = &self.shape;
            let keep = Keep::to_measure();
            let likely = |classes: &[&[f32]]| likely_places(shape, classes, keep.confidence);
            let found = self.head.maps_where_likely(&batch, Weights::Averaged, likely, |maps| {
                (0..samples.len())
                    .map(|index| detections_of_maps(shape, maps, index, &keep))
                    .collect::<Vec<_>>()
            })?;
            for (sample, mut found) in samples.iter().zip(found) {
                let (width, height) = sample.picture;
                let sides = (height as usize, width as usize);
                let placed = Letterbox::plan(sides, shape.input, Fit::Exact, true);
                // As `Detector::measure` has it.
                found.retain(|found| sample.example.looks_for(&self.classes[found.class as usize]));
                found
                    .iter_mut()
                    .for_each(|detection| detection.move_to(placed.to_picture(detection.corners())));
                evaluator.add(&found, &TruthBox::of(&sample.example.labels, sample.picture));
            }
        }
        Ok(evaluator.finish())
    }
}
