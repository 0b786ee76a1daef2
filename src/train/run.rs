//! One fine-tuning: from a base and labelled pictures to a drop-in and a verdict.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::detect::Detector;
use crate::label::LabelBox;
use crate::runtime::{Runtime, SessionOptions};
use crate::yolo::assign::Assigner;
use crate::yolo::backbone::{Backbone, head_shape, input_size};
use crate::yolo::criterion::{Criterion, Gains, Loss};
use crate::yolo::cut::{self, Cut};
use crate::yolo::decode::detections_of_maps;
use crate::yolo::distil::{Coverage, known_classes};
use crate::yolo::export::Export;
use crate::yolo::graft::graft;
use crate::yolo::letterbox::{Fit, Letterbox};
use crate::yolo::maps::HeadShape;
use crate::yolo::metrics::{Evaluation, Evaluator, TruthBox};
use crate::yolo::nms::Keep;

use super::cache::{FeatureCache, FeatureKey, hash};
use super::coverage::{Distill, coverage, covered_classes, covered_on};
use super::event::{EpochLoss, TrainEvent};
use super::features::{Sample, Views, extract, open_cache};
use super::gate::{Verdict, judge};
use super::head::{Batch, Head, Weights};
use super::memory::Memory;
use super::options::{MAX_BATCH, MAX_VIEWS, Scope, TrainOptions};
use super::replay::{Replay, candidates};
use super::resources::{cpu_seconds, peak_rss_mb};
use super::schedule::Course;
use super::{TrainError, TrainingSet};

/// What a run ends with.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The base on the hold-out.
    pub before: Evaluation,
    /// The candidate on the hold-out.
    pub after: Evaluation,
    /// Epochs gone through.
    pub epochs: u32,
    /// Wall time.
    pub seconds: f64,
    /// CPU time of the process meanwhile, over all its threads.
    pub cpu_seconds: f64,
    /// The most memory that the process has held, MB.
    pub peak_rss_mb: Option<f64>,
    /// What the gate says.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The candidate as an ONNX file: a drop-in for the base.
    #[serde(skip)]
    pub model: Vec<u8>,
}

/// Where a run keeps what it may find again.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a> {
    /// Features of this run's samples; may be deleted at any time between runs.
    pub cache: &'a Path,
    /// Features of earlier runs' samples ([`super::Memory`]); none does without.
    pub memory: Option<&'a Path>,
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for Folders<'a> {
    /// A cache alone.
    fn from(cache: &'a P) -> Self {
        Folders { cache: cache.as_ref(), memory: None }
    }
}

/// Fine-tunes a detector's head.
///
/// `base` is the model to start from and to be better than. Samples of a run that the gate lets through
/// enter the memory, if there is one. `on_event` is told what goes on; `cancel` stops the run at
/// the next step.
///
/// # Errors
/// [`TrainError`]; nothing but the cache has been written then.
pub fn fine_tune<'a>(
    base: &Path,
    set: &TrainingSet,
    options: &TrainOptions,
    runtime: &dyn Runtime,
    folders: impl Into<Folders<'a>>,
    on_event: &mut dyn FnMut(TrainEvent),
    cancel: &AtomicBool,
) -> Result<Outcome, TrainError> {
    check(options)?;
    let folders = folders.into();
    let started = Instant::now();
    let cpu_started = cpu_seconds();
    let export = Export::read(base).map_err(|source| TrainError::Base { path: base.to_owned(), source })?;
    let set = set.clone().in_classes_of(&export.classes)?;
    if set.train.iter().all(|example| example.labels.is_empty()) {
        return Err(TrainError::TooLittle("no training picture has a box; label some first".into()));
    }
    if set.holdout.iter().all(|example| example.labels.is_empty()) {
        return Err(TrainError::TooLittle("no hold-out picture has a box; label some first".into()));
    }
    let size = input_size(&export, options.imgsz).map_err(TrainError::Option)?;
    let holdout = Sample::look_at(&set.holdout)?;
    let samples = not_held_out(Sample::look_at(&set.train)?, &holdout)?;

    let chooses: cut::Chooses = match options.scope {
        Scope::Last => &cut::last,
        Scope::Cls => &cut::class_branch,
        Scope::Head => &cut::whole_head,
    };
    let cut = Cut::new(&export, chooses, size)?;
    let session_options = SessionOptions { threads: options.threads };
    let mut backbone = Backbone::load(&export, &cut, size, runtime, &session_options)?;
    let known = match options.distill {
        Distill::Auto => known_classes(&export)?,
        // Without a teacher nobody knows what is not labelled.
        Distill::Off => vec![false; export.classes.len()],
    };
    let backbone_hash = hash(&[&cut.backbone.encode()]);
    let replay = match folders.memory {
        None => None,
        Some(root) => {
            let budget = options.memory_mb << 20;
            let memory = Memory::open(root, &backbone_hash, size, backbone.shapes(), budget)?;
            let seen = samples.iter().chain(&holdout).map(|sample| sample.hash).collect();
            Some(Replay::new(memory, &seen, &export.classes, &known))
        }
    };
    let n_records = replay.as_ref().map_or(0, Replay::len);
    let batch = options.batch.min(samples.len() + n_records);
    // A batch holds at least one sample of the run's own.
    let replayed =
        if n_records == 0 { 0 } else { ((options.replay * batch as f64).round() as usize).min(batch - 1) };
    let head = Head::new(&cut, backbone.shapes(), batch, runtime, &session_options)?;
    let shape = head_shape(&export, size);
    shape.check(head.map_shapes()).map_err(TrainError::Option)?;
    on_event(TrainEvent::Started {
        scope: options.scope,
        samples: samples.len(),
        holdout: holdout.len(),
        epochs: options.epochs,
        parameters: head.n_parameters(),
        runtime: runtime.name().to_owned(),
    });

    let by_rule = covered_classes(&set.train, export.classes.len());
    let covered: Vec<Vec<bool>> =
        samples.iter().map(|sample| covered_on(sample.example, &export.classes, &by_rule)).collect();
    let coverage: Vec<Vec<Coverage>> = covered
        .iter()
        .map(|covered| match options.distill {
            Distill::Auto => coverage(covered, &known),
            Distill::Off => vec![Coverage::Labelled; covered.len()],
        })
        .collect();
    let taught = coverage.iter().filter(|coverage| coverage.contains(&Coverage::Taught)).count();
    if taught > 0 || replayed > 0 {
        tracing::info!(
            "{taught} of {} samples are not labelled for every class that the base knows: it teaches the \
             others; {replayed} of {batch} pictures of a batch come from {n_records} in the replay memory",
            samples.len()
        );
    }
    let views = Views { seed: options.seed, turns: options.turns, size };
    let mut features = open_cache(folders.cache, &backbone_hash, &backbone)?;
    let plain = holdout.iter().map(|sample| (sample, 0));
    let varied = samples.iter().flat_map(|sample| (0..options.views).map(move |view| (sample, view)));
    let wanted: Vec<(&Sample, u32)> = plain.chain(varied).collect();
    let mut told = |done, total| on_event(TrainEvent::Features { done, total });
    extract(&mut features, &mut backbone, &views, &wanted, &mut told, cancel)?;
    // The backbone is done; its memory is better spent elsewhere.
    drop(backbone);

    let mut run = Run {
        shape,
        classes: &export.classes,
        head,
        features,
        views,
        samples,
        holdout,
        coverage,
        options,
        batch,
        own: batch - replayed,
        replay,
        deadline: options.max_minutes.map(|minutes| started + Duration::from_secs_f64(60.0 * minutes)),
    };
    let kept = run.train(on_event, cancel)?;
    let layout = run.head.layout().clone();
    let Run { head, features, samples, replay, .. } = run;
    drop(head);

    let candidate = graft(&export, &layout, &kept.weights)?;
    let model = candidate.encode();
    loads_whole(&export, &model, runtime, &session_options)?;
    let candidate =
        Export::new(candidate).map_err(|source| TrainError::Base { path: base.to_owned(), source })?;
    // Both are measured as files, end to end, so that the figures are those of `graftd eval`.
    let measure = |export: &Export| -> Result<Evaluation, TrainError> {
        Ok(Detector::new(export, options.imgsz, runtime, &session_options)?.evaluate(&set.holdout, |_| {})?)
    };
    let (before, after) = (measure(&export)?, measure(&candidate)?);
    let verdict = judge(&before, &after);
    if let Some(mut replay) = replay.filter(|_| verdict.promoted) {
        let (records, shown) = candidates(&samples, &views, options.views, &export.classes, &covered);
        let read = |index: usize, targets: &mut [&mut [f32]]| {
            let (sample, view) = shown[index];
            features.read(&views.key(sample, view), targets);
        };
        // The run is done and its outcome good, whatever becomes of the memory.
        match replay.memory.admit(records, options.seed, read) {
            Ok(admission) => tracing::info!(
                "replay memory: {} views entered and {} left; it holds {} of them in {} MB",
                admission.entered,
                admission.left,
                replay.memory.records().len(),
                replay.memory.size().div_ceil(1 << 20)
            ),
            Err(error) => tracing::warn!("{error}; this run's samples will not be seen again"),
        }
    }
    Ok(Outcome {
        verdict,
        before,
        after,
        epochs: kept.epochs,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu_started,
        peak_rss_mb: peak_rss_mb(),
        model,
    })
}

/// What may be learnt from: a picture that is measured on too would promote what was learnt by heart.
fn not_held_out<'a>(mut samples: Vec<Sample<'a>>, holdout: &[Sample]) -> Result<Vec<Sample<'a>>, TrainError> {
    let held: HashSet<[u8; 32]> = holdout.iter().map(|sample| sample.hash).collect();
    let before = samples.len();
    samples.retain(|sample| !held.contains(&sample.hash));
    let both = before - samples.len();
    if samples.iter().all(|sample| sample.example.labels.is_empty()) {
        return Err(TrainError::TooLittle(
            "every training picture with a box is in the hold-out as well; keep the two apart".into(),
        ));
    }
    if both > 0 {
        tracing::warn!("{both} training pictures are in the hold-out as well; they are not learnt from");
    }
    Ok(samples)
}

/// A candidate must be taken as a whole file, as its consumers take it, unless the runtime does not take
/// the base so either: tract knows no suppression inside a file.
fn loads_whole(
    base: &Export,
    candidate: &[u8],
    runtime: &dyn Runtime,
    options: &SessionOptions,
) -> Result<(), TrainError> {
    let Err(refusal) = runtime.load(candidate, options) else { return Ok(()) };
    match runtime.load(&base.model().encode(), options) {
        Ok(_) => Err(refusal.into()),
        Err(error) => {
            tracing::debug!("neither the base nor the candidate is taken whole: {error}");
            Ok(())
        }
    }
}

/// Every option within its range.
fn check(options: &TrainOptions) -> Result<(), TrainError> {
    let complain = |name: &str, value: String, range: &str| {
        Err(TrainError::Option(format!("{name} is {value}, but it must be {range}")))
    };
    if options.epochs == 0 {
        return complain("epochs", "0".into(), "at least 1");
    }
    if !(1..=MAX_BATCH).contains(&options.batch) {
        return complain("batch", options.batch.to_string(), &format!("from 1 to {MAX_BATCH}"));
    }
    if !(1..=MAX_VIEWS).contains(&options.views) {
        return complain("views", options.views.to_string(), &format!("from 1 to {MAX_VIEWS}"));
    }
    if !(options.lr > 0.0 && options.lr.is_finite()) {
        return complain("lr", options.lr.to_string(), "above 0");
    }
    if !(options.weight_decay >= 0.0 && options.weight_decay.is_finite()) {
        return complain("weight_decay", options.weight_decay.to_string(), "0 or more");
    }
    if !(0.0..1.0).contains(&options.replay) {
        return complain("replay", options.replay.to_string(), "from 0 to below 1");
    }
    match options.max_minutes {
        Some(minutes) if !(minutes > 0.0 && minutes < 1e6) => {
            complain("max_minutes", minutes.to_string(), "above 0")
        }
        _ => Ok(()),
    }
}

struct Run<'a> {
    shape: HeadShape,
    classes: &'a [String],
    head: Head,
    features: FeatureCache,
    views: Views,
    samples: Vec<Sample<'a>>,
    holdout: Vec<Sample<'a>>,
    /// Per sample, what is known of each class.
    coverage: Vec<Vec<Coverage>>,
    options: &'a TrainOptions,
    batch: usize,
    /// Of a batch, so many are samples; the rest comes from the memory.
    own: usize,
    replay: Option<Replay>,
    deadline: Option<Instant>,
}

/// A batch with the boxes of each picture, and what is known of each class on it.
type Composed = (Batch, Vec<Vec<LabelBox>>, Vec<Vec<Coverage>>);

/// The weights that a run keeps.
struct Kept {
    weights: Vec<f32>,
    epochs: u32,
}

impl Run<'_> {
    fn train(
        &mut self,
        on_event: &mut dyn FnMut(TrainEvent),
        cancel: &AtomicBool,
    ) -> Result<Kept, TrainError> {
        let criterion = Criterion::new(&self.shape, Gains::default(), Assigner::ONE_TO_MANY);
        let steps_per_epoch = self.samples.len().div_ceil(self.own);
        let course = Course::new(self.options, steps_per_epoch);
        let epochs = self.options.epochs;
        let started = Instant::now();
        let mut best: Option<(f64, u32, Vec<f32>)> = None;
        let mut reason = "all epochs are done".to_owned();
        let mut done = 0;
        for epoch in 1..=epochs {
            let epoch_started = Instant::now();
            let mut sum = Loss::default();
            let batches = self.batches(epoch);
            let mut random = ChaCha8Rng::seed_from_u64(
                self.options.seed.wrapping_mul(999_983).wrapping_add(u64::from(epoch)),
            );
            for (number, members) in batches.iter().enumerate() {
                if cancel.load(Ordering::Relaxed) {
                    return Err(TrainError::Cancelled);
                }
                let t = u64::from(epoch - 1) * steps_per_epoch as u64 + number as u64;
                let (batch, truth, coverage) = self.compose(members, &mut random)?;
                let (loss, gradient_norm) =
                    self.head.train(&batch, &truth, &coverage, &criterion, &course.at(t))?;
                // The criterion's polynomials take a NaN for a small number; the gradient shows it.
                if !loss.total().is_finite() || !gradient_norm.is_finite() {
                    return Err(TrainError::Diverged { epoch, lr: self.options.lr });
                }
                sum = sum + loss;
            }
            let seconds = epoch_started.elapsed().as_secs_f64();
            let evaluation = self.evaluate()?;
            let map50_95 = evaluation.map50_95.unwrap_or(0.0);
            done = epoch;
            let n_pictures = (steps_per_epoch * self.batch) as f64;
            let per_epoch = started.elapsed().as_secs_f64() / f64::from(epoch);
            on_event(TrainEvent::Epoch {
                epoch,
                epochs,
                loss: EpochLoss {
                    box_: sum.box_ / n_pictures,
                    cls: sum.cls / n_pictures,
                    dfl: sum.dfl / n_pictures,
                },
                lr: course.at(u64::from(epoch) * steps_per_epoch as u64 - 1).lr,
                map50: evaluation.map50.unwrap_or(0.0),
                map50_95,
                samples_per_second: n_pictures / seconds,
                seconds_left: per_epoch * f64::from(epochs - epoch),
            });
            // While nothing is found yet the latest is as good as any, and patience does not begin.
            if best.as_ref().is_none_or(|(value, ..)| map50_95 > *value || *value == 0.0) {
                best = Some((map50_95, epoch, self.head.averaged()));
            }
            let best_epoch = best.as_ref().map_or(epoch, |(_, epoch, _)| *epoch);
            if self.options.patience > 0 && epoch - best_epoch >= self.options.patience {
                reason = format!("the hold-out has not improved for {} epochs", self.options.patience);
                break;
            }
            if epoch < epochs && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                reason = "the time is spent".into();
                break;
            }
        }
        let (_, best_epoch, weights) = best.expect("there is at least one epoch");
        on_event(TrainEvent::Trained { epochs: done, best_epoch, reason });
        Ok(Kept { weights, epochs: done })
    }

    /// Features and truth of a batch: its members, then records of the memory.
    fn compose(&self, members: &[(usize, u32)], random: &mut ChaCha8Rng) -> Result<Composed, TrainError> {
        let own = |&(sample, view): &(usize, u32)| {
            (self.views.labels(&self.samples[sample], view), self.coverage[sample].clone())
        };
        let mut lessons: Vec<(Vec<LabelBox>, Vec<Coverage>)> = members.iter().map(own).collect();
        let mut records = Vec::new();
        if let Some(replay) = &self.replay {
            records = replay.sample(self.batch - self.own, random);
            lessons.extend(records.iter().map(|&record| replay.lesson(record).clone()));
        }
        let read = |index: usize, targets: &mut [&mut [f32]]| -> Result<(), TrainError> {
            match (members.get(index), &self.replay) {
                (Some(&(sample, view)), _) => {
                    self.features.read(&self.views.key(&self.samples[sample], view), targets);
                }
                (None, Some(replay)) => replay.read(records[index - members.len()], targets)?,
                (None, None) => {}
            }
            Ok(())
        };
        let batch = self.head.fill(lessons.len(), read)?;
        let (truth, coverage) = lessons.into_iter().unzip();
        Ok((batch, truth, coverage))
    }

    /// The batches of an epoch: each sample once, in an order of its own, each with another view than
    /// in the epoch before. The last batch is filled up from the start of the order.
    fn batches(&self, epoch: u32) -> Vec<Vec<(usize, u32)>> {
        let mut rng = ChaCha8Rng::seed_from_u64(
            self.options.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(epoch)),
        );
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        order.shuffle(&mut rng);
        let views = self.options.views as usize;
        let member = |index: usize| {
            let sample = order[index % order.len()];
            (sample, ((epoch as usize - 1 + sample) % views) as u32)
        };
        (0..order.len())
            .step_by(self.own)
            .map(|start| (start..start + self.own).map(member).collect())
            .collect()
    }

    /// The averaged weights on the hold-out, from cached features.
    fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        let mut evaluator = Evaluator::new(self.classes);
        for samples in self.holdout.chunks(self.batch) {
            let keys: Vec<FeatureKey> = samples.iter().map(|sample| self.views.key(sample, 0)).collect();
            let batch = self.head.read(&self.features, &keys);
            let shape = &self.shape;
            let found = self.head.maps(&batch, Weights::Averaged, |maps| {
                let keep = Keep::to_measure();
                (0..samples.len())
                    .map(|index| detections_of_maps(shape, maps, index, &keep))
                    .collect::<Vec<_>>()
            })?;
            for (sample, mut found) in samples.iter().zip(found) {
                let (width, height) = sample.picture;
                let sides = (height as usize, width as usize);
                let placed = Letterbox::plan(sides, shape.input, Fit::Exact, true);
                for detection in &mut found {
                    [detection.x1, detection.y1, detection.x2, detection.y2] =
                        placed.to_picture(detection.corners());
                }
                let truth: Vec<TruthBox> = sample
                    .example
                    .labels
                    .iter()
                    .map(|label| TruthBox { class: label.class, corners: label.to_pixels(width, height) })
                    .collect();
                evaluator.add(&found, &truth);
            }
        }
        Ok(evaluator.finish())
    }
}
