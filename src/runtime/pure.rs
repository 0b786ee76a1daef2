//! tract: pure Rust, on every machine.

use std::sync::Arc;

use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor as TractTensor, TypedRunnableModel,
};

use super::value::{Holder, Value};
use super::{Runtime, RuntimeError, Session, SessionOptions};

const NAME: &str = "tract";

/// tract. Each operator runs on the calling thread.
pub(super) struct Tract;

impl Runtime for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self) -> String {
        "tract (pure Rust, one thread)".into()
    }

    /// It plans every operator for the lengths that a graph names.
    fn takes_any_length(&self) -> bool {
        false
    }

    fn load(&self, model: &[u8], _options: &SessionOptions) -> Result<Box<dyn Session>, RuntimeError> {
        // tract's errors are chains whose last link says what was wrong.
        let refuse = |error| RuntimeError::refused(NAME, format!("{error:#}"));
        let mut bytes = model;
        let model = tract_onnx::onnx().model_for_read(&mut bytes).map_err(refuse)?;
        let name_of = |outlet: &tract_onnx::prelude::OutletId| {
            model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name).to_owned()
        };
        let inputs = model.input_outlets().map_err(refuse)?.iter().map(name_of).collect();
        let outputs = model.output_outlets().map_err(refuse)?.iter().map(name_of).collect();
        let plan = model.into_optimized().map_err(refuse)?.into_runnable().map_err(refuse)?;
        Ok(Box::new(Graph { plan, inputs, outputs }))
    }
}

struct Graph {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Session for Graph {
    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[&Value]) -> Result<Vec<Value>, RuntimeError> {
        let refuse = |error| RuntimeError::refused(NAME, format!("{error:#}"));
        let feeds = inputs
            .iter()
            .map(|value| match &value.0 {
                Holder::Tract(tensor) => Ok(tensor.clone()),
                _ => TractTensor::from_shape(&value.shape(), value.data()).map(TValue::from),
            })
            .collect::<Result<TVec<TValue>, _>>()
            .map_err(refuse)?;
        let outputs = self.plan.run(feeds).map_err(refuse)?;
        outputs
            .into_iter()
            .zip(&self.outputs)
            .map(|(tensor, name)| match tensor.as_plain_ram().map(|view| view.as_slice::<f32>()) {
                Some(Ok(_)) => Ok(Value(Holder::Tract(tensor))),
                _ => Err(RuntimeError::refused(NAME, format!("output {name:?} is no plain f32 tensor"))),
            })
            .collect()
    }
}
