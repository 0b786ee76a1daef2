//! The head in training: its two graphs, its weights, and batches of cached features.

use std::collections::HashSet;

use crate::grad::{Compiled, Optimizer, Schedule, compile};
use crate::label::LabelBox;
use crate::runtime::{Runtime, Session, SessionOptions, Value};
use crate::tensor::Tensor;
use crate::yolo::criterion::{Criterion, Loss};
use crate::yolo::cut::{Cut, MapSource};
use crate::yolo::maps::{MapGradients, RawMaps};

use super::TrainError;
use super::cache::{FeatureCache, FeatureKey};

/// The head that a run trains.
pub(super) struct Head {
    forward: Box<dyn Session>,
    step: Box<dyn Session>,
    compiled: Compiled,
    maps: Vec<(MapSource, MapSource)>,
    n_head_inputs: usize,
    /// Shape of each feature for one picture, `[1, C, h, w]`.
    shapes: Vec<Vec<usize>>,
    batch: usize,
    weights: Value,
    ema: Value,
    moments: Vec<Value>,
    /// For each weight, a factor of its learning rate.
    lr_scale: Value,
    /// The factor of what stands before the last layers, as `lr_scale` has it.
    before_last: f64,
    /// Steps taken.
    t: u64,
    gradients: Option<MapGradients>,
}

/// Which weights answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// Those of the last step.
    Current,
    /// Their moving average, which is what a run keeps.
    Averaged,
}

/// Features of a batch, as the head takes them.
pub(super) struct Batch {
    /// One tensor per feature, `[batch, C, h, w]`.
    features: Vec<Value>,
}

impl Head {
    /// Compiles the head behind `cut` for batches of this size and loads both graphs. `shapes` are
    /// those of the backbone's outputs for one picture.
    pub fn new(
        cut: &Cut,
        shapes: &[Vec<usize>],
        batch: usize,
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self, TrainError> {
        let subgraph = cut.subgraph(batch, shapes);
        let compiled = compile(&subgraph, Optimizer::adamw())?;
        let weights = compiled.layout.gather(&subgraph)?;
        let count = weights.len();
        let zeros = || Value::from(Tensor::zeros([count]));
        Ok(Head {
            forward: runtime.load(&compiled.forward.encode(), options)?,
            step: runtime.load(&compiled.step.encode(), options)?,
            moments: (0..compiled.optimizer.n_moments()).map(|_| zeros()).collect(),
            weights: Tensor::new([count], weights.clone()).into(),
            ema: Tensor::new([count], weights).into(),
            lr_scale: Tensor::new([count], vec![1.0; count]).into(),
            before_last: 1.0,
            maps: cut.maps.clone(),
            n_head_inputs: cut.n_head_inputs,
            shapes: shapes.to_vec(),
            batch,
            compiled,
            t: 0,
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

    /// Reads a batch of features. `keys` may be fewer than the batch: the rest stays zero.
    pub fn read(&self, cache: &FeatureCache, keys: &[FeatureKey]) -> Batch {
        let mut tensors: Vec<Tensor> = self
            .shapes
            .iter()
            .map(|shape| {
                let mut shape = shape.clone();
                shape[0] = self.batch;
                Tensor::zeros(shape)
            })
            .collect();
        for (index, key) in keys.iter().enumerate() {
            let mut targets: Vec<&mut [f32]> = tensors
                .iter_mut()
                .zip(&self.shapes)
                .map(|(tensor, shape)| {
                    let length: usize = shape.iter().product();
                    &mut tensor.data_mut()[index * length..][..length]
                })
                .collect();
            cache.read(key, &mut targets);
        }
        Batch { features: tensors.into_iter().map(Value::from).collect() }
    }

    /// Raw maps of a batch, handed to `use_maps`.
    pub fn maps<T>(
        &mut self,
        batch: &Batch,
        weights: Weights,
        use_maps: impl FnOnce(&RawMaps) -> T,
    ) -> Result<T, TrainError> {
        let outputs = self.forward(batch, weights)?;
        Ok(use_maps(&self.raw_maps(batch, &outputs)))
    }

    /// One step: forward, criterion, backward and update. Gives the loss of the batch and the norm of
    /// its gradient before clipping.
    pub fn train(
        &mut self,
        batch: &Batch,
        truth: &[Vec<LabelBox>],
        criterion: &Criterion,
        schedule: &Schedule,
    ) -> Result<(Loss, f32), TrainError> {
        let outputs = self.forward(batch, Weights::Current)?;
        let mut gradients = self.gradients.take().unwrap_or_else(|| criterion.gradients(self.batch));
        let loss = criterion.evaluate(&self.raw_maps(batch, &outputs), truth, &mut gradients);
        self.t += 1;
        let map_gradients = self.output_gradients(&gradients, &outputs);
        let scalars: Vec<Value> = self
            .compiled
            .optimizer
            .scalars(schedule, self.t)
            .into_iter()
            .map(|value| Tensor::scalar(value).into())
            .collect();
        // In the order that `Compiled` documents.
        let inputs: Vec<&Value> = outputs[self.compiled.n_outputs..]
            .iter()
            .chain(self.compiled.step_inputs.iter().map(|&index| &batch.features[index]))
            .chain(&map_gradients)
            .chain([&self.weights, &self.ema])
            .chain(&self.moments)
            .chain([&self.lr_scale])
            .chain(&scalars)
            .collect();
        let mut results = self.step.run(&inputs)?.into_iter();
        let mut next = || results.next().expect("the step graph has an output for each state");
        self.weights = next();
        self.ema = next();
        for moment in &mut self.moments {
            *moment = next();
        }
        let gradient_norm = next().data()[0];
        self.gradients = Some(gradients);
        Ok((loss, gradient_norm))
    }

    fn forward(&mut self, batch: &Batch, weights: Weights) -> Result<Vec<Value>, TrainError> {
        let weights = match weights {
            Weights::Current => &self.weights,
            Weights::Averaged => &self.ema,
        };
        let inputs: Vec<&Value> = batch.features[..self.n_head_inputs].iter().chain([weights]).collect();
        Ok(self.forward.run(&inputs)?)
    }

    fn raw_maps<'a>(&self, batch: &'a Batch, outputs: &'a [Value]) -> RawMaps<'a> {
        let data = |source: &MapSource| match *source {
            MapSource::Head(index) => outputs[index].data(),
            MapSource::Backbone(index) => batch.features[index].data(),
        };
        RawMaps {
            batch: self.batch,
            boxes: self.maps.iter().map(|(boxes, _)| data(boxes)).collect(),
            classes: self.maps.iter().map(|(_, classes)| data(classes)).collect(),
        }
    }

    /// The criterion's gradients in the order of the head's outputs; frozen maps have none.
    fn output_gradients(&self, gradients: &MapGradients, outputs: &[Value]) -> Vec<Value> {
        let mut ordered: Vec<Option<&[f32]>> = vec![None; self.compiled.n_outputs];
        for (level, (boxes, classes)) in self.maps.iter().enumerate() {
            if let MapSource::Head(index) = *boxes {
                ordered[index] = Some(&gradients.boxes[level]);
            }
            if let MapSource::Head(index) = *classes {
                ordered[index] = Some(&gradients.classes[level]);
            }
        }
        self.compiled
            .step_gradients
            .iter()
            .map(|&index| {
                let values = ordered[index].expect("every output of the head is a raw map");
                Tensor::new(outputs[index].shape(), values.to_vec()).into()
            })
            .collect()
    }
}
