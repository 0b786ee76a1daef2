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

use super::cache::{FeatureKey, hash, prune_beside};
use super::checkpoint::Checkpoint;
use super::control::Control;
use super::coverage::{Distill, coverage, covered_classes, covered_on};
use super::epochs::Epochs;
use super::event::TrainEvent;
use super::features::{Sample, Views, cache_folder, extract, open_cache};
use super::gate::{Verdict, judge};
use super::memory::Memory;
use super::options::{MAX_BATCH, MAX_VIEWS, Rate, TrainOptions};
use super::plan::Plan;
use super::prepare::{Prepared, Work, prepare};
use super::replay::{Replay, candidates};
use super::resources::{cpu_seconds, peak_rss_mb};
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
    check(options)?;
    let folders = folders.into();
    let started = Instant::now();
    let cpu_started = cpu_seconds();
    let export = Export::read(base).map_err(|source| TrainError::Base { path: base.to_owned(), source })?;
    let (classes, set) = options.classes.apply(&export.classes, set.clone())?;
    if set.train.iter().all(|example| example.labels.is_empty()) {
        return Err(TrainError::TooLittle("no training picture has a box; label some first".into()));
    }
    if set.holdout.iter().all(|example| example.labels.is_empty()) {
        return Err(TrainError::TooLittle("no hold-out picture has a box; label some first".into()));
    }
    let size = input_size(&export, options.imgsz).map_err(TrainError::Option)?;
    let session_options = SessionOptions { threads: options.threads };
    // With its new classes, of which it knows nothing yet: that is what the candidate must be better than.
    let export = if classes.is_what(&export.classes) {
        export
    } else {
        with_classes(&export, &classes, size)
            .and_then(|grown| {
                verify(&export, &grown, &classes, size, runtime, &session_options).map(|()| grown)
            })
            .map_err(|source| TrainError::Base { path: base.to_owned(), source })?
    };
    let mut holdout = Sample::look_at(&set.holdout)?;
    let mut samples = not_held_out(Sample::look_at(&set.train)?, &holdout)?;

    let last = export
        .convs
        .iter()
        .filter(|conv| export.is_last(conv))
        .flat_map(|conv| export.parameters(conv).map(str::to_owned))
        .collect();
    let work = Work {
        samples: samples.len(),
        boxes: samples.iter().map(|sample| sample.example.labels.len()).sum(),
        holdout: holdout.len(),
    };
    let Prepared { scope, cut, mut backbone, head } =
        prepare(&export, size, options, work, runtime, on_event)?;
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
    let identity = identity(&export, &samples, &holdout, replay.as_ref(), options, runtime);
    let checkpoint = Checkpoint::new(folders.cache, identity);
    let folder = cache_folder(folders.cache, &backbone_hash, &backbone);
    let mut features = open_cache(&folder, &backbone)?;
    let capacity = features.capacity(options.cache_mb << 20);
    let plan = Plan::new(&samples, holdout.len(), options.views, capacity, options.seed)
        .ok_or_else(|| features.too_small(capacity))?;
    if let Some(left_out) = plan.leaves_out(samples.len(), options.views, holdout.len()) {
        tracing::warn!("the features of all views take more than cache_mb or the disk allow: {left_out}");
        on_event(TrainEvent::Reduced { reason: left_out });
    }
    let mut taken = plan.samples.iter().copied().peekable();
    let mut index = 0..samples.len();
    let batch = options.batch.min(samples.len());
    samples.retain(|_| index.next().is_some_and(|index| taken.next_if_eq(&index).is_some()));
    holdout.truncate(plan.holdout);
    on_event(TrainEvent::Started {
        scope,
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
    if taught > 0 {
        tracing::info!(
            "{taught} of {} samples are not labelled for every class that the base knows: it teaches the others",
            samples.len()
        );
    }
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
        last,
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
    loads_whole(&export, &model, runtime, &session_options)?;
    let candidate =
        Export::new(candidate).map_err(|source| TrainError::Base { path: base.to_owned(), source })?;
    // Both are measured as files, end to end, so that the figures are those of `graftd eval`.
    let measure = |export: &Export| -> Result<Measurement, TrainError> {
        Ok(Detector::new(export, options.imgsz, runtime, &session_options)?.measure(&set.holdout, |_| {})?)
    };
    let (before, after) = (measure(&export)?, measure(&candidate)?);
    let verdict = judge(&before, &after, options.gate_confidence);
    if let Some(mut replay) = replay.filter(|_| verdict.promoted) {
        let (records, shown) = candidates(&samples, &views, plan.views, &export.classes, &covered);
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
        before: before.evaluation(),
        after: after.evaluation(),
        epochs: kept.epochs,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu_started,
        peak_rss_mb: peak_rss_mb(),
        model,
    })
}

/// A hash of all that decides what a run ends with. How long it may take and how many threads it has do
/// not: a run may be taken up with more time.
fn identity(
    export: &Export,
    samples: &[Sample],
    holdout: &[Sample],
    replay: Option<&Replay>,
    options: &TrainOptions,
    runtime: &dyn Runtime,
) -> FeatureKey {
    let options = TrainOptions { max_minutes: None, threads: 0, ..options.clone() };
    let sets: Vec<Vec<u8>> = [samples, holdout]
        .iter()
        .map(|set| {
            set.iter()
                .flat_map(|sample| {
                    let labels = serde_json::to_vec(&(&sample.example.labels, &sample.example.covers))
                        .expect("labels can be written");
                    [&sample.hash[..], &hash(&[&labels])].concat()
                })
                .collect()
        })
        .collect();
    hash(&[
        env!("CARGO_PKG_VERSION").as_bytes(),
        &export.model().encode(),
        &sets[0],
        &sets[1],
        &replay.map_or(Vec::new(), Replay::identity),
        &serde_json::to_vec(&options).expect("options can be written"),
        runtime.name().as_bytes(),
    ])
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
    if let Rate::Fixed(lr) = options.lr
        && !(lr > 0.0 && lr.is_finite())
    {
        return complain("lr", lr.to_string(), "above 0, or auto");
    }
    if !(0.0..=1.0).contains(&options.lr_before_last) {
        return complain("lr_before_last", options.lr_before_last.to_string(), "from 0 to 1");
    }
    if !(options.weight_decay >= 0.0 && options.weight_decay.is_finite()) {
        return complain("weight_decay", options.weight_decay.to_string(), "0 or more");
    }
    if !(0.0..=1.0).contains(&options.mosaic) {
        return complain("mosaic", options.mosaic.to_string(), "from 0 to 1");
    }
    if !(0.0..1.0).contains(&options.gate_confidence) {
        let range = "from 0 to below 1 (no number of pictures makes sure)";
        return complain("gate_confidence", options.gate_confidence.to_string(), range);
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
