//! Gets a scope ready: the cut, the backbone, the head, and whether they fit the device.
//!
//! `auto` takes the whole head, unless
//!
//! 1. fewer than ten boxes are labelled: then the last layer alone, which has the least to get wrong;
//! 2. the process would hold more than `max_memory_mb`: then the class branch, then the last layer;
//! 3. the run would take longer than `max_minutes`: likewise.
//!
//! Memory and time are not estimated from sizes but measured: a part goes forward and back once on this
//! device. A scope that was asked for by name is not changed; it is refused when it does not fit.

use std::time::Instant;

use crate::label::LabelBox;
use crate::runtime::{Runtime, SessionOptions};
use crate::tensor::Tensor;
use crate::yolo::assign::Assigner;
use crate::yolo::backbone::{Backbone, head_shape};
use crate::yolo::criterion::{Criterion, Gains};
use crate::yolo::cut::Cut;
use crate::yolo::distil::Coverage;
use crate::yolo::export::Export;

use super::TrainError;
use super::event::TrainEvent;
use super::forward::are_few;
use super::head::{Head, Weights};
use super::options::{Scope, ScopeChoice, TrainOptions};
use super::resources::rss_mb;

/// Fewer boxes train the last layer alone.
const FEW_BOXES: usize = 10;

/// A scope that is ready to be trained.
pub(super) struct Prepared {
    pub scope: Scope,
    pub cut: Cut,
    pub backbone: Backbone,
    pub head: Head,
}

/// What a run has to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Samples to learn from.
    pub samples: usize,
    /// Boxes on them.
    pub boxes: usize,
    /// Samples to measure on after each epoch.
    pub holdout: usize,
}

/// What a part took on this device.
struct Trial {
    /// Memory of the process after it, MB.
    memory_mb: Option<f64>,
    /// Seconds for a picture: through the backbone, through the head, through the head and back.
    seconds: [f64; 3],
}

/// Gets the scope ready that the options name, or the largest that fits.
pub(super) fn prepare(
    export: &Export,
    size: (usize, usize),
    options: &TrainOptions,
    work: Work,
    runtime: &dyn Runtime,
    on_event: &mut dyn FnMut(TrainEvent),
) -> Result<Prepared, TrainError> {
    let load = Load { export, size, options, work, runtime };
    let mut chosen = |scope: Scope, reason: String| {
        on_event(TrainEvent::Chosen { what: "scope".into(), value: scope.to_string(), reason });
    };
    if let ScopeChoice::Fixed(scope) = options.scope {
        let mut prepared = load.scope(scope)?;
        if options.max_memory_mb.is_some() {
            let trial = load.try_out(&mut prepared)?;
            load.check_memory(&trial).map_err(|reason| {
                TrainError::Option(format!(
                    "scope {scope}: {reason}; choose a smaller scope or imgsz, or a higher limit"
                ))
            })?;
        }
        return Ok(prepared);
    }
    if work.boxes < FEW_BOXES {
        chosen(Scope::Last, format!("only {} boxes are labelled", work.boxes));
        return load.scope(Scope::Last);
    }
    let mut reasons = Vec::new();
    for scope in [Scope::Head, Scope::Cls] {
        let mut prepared = load.scope(scope)?;
        let is_limited = options.max_memory_mb.is_some() || options.max_minutes.is_some();
        let fits = match is_limited {
            true => load.try_out(&mut prepared).map(|trial| load.check(&trial))?,
            false => Ok(()),
        };
        match fits {
            Ok(()) => {
                let best = "it learns the most, and fits the device".to_owned();
                chosen(scope, if reasons.is_empty() { best } else { reasons.join("; ") });
                return Ok(prepared);
            }
            Err(reason) => reasons.push(format!("{scope}: {reason}")),
        }
    }
    let mut prepared = load.scope(Scope::Last)?;
    let trial = load.try_out(&mut prepared)?;
    load.check_memory(&trial).map_err(|reason| {
        TrainError::Option(format!("even scope last: {reason}; take a smaller imgsz, or a higher limit"))
    })?;
    chosen(Scope::Last, reasons.join("; "));
    Ok(prepared)
}

struct Load<'a> {
    export: &'a Export,
    size: (usize, usize),
    options: &'a TrainOptions,
    work: Work,
    runtime: &'a dyn Runtime,
}

impl Load<'_> {
    fn scope(&self, scope: Scope) -> Result<Prepared, TrainError> {
        let session = SessionOptions { threads: self.options.threads };
        let cut = Cut::new(self.export, scope.chooses(), self.size)?;
        let backbone = Backbone::load(self.export, &cut, self.size, self.runtime, &session)?;
        let batch = self.options.batch.min(self.work.samples);
        let head = Head::new(&cut, backbone.shapes(), batch, self.runtime, &session)?;
        head_shape(self.export, self.size).check(head.map_shapes()).map_err(TrainError::Option)?;
        Ok(Prepared { scope, cut, backbone, head })
    }

    /// Takes a part of blank pictures, full of objects, forward and back, twice: the first time is not like the
    /// others. What boxes cost depends on how many there are.
    fn try_out(&self, prepared: &mut Prepared) -> Result<Trial, TrainError> {
        let Prepared { backbone, head, .. } = prepared;
        let shape = head_shape(self.export, self.size);
        let criterion = Criterion::new(&shape, Gains::default(), Assigner::for_head(&shape));
        let start = head.state();
        let full = vec![full_of_objects(); head.part()];
        debug_assert!(are_few(&criterion.box_places(&full, None)));
        let labelled = vec![vec![Coverage::Labelled; shape.classes]; head.part()];
        let mut seconds = [0.0; 3];
        for _ in 0..2 {
            let batch = head.blank();
            let pictures = Tensor::zeros([backbone.batch(), 3, self.size.0, self.size.1]);
            let started = Instant::now();
            backbone.run(pictures)?;
            seconds[0] = started.elapsed().as_secs_f64() / backbone.batch() as f64;
            let started = Instant::now();
            head.maps(&batch, Weights::Current, |_| ())?;
            seconds[1] = started.elapsed().as_secs_f64() / head.part() as f64;
            let started = Instant::now();
            head.accumulate(&batch, &full, &labelled, &criterion)?;
            seconds[2] = started.elapsed().as_secs_f64() / head.part() as f64;
        }
        head.restore(&start);
        Ok(Trial { memory_mb: rss_mb(), seconds })
    }

    fn check(&self, trial: &Trial) -> Result<(), String> {
        self.check_memory(trial)?;
        let Some(limit) = self.options.max_minutes else { return Ok(()) };
        let (samples, holdout) = (self.work.samples as f64, self.work.holdout as f64);
        let [backbone, forward, step] = trial.seconds;
        let features = backbone * (samples * f64::from(self.options.views) + holdout);
        let epoch = step * samples + forward * holdout;
        let minutes = (features + f64::from(self.options.epochs) * epoch) / 60.0;
        if minutes > limit {
            return Err(format!("it would take about {minutes:.1} minutes, and max_minutes is {limit}"));
        }
        Ok(())
    }

    fn check_memory(&self, trial: &Trial) -> Result<(), String> {
        match self.options.max_memory_mb.zip(trial.memory_mb) {
            Some((limit, memory)) if memory > limit as f64 => {
                Err(format!("the process would hold {memory:.0} MB, and max_memory_mb is {limit}"))
            }
            _ => Ok(()),
        }
    }
}

/// Sixteen objects: more than most pictures show, on few enough anchors that a step makes boxes there alone, as
/// most steps do.
fn full_of_objects() -> Vec<LabelBox> {
    let centre = |index: u32| (index as f32 + 0.5) / 4.0;
    let object =
        |index: u32| LabelBox { class: 0, cx: centre(index % 4), cy: centre(index / 4), w: 0.15, h: 0.15 };
    (0..16).map(object).collect()
}
