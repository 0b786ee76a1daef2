//! The head in training: its graphs, its weights, and cached features on their way through them.
//!
//! A batch goes through in parts of a few pictures, whose gradients add up: what a run holds in memory
//! is what a part needs, and the step is that of the whole batch all the same.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::grad::{Compiled, GradError, Optimizer, Schedule, Subgraph, compile_sparse};
use crate::label::LabelBox;
use crate::runtime::{Runtime, Session, SessionOptions, Value};
use crate::tensor::Tensor;
use crate::yolo::criterion::{Criterion, Sums};
use crate::yolo::cut::{Cut, MapSource, gradient_of};
use crate::yolo::distil::{Coverage, Partial};
use crate::yolo::maps::{MapGradients, RawMaps};

use super::TrainError;
use super::cache::{FeatureCache, FeatureKey};
use super::forward::{Forward, Maps, Places};

/// The stash of a part, at most, bytes. On the CPU larger parts are no faster, as long as an operator
/// has some hundred kilobytes to work on: a YOLO11n at 320 px takes 15.6 CPU-ms a picture forward and back in
/// parts of 2, 12.1 in parts of 4 and 12.5 in parts of 8, with 120, 144 and 184 MB (AMD EPYC).
const STASH_GOAL: usize = 16 << 20;

/// The head that a run trains.
pub(super) struct Head {
    forward: Forward,
    backward: Box<dyn Session>,
    update: Box<dyn Session>,
    compiled: Compiled,
    maps: Vec<(MapSource, MapSource)>,
    /// Shape of each feature for one picture, `[1, C, h, w]`.
    shapes: Vec<Vec<usize>>,
    /// Pictures that go through the graphs at once.
    part: usize,
    weights: Value,
    /// The weights that the run began with, which teach what no label says.
    teacher: Value,
    ema: Value,
    moments: Vec<Value>,
    /// For each weight, a factor of its learning rate.
    lr_scale: Value,
    /// The factor of what stands before the last layers, as `lr_scale` has it.
    before_last: f64,
    /// Steps taken.
    t: u64,
    /// Σ of the gradients of the parts since the last update.
    gradient_sum: Option<Value>,
    gradients: Option<MapGradients>,
}

/// All that training has changed: with it a head goes on as if it had never stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HeadState {
    weights: Vec<f32>,
    ema: Vec<f32>,
    moments: Vec<Vec<f32>>,
    t: u64,
}

/// Which weights answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// Those of the last step.
    Current,
    /// Their moving average, which is what a run keeps.
    Averaged,
}

impl Weights {
    fn of<'a>(self, current: &'a Value, averaged: &'a Value) -> &'a Value {
        match self {
            Weights::Current => current,
            Weights::Averaged => averaged,
        }
    }
}

/// Features of a part of a batch, as the head takes them.
pub(super) struct Batch {
    /// One tensor per feature, `[part, C, h, w]`.
    pub features: Vec<Value>,
}

/// How many pictures of a batch go through the graphs at once, when one of them has so many bytes of
/// stash: the largest divisor of the batch whose stash stays below 16 MiB, or 1.
pub fn part_size(batch: usize, stash_of_one: usize) -> usize {
    let fits = |part: &usize| batch.is_multiple_of(*part) && part * stash_of_one <= STASH_GOAL;
    (2..=batch).rev().find(fits).unwrap_or(1)
}

/// The graphs of a step. Boxes are learnt at the anchors that are assigned to an object alone, so gradients of
/// box maps are few rows, where the runtime can count them.
///
/// # Errors
/// When an operator of the head has no rule.
pub fn step_graphs(cut: &Cut, subgraph: &Subgraph, runtime: &dyn Runtime) -> Result<Compiled, GradError> {
    let box_map = |(boxes, _): &(MapSource, MapSource)| match *boxes {
        MapSource::Head(index) => Some(index),
        MapSource::Backbone(_) => None,
    };
    let sparse = match runtime.takes_any_length() {
        true => cut.maps.iter().filter_map(box_map).collect(),
        false => Vec::new(),
    };
    compile_sparse(subgraph, Optimizer::adamw(), &sparse)
}

impl Head {
    /// Compiles the head behind `cut` and loads its graphs. `shapes` are those of the backbone's outputs
    /// for one picture; the part is the largest divisor of `batch` whose stash is small enough.
    pub fn new(
        cut: &Cut,
        shapes: &[Vec<usize>],
        batch: usize,
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self, TrainError> {
        let subgraph = cut.subgraph(1, shapes);
        let mut compiled = step_graphs(cut, &subgraph, runtime)?;
        let part = part_size(batch, compiled.stash_bytes);
        tracing::debug!("parts of {part} pictures, {} KB of stash each", compiled.stash_bytes >> 10);
        if part > 1 {
            compiled = step_graphs(cut, &cut.subgraph(part, shapes), runtime)?;
        }
        let weights = compiled.layout.gather(&subgraph)?;
        let count = weights.len();
        let zeros = || Value::from(Tensor::zeros([count]));
        Ok(Head {
            forward: Forward::load(&compiled, &cut.maps, cut.n_head_inputs, part, runtime, options)?,
            backward: runtime.load(&compiled.backward.encode(), options)?,
            update: runtime.load(&compiled.update.encode(), options)?,
            moments: (0..compiled.optimizer.n_moments()).map(|_| zeros()).collect(),
            weights: Tensor::new([count], weights.clone()).into(),
            teacher: Tensor::new([count], weights.clone()).into(),
            ema: Tensor::new([count], weights).into(),
            lr_scale: Tensor::new([count], vec![1.0; count]).into(),
            before_last: 1.0,
            maps: cut.maps.clone(),
            shapes: shapes.to_vec(),
            part,
            compiled,
            t: 0,
            gradient_sum: None,
            gradients: None,
        })
    }

    /// The learning rate of all that stands before the `last` constants, as a factor of the schedule's.
    pub fn scale_before_last(&mut self, factor: f64, last: &HashSet<String>) {
        if factor == self.before_last {
            return;
        }
        let scale = self.compiled.layout.spread(|p| if last.contains(&p.name) { 1.0 } else { factor as f32 });
        self.lr_scale = Tensor::new([scale.len()], scale).into();
        self.before_last = factor;
    }

    /// Pictures that go through the graphs at once.
    pub fn part(&self) -> usize {
        self.part
    }

    /// A copy of all that training has changed.
    pub fn state(&self) -> HeadState {
        let copy = |value: &Value| value.data().to_vec();
        HeadState {
            weights: copy(&self.weights),
            ema: copy(&self.ema),
            moments: self.moments.iter().map(copy).collect(),
            t: self.t,
        }
    }

    /// Goes back to a state of the same head.
    ///
    /// # Panics
    /// When the state is that of another head.
    pub fn restore(&mut self, state: &HeadState) {
        let count = self.n_parameters();
        let value = |values: &[f32]| Value::from(Tensor::new([count], values.to_vec()));
        self.weights = value(&state.weights);
        self.ema = value(&state.ema);
        self.moments = state.moments.iter().map(|values| value(values)).collect();
        self.t = state.t;
        self.gradient_sum = None;
    }

    /// Trained numbers.
    pub fn n_parameters(&self) -> usize {
        self.compiled.layout.count()
    }

    /// Where each constant lies among the weights.
    pub fn layout(&self) -> &crate::grad::ParameterLayout {
        &self.compiled.layout
    }

    /// Per level, the shapes of the box map and the class map for one picture.
    pub fn map_shapes(&self) -> Vec<[Vec<usize>; 2]> {
        let shape = |source: &MapSource| match *source {
            MapSource::Backbone(index) => self.shapes[index].clone(),
            MapSource::Head(index) => {
                let mut shape = self.compiled.output_shapes[index].clone();
                shape[0] = 1;
                shape
            }
        };
        self.maps.iter().map(|(boxes, classes)| [shape(boxes), shape(classes)]).collect()
    }

    /// A copy of the averaged weights.
    pub fn averaged(&self) -> Vec<f32> {
        self.ema.data().to_vec()
    }

    /// Reads the features of a part. `keys` may be fewer than a part has: the rest stays zero.
    pub fn read(&self, cache: &FeatureCache, keys: &[FeatureKey]) -> Batch {
        let read = |index: usize, targets: &mut [&mut [f32]]| {
            cache.read(&keys[index], targets);
            Ok(())
        };
        self.fill(keys.len(), read).expect("reading from the map can't fail")
    }

    /// The part whose first `count` pictures `read` fills in, one slice per feature.
    pub fn fill(
        &self,
        count: usize,
        mut read: impl FnMut(usize, &mut [&mut [f32]]) -> Result<(), TrainError>,
    ) -> Result<Batch, TrainError> {
        let mut tensors: Vec<Tensor> = self
            .shapes
            .iter()
            .map(|shape| {
                let mut shape = shape.clone();
                shape[0] = self.part;
                Tensor::zeros(shape)
            })
            .collect();
        for index in 0..count {
            let mut targets: Vec<&mut [f32]> = tensors
                .iter_mut()
                .zip(&self.shapes)
                .map(|(tensor, shape)| {
                    let length: usize = shape.iter().product();
                    &mut tensor.data_mut()[index * length..][..length]
                })
                .collect();
            read(index, &mut targets)?;
        }
        Ok(Batch { features: tensors.into_iter().map(Value::from).collect() })
    }

    /// A part of pictures on which there is nothing.
    pub fn blank(&self) -> Batch {
        self.fill(0, |_, _| Ok(())).expect("nothing is read")
    }

    /// Whole raw maps of a part, handed to `use_maps`.
    pub fn maps<T>(
        &mut self,
        batch: &Batch,
        weights: Weights,
        use_maps: impl FnOnce(&RawMaps) -> T,
    ) -> Result<T, TrainError> {
        let weights = weights.of(&self.weights, &self.ema);
        let maps = self.forward.whole(&self.compiled, batch, weights)?;
        Ok(use_maps(&self.forward.raw(batch, &maps)))
    }

    /// Raw maps of a part whose boxes are there where `wanted` finds, by the class maps, that they matter.
    pub fn maps_where_likely<T>(
        &mut self,
        batch: &Batch,
        weights: Weights,
        wanted: impl FnOnce(&[&[f32]]) -> Places,
        use_maps: impl FnOnce(&RawMaps) -> T,
    ) -> Result<T, TrainError> {
        let weights = weights.of(&self.weights, &self.ema);
        let maps = self.forward.where_likely(&self.compiled, batch, weights, wanted)?;
        let used = use_maps(&self.forward.raw(batch, &maps));
        self.forward.take_back(maps);
        Ok(used)
    }

    /// Takes a part of a batch forward and back: its gradient is added to those of the parts before.
    /// `coverage` tells what is known of each class on each picture. Gives loss and target scores, both
    /// sums.
    pub fn accumulate(
        &mut self,
        batch: &Batch,
        truth: &[Vec<LabelBox>],
        coverage: &[Vec<Coverage>],
        criterion: &Criterion,
    ) -> Result<Sums, TrainError> {
        // First, and its stash is dropped at once, so that no two lie in memory.
        let teachers = self.teacher_maps(batch, coverage, criterion)?;
        let teacher = teachers.as_ref().map(|maps| self.forward.raw(batch, maps));
        let partial = Partial { coverage, teacher: teacher.as_ref() };
        let places = criterion.box_places(truth, Some(&partial));
        let maps = self.forward.at(&self.compiled, batch, &self.weights, &places)?;
        let mut gradients = self.gradients.take().unwrap_or_else(|| criterion.gradients(self.part));
        let raw = self.forward.raw(batch, &maps);
        let sums = criterion.partial_sums(&raw, truth, Some(&partial), &mut gradients);
        let map_gradients = self.gradient_inputs(&gradients);
        let so_far =
            self.gradient_sum.take().unwrap_or_else(|| Tensor::zeros([self.compiled.layout.count()]).into());
        // In the order that `Compiled` documents.
        let inputs: Vec<&Value> = maps
            .stash()
            .iter()
            .chain(self.compiled.inputs_read.iter().map(|&index| &batch.features[index]))
            .chain(&map_gradients)
            .chain([&self.weights, &so_far])
            .collect();
        self.gradient_sum = self.backward.run(&inputs)?.pop();
        self.gradients = Some(gradients);
        self.forward.take_back(maps);
        Ok(sums)
    }

    /// Steps along the gradients that were accumulated, each times `scale`. Gives the norm of that before
    /// clipping.
    pub fn update(&mut self, scale: f64, schedule: &Schedule) -> Result<f32, TrainError> {
        let gradient = self.gradient_sum.take().expect("a part has been accumulated");
        self.t += 1;
        let scalar = |value: f32| Value::from(Tensor::scalar(value));
        let scalars: Vec<Value> =
            self.compiled.optimizer.scalars(schedule, self.t).into_iter().map(scalar).collect();
        let scale = scalar(scale as f32);
        let inputs: Vec<&Value> = [&self.weights, &gradient, &scale, &self.ema]
            .into_iter()
            .chain(&self.moments)
            .chain([&self.lr_scale])
            .chain(&scalars)
            .collect();
        let mut results = self.update.run(&inputs)?.into_iter();
        let mut next = || results.next().expect("the update graph has an output for each state");
        self.weights = next();
        self.ema = next();
        for moment in &mut self.moments {
            *moment = next();
        }
        Ok(next().data()[0])
    }

    /// What the teacher puts out, when there is a class to be taught.
    fn teacher_maps(
        &mut self,
        batch: &Batch,
        coverage: &[Vec<Coverage>],
        criterion: &Criterion,
    ) -> Result<Option<Maps>, TrainError> {
        if !coverage.iter().flatten().any(|&coverage| coverage == Coverage::Taught) {
            return Ok(None);
        }
        let seen = |classes: &[&[f32]]| criterion.teacher_places(classes);
        let maps = self.forward.where_likely(&self.compiled, batch, &self.teacher, seen)?;
        Ok(Some(maps.without_stash()))
    }

    /// The criterion's gradients as the way back takes them.
    fn gradient_inputs(&self, gradients: &MapGradients) -> Vec<Value> {
        let of = |output: usize| {
            gradient_of(&self.maps, gradients, output).expect("every output of the head is a raw map")
        };
        self.compiled.gradient_inputs(of).into_iter().map(Value::from).collect()
    }
}

#[cfg(all(test, feature = "ort"))]
mod tests {
    use super::*;
    use crate::runtime::{self, RuntimeChoice, RuntimeError, RuntimeKind};
    use crate::yolo::assign::Assigner;
    use crate::yolo::backbone::{Backbone, head_shape};
    use crate::yolo::criterion::Gains;
    use crate::yolo::cut;
    use crate::yolo::export::Export;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A runtime that wants every length beforehand.
    struct Fixed<'a>(&'a dyn Runtime);

    impl Runtime for Fixed<'_> {
        fn name(&self) -> &'static str {
            self.0.name()
        }

        fn describe(&self) -> String {
            self.0.describe()
        }

        fn takes_any_length(&self) -> bool {
            false
        }

        fn load(&self, model: &[u8], options: &SessionOptions) -> Result<Box<dyn Session>, RuntimeError> {
            self.0.load(model, options)
        }
    }

    /// The boxes of two pictures: few on the first, and on the second `many` over all of it.
    fn truth(many: bool) -> Vec<Vec<LabelBox>> {
        let label = |cx, cy, side| LabelBox { class: 0, cx, cy, w: side, h: side };
        let whole = if many { 1.0 } else { 0.1 };
        vec![vec![label(0.2, 0.3, 0.1), label(0.95, 0.5, 0.2)], vec![label(0.5, 0.5, whole)]]
    }

    #[test]
    fn a_step_by_rows_is_the_step_by_whole_maps() {
        let choice = RuntimeChoice { kind: RuntimeKind::Ort, library: None };
        let runtime = runtime::open(&choice).expect("ONNX Runtime");
        let options = SessionOptions { threads: 1 };
        for name in ["yolo11n", "yolov8n", "yolo26n"] {
            let path = format!("tests/data/goldens/exports/{name}.onnx");
            let export = Export::read(path.as_ref()).expect("an export");
            let size = export.input.size;
            let cut = Cut::new(&export, &cut::whole_head, size).expect("a head");
            let backbone = Backbone::load(&export, &cut, size, &*runtime, &options).expect("a backbone");
            let shape = head_shape(&export, size);
            let criterion = Criterion::new(&shape, Gains::default(), Assigner::for_head(&shape));
            for (many, taught) in [(false, false), (false, true), (true, false)] {
                let step = |runtime: &dyn Runtime| {
                    let mut head = Head::new(&cut, backbone.shapes(), 2, runtime, &options).expect("a head");
                    let mut random = ChaCha8Rng::seed_from_u64(4);
                    let batch = head.fill(2, |_, targets| {
                        let values = targets.iter_mut().flat_map(|target| target.iter_mut());
                        values.for_each(|value| *value = random.random_range(-0.5..2.0));
                        Ok(())
                    });
                    let batch = batch.expect("nothing is read");
                    let mut coverage = vec![vec![Coverage::Labelled; shape.classes]; 2];
                    if taught {
                        coverage[0][0] = Coverage::Taught;
                    }
                    let sums = head.accumulate(&batch, &truth(many), &coverage, &criterion).expect("a step");
                    assert_eq!(head.compiled.forward_at.is_some(), runtime.takes_any_length());
                    (sums, head.gradient_sum.expect("a gradient").data().to_vec())
                };
                let ((expected, whole), (found, rows)) = (step(&Fixed(&*runtime)), step(&*runtime));
                let (expected, found) = (expected.loss.total(), found.loss.total());
                assert!((found - expected).abs() <= 1e-5 * expected, "{name}: {found}, {expected} by maps");
                let largest = whole.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                for (rows, whole) in rows.iter().zip(&whole) {
                    assert!((rows - whole).abs() <= 1e-5 * largest, "{name}: {rows}, {whole} by maps");
                }
            }
        }
    }
}
