//! One fine-tuning: from a base and labelled pictures to a drop-in and a verdict.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::detect::Detector;
use crate::runtime::{Runtime, SessionOptions};
use crate::yolo::backbone::{head_shape, input_size};
use crate::yolo::distil::{Coverage, known_classes};
use crate::yolo::export::Export;
use crate::yolo::graft::graft;
use crate::yolo::grow::{verify, with_classes};
use crate::yolo::metrics::{Evaluation, Measurement};

use super::apart::Apart;
use super::cache::{FeatureKey, folder_name, hash, prune_beside, sweep_beside};
use super::checkpoint::Checkpoint;
use super::control::Control;
use super::coverage::{Distill, coverage, covered_classes, covered_on};
use super::epochs::Epochs;
use super::event::TrainEvent;
use super::features::{Sample, Views, extract, open_cache};
use super::gate::{Verdict, judge};
use super::memory::Memory;
use super::options::TrainOptions;
use super::plan::Plan;
use super::prepare::{Prepared, Work, prepare};
use super::replay::Replay;
use super::resources::{cpu_seconds, peak_rss_mb};
use super::thumbnails::Thumbnails;
use super::{TrainError, TrainingSet};

/// What a run ends with.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The base on the hold-out.
    pub before: Evaluation,
    /// The candidate on the hold-out.
    pub after: Evaluation,
    /// Training pictures that were left out because the hold-out has them too, or nearly the same.
    pub left_out: usize,
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
    /// Features of this run's samples and the checkpoint; may be deleted at any time between runs.
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
/// enter the memory, if there is one. `on_event` is told what goes on; through
/// `control` the run is paused or cancelled.
///
/// A run that was killed goes on from its last epoch when it is started again with the same arguments and
/// the same cache, and ends with the same weights as if nothing had happened, on the same runtime and
/// number of threads. The checkpoint stays until [`forget_checkpoint`](super::forget_checkpoint) is called:
/// when what the run brought is safe.
///
/// # Errors
/// [`TrainError`]; nothing but the cache has been written then.
pub fn fine_tune<'a>(
    base: &Path,
    set: &TrainingSet,
    options: &TrainOptions,
    runtime: &dyn Runtime,
    folders: impl Into<Folders<'a>>,
    on_event: &mut (dyn FnMut(TrainEvent) + Send),
    control: &Control,
) -> Result<Outcome, TrainError> {
    options.check()?;
    let folders = folders.into();
    let started = Instant::now();
    let cpu_started = cpu_seconds();
    let session = SessionOptions { threads: options.threads };
    let Task { export, set, size } = Task::read(base, set, options, runtime, &session)?;
    let mut holdout = Sample::look_at(&set.holdout)?;
    let mut thumbnails = Thumbnails::open(folders.cache);
    let apart = Apart::new(Sample::look_at(&set.train)?, &holdout, &mut thumbnails, control)?;
    drop(thumbnails);
    let left_out = apart.same + apart.alike;
    if let Some(reason) = apart.left_out() {
        on_event(TrainEvent::LeftOut { samples: left_out, reason });
    }
    let mut samples = apart.samples;
    let work = Work {
        samples: samples.len(),
        boxes: samples.iter().map(|sample| sample.example.labels.len()).sum(),
        holdout: holdout.len(),
    };
    let Prepared { scope, cut, mut backbone, head } =
        prepare(&export, size, options, work, runtime, on_event)?;
    let batch = options.batch.min(samples.len());

    let backbone_hash = hash(&[&cut.backbone.encode()]);
    let folder = folders.cache.join(folder_name(&backbone_hash, size));
    let mut features = open_cache(&folder, &backbone)?;
    if let Err(error) = sweep_beside(&folder) {
        tracing::warn!("what a killed run left in {} can't be deleted: {error}", folders.cache.display());
    }
    let capacity = features.capacity(options.cache_mb << 20);
    let plan = Plan::new(&samples, holdout.len(), options.views, capacity, options.seed)
        .ok_or_else(|| features.too_small(capacity))?;
    if let Some(left_out) = plan.leaves_out(samples.len(), options.views, holdout.len()) {
        on_event(TrainEvent::Reduced { reason: left_out });
    }
    let known = match options.distill {
        Distill::Auto => known_classes(&export)?,
        // Without a teacher nobody knows what is not labelled.
        Distill::Off => vec![false; export.classes.len()],
    };
    let replay = match folders.memory {
        None => None,
        Some(root) => {
            let budget = options.memory_mb << 20;
            let memory = Memory::open(root, &backbone_hash, size, backbone.shapes(), budget)?;
            let seen = samples.iter().chain(&holdout).map(|sample| sample.hash).collect();
            Some(Replay::new(memory, &seen, &export.classes, &known))
        }
    };
    plan.apply(&mut samples, &mut holdout);
    let run = Identity {
        export: &export,
        sets: [&samples, &holdout],
        views: plan.views,
        backbone: &backbone_hash,
        replay: replay.as_ref(),
        options,
        runtime,
    };
    let checkpoint = Checkpoint::new(folders.cache, run.hash());
    on_event(TrainEvent::Started {
        scope,
        samples: samples.len(),
        holdout: holdout.len(),
        epochs: options.epochs,
        parameters: head.n_parameters(),
        runtime: runtime.name().to_owned(),
    });

    let (covered, coverage) = lessons(&set, &samples, &export.classes, &known, options.distill);
    let views = Views::new(options, size, &samples);
    let plain = holdout.iter().map(|sample| (sample, 0));
    let varied = samples.iter().flat_map(|sample| (0..plan.views).map(move |view| (sample, view)));
    let wanted: Vec<(&Sample, u32)> = plain.chain(varied).collect();
    let keys: HashSet<FeatureKey> = wanted.iter().map(|(sample, view)| views.key(sample, *view)).collect();
    features.make_room(&keys, capacity)?;
    let others = (options.cache_mb << 20).saturating_sub(features.record_bytes() * keys.len() as u64);
    if let Err(error) = prune_beside(&folder, others) {
        tracing::warn!("old features beside {} can't be deleted: {error}", folder.display());
    }
    let mut told = |done, total| on_event(TrainEvent::Features { done, total });
    extract(&mut features, &mut backbone, &views, &wanted, &mut told, control)?;
    // The backbone is done; its memory is better spent elsewhere.
    drop(backbone);

    let mut epochs = Epochs {
        shape: head_shape(&export, size),
        classes: &export.classes,
        head,
        last: last_parameters(&export),
        features,
        views,
        views_per_sample: plan.views,
        samples,
        holdout,
        options,
        batch,
        coverage,
        replay,
        checkpoint,
        control,
        time: options.max_minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
    };
    let kept = epochs.train(on_event)?;
    let layout = epochs.head.layout().clone();
    let Epochs { head, features, samples, replay, views, .. } = epochs;
    drop(head);

    let candidate = graft(&export, &layout, &kept.weights)?;
    let model = candidate.encode();
    loads_whole(&export, &model, runtime, &session)?;
    let candidate =
        Export::new(candidate).map_err(|source| TrainError::Base { path: base.to_owned(), source })?;
    // Both are measured as files, end to end, so that the figures are those of `graftd eval`.
    let measure = |export: &Export| -> Result<Measurement, TrainError> {
        Ok(Detector::new(export, options.imgsz, runtime, &session)?.measure(&set.holdout, |_| {})?)
    };
    let (before, after) = (measure(&export)?, measure(&candidate)?);
    let verdict = judge(&before, &after, options.gate_confidence);
    if let Some(mut replay) = replay.filter(|_| verdict.promoted) {
        replay.remember(&samples, &views, plan.views, &export.classes, &covered, &features, options.seed);
    }
    Ok(Outcome {
        verdict,
        before: before.evaluation(),
        after: after.evaluation(),
        left_out,
        epochs: kept.epochs,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu_started,
        peak_rss_mb: peak_rss_mb(),
        model,
    })
}

/// What a run is to do: the base with the classes that it shall have, and examples whose labels count in
/// them.
struct Task {
    export: Export,
    set: TrainingSet,
    size: (usize, usize),
}

impl Task {
    fn read(
        base: &Path,
        set: &TrainingSet,
        options: &TrainOptions,
        runtime: &dyn Runtime,
        session: &SessionOptions,
    ) -> Result<Self, TrainError> {
        let fail = |source| TrainError::Base { path: base.to_owned(), source };
        let export = Export::read(base).map_err(fail)?;
        let (classes, set) = options.classes.apply(&export.classes, set.clone())?;
        for (examples, which) in [(&set.train, "training"), (&set.holdout, "hold-out")] {
            if examples.iter().all(|example| example.labels.is_empty()) {
                return Err(TrainError::TooLittle(format!("no {which} picture has a box; label some first")));
            }
        }
        let size = input_size(&export, options.imgsz).map_err(TrainError::Option)?;
        if classes.is_what(&export.classes) {
            return Ok(Task { export, set, size });
        }
        // With its new classes, of which it knows nothing yet: the candidate must be better than that.
        let grown = with_classes(&export, &classes, size).map_err(fail)?;
        verify(&export, &grown, &classes, size, runtime, session).map_err(fail)?;
        Ok(Task { export: grown, set, size })
    }
}

/// Constants of the last convolution of each branch and level.
fn last_parameters(export: &Export) -> HashSet<String> {
    let last = export.convs.iter().filter(|conv| export.is_last(conv));
    last.flat_map(|conv| export.parameters(conv)).map(str::to_owned).collect()
}

/// Of each sample which classes it was labelled for, and what is known of each class on it.
fn lessons(
    set: &TrainingSet,
    samples: &[Sample],
    classes: &[String],
    known: &[bool],
    distill: Distill,
) -> (Vec<Vec<bool>>, Vec<Vec<Coverage>>) {
    let by_rule = covered_classes(&set.train, classes.len());
    let covered: Vec<Vec<bool>> =
        samples.iter().map(|sample| covered_on(sample.example, classes, &by_rule)).collect();
    let lesson = |covered: &Vec<bool>| match distill {
        Distill::Auto => coverage(covered, known),
        Distill::Off => vec![Coverage::Labelled; covered.len()],
    };
    let coverage: Vec<Vec<Coverage>> = covered.iter().map(lesson).collect();
    let taught = coverage.iter().filter(|coverage| coverage.contains(&Coverage::Taught)).count();
    if taught > 0 {
        tracing::info!(
            "{taught} of {} samples are not labelled for every class that the base knows: it teaches the others",
            samples.len()
        );
    }
    (covered, coverage)
}

/// All that decides what a run ends with. How long it may take and how many threads it has do not: a run
/// may be taken up with more time.
struct Identity<'a> {
    export: &'a Export,
    /// What is learnt from, what epochs are measured on.
    sets: [&'a [Sample<'a>]; 2],
    views: u32,
    /// Tells the scope and the input size too.
    backbone: &'a FeatureKey,
    replay: Option<&'a Replay>,
    options: &'a TrainOptions,
    runtime: &'a dyn Runtime,
}

impl Identity<'_> {
    fn hash(&self) -> FeatureKey {
        let options = TrainOptions { max_minutes: None, threads: 0, ..self.options.clone() };
        let told = |sample: &Sample| {
            let labels = (&sample.example.labels, &sample.example.covers);
            let labels = serde_json::to_vec(&labels).expect("labels can be written");
            [&sample.hash[..], &hash(&[&labels])].concat()
        };
        let [learnt, measured] = self.sets.map(|set| set.iter().flat_map(told).collect::<Vec<u8>>());
        hash(&[
            env!("CARGO_PKG_VERSION").as_bytes(),
            &self.export.model().encode(),
            &learnt,
            &measured,
            &self.views.to_le_bytes(),
            self.backbone,
            &self.replay.map_or(Vec::new(), Replay::identity),
            &serde_json::to_vec(&options).expect("options can be written"),
            self.runtime.name().as_bytes(),
        ])
    }
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
