//! Takes training steps with compiled graphs on a runtime, feeding them as `Compiled` documents.

use graftd::grad::{Compiled, Optimizer, Schedule, Subgraph, compile};
use graftd::onnx::proto::{AttributeProto, NodeProto};
use graftd::runtime::{Runtime, Session, SessionOptions, Value};
use graftd::tensor::Tensor;

/// A node.
pub fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.into()),
        name: Some(format!("{op_type} {output}")),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

/// A subgraph in training.
pub struct Stepper {
    pub compiled: Compiled,
    forward: Box<dyn Session>,
    backward: Box<dyn Session>,
    update: Box<dyn Session>,
    pub weights: Value,
    pub ema: Value,
    moments: Vec<Value>,
    lr_scale: Value,
    pub gradient_norm: f32,
    t: u64,
}

impl Stepper {
    pub fn new(subgraph: &Subgraph, optimizer: Optimizer, runtime: &dyn Runtime) -> Self {
        let compiled = compile(subgraph, optimizer).unwrap();
        let options = SessionOptions { threads: 1 };
        let weights = compiled.layout.gather(subgraph).unwrap();
        let count = weights.len();
        Stepper {
            forward: runtime.load(&compiled.forward.encode(), &options).unwrap(),
            backward: runtime.load(&compiled.backward.encode(), &options).unwrap(),
            update: runtime.load(&compiled.update.encode(), &options).unwrap(),
            weights: Tensor::new([count], weights.clone()).into(),
            ema: Tensor::new([count], weights).into(),
            moments: (0..optimizer.n_moments()).map(|_| Tensor::zeros([count]).into()).collect(),
            gradient_norm: f32::NAN,
            lr_scale: Tensor::new([count], vec![1.0; count]).into(),
            compiled,
            t: 0,
        }
    }

    /// From here on, each constant's learning rate is the schedule's times this factor.
    pub fn scale_lr(&mut self, factor: impl Fn(&str) -> f32) {
        let factors = self.compiled.layout.spread(|parameter| factor(&parameter.name));
        self.lr_scale = Tensor::new([factors.len()], factors).into();
    }

    /// One step; `gradients` turns the outputs into d(loss)/d(outputs).
    pub fn step(
        &mut self,
        inputs: &[Tensor],
        schedule: &Schedule,
        gradients: impl Fn(&[Value]) -> Vec<Tensor>,
    ) {
        let inputs: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
        let feeds: Vec<&Value> = inputs.iter().chain([&self.weights]).collect();
        let outputs = self.forward.run(&feeds).unwrap();
        let (plain, stash) = outputs.split_at(self.compiled.n_outputs);
        let gradients: Vec<Value> = gradients(plain).into_iter().map(Value::from).collect();
        let zero: Value = Tensor::zeros([self.compiled.layout.count()]).into();
        let feeds: Vec<&Value> = stash
            .iter()
            .chain(self.compiled.inputs_read.iter().map(|&index| &inputs[index]))
            .chain(self.compiled.gradients_wanted.iter().map(|&index| &gradients[index]))
            .chain([&self.weights, &zero])
            .collect();
        let gradient = self.backward.run(&feeds).unwrap().remove(0);
        self.t += 1;
        let scalars = self.compiled.optimizer.scalars(schedule, self.t);
        let scalars: Vec<Value> = scalars.into_iter().map(|value| Tensor::scalar(value).into()).collect();
        let one: Value = Tensor::scalar(1.0).into();
        let feeds: Vec<&Value> = [&self.weights, &gradient, &one, &self.ema]
            .into_iter()
            .chain(&self.moments)
            .chain([&self.lr_scale])
            .chain(&scalars)
            .collect();
        let mut results = self.update.run(&feeds).unwrap();
        self.gradient_norm = results.pop().unwrap().data()[0];
        let mut results = results.into_iter();
        self.weights = results.next().unwrap();
        self.ema = results.next().unwrap();
        self.moments = results.collect();
    }

    /// A trained constant as it is now, out of `flat` (the weights or their average).
    pub fn constant<'a>(&'a self, flat: &'a Value, name: &str) -> &'a [f32] {
        let found = self.compiled.layout.scatter(flat.data()).find(|(parameter, _)| parameter.name == name);
        found.unwrap_or_else(|| panic!("no parameter {name}")).1
    }
}
