//! Where each trained constant lies in the one flat tensor of weights.

use crate::onnx::values::{dims, to_f32};
use crate::onnx::{GraphBuilder, OnnxError};

use super::subgraph::Subgraph;

/// One trained constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Name of the constant in the model.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Index of its first value in the flat tensor.
    pub offset: usize,
}

impl Parameter {
    /// How many values it has.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Kernels decay, biases and scales (one axis or none) don't: the usual practice for AdamW and
    /// SGD alike.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The trained constants, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterLayout {
    parameters: Vec<Parameter>,
}

impl ParameterLayout {
    /// Lays out the trained constants of a subgraph in their order.
    ///
    /// # Errors
    /// When a trained name is no constant of the subgraph.
    pub fn new(subgraph: &Subgraph) -> Result<Self, OnnxError> {
        let mut offset = 0;
        let mut parameters = Vec::with_capacity(subgraph.trained.len());
        for name in &subgraph.trained {
            let tensor = subgraph
                .constant(name)
                .ok_or_else(|| OnnxError::invalid(format!("{name:?} is to be trained but is no constant")))?;
            let parameter = Parameter { name: name.clone(), shape: dims(tensor)?, offset };
            offset += parameter.count();
            parameters.push(parameter);
        }
        Ok(ParameterLayout { parameters })
    }

    /// The constants, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Length of the flat tensor.
    pub fn count(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.count())
    }

    /// The values that the constants have now, as the flat tensor.
    ///
    /// # Errors
    /// When a constant is missing or holds no floats.
    pub fn gather(&self, subgraph: &Subgraph) -> Result<Vec<f32>, OnnxError> {
        let mut flat = Vec::with_capacity(self.count());
        for parameter in &self.parameters {
            let tensor = subgraph
                .constant(&parameter.name)
                .ok_or_else(|| OnnxError::invalid(format!("{:?} is no constant", parameter.name)))?;
            flat.extend(to_f32(tensor)?);
        }
        Ok(flat)
    }

    /// Each constant with its values out of the flat tensor.
    pub fn scatter<'a>(&'a self, flat: &'a [f32]) -> impl Iterator<Item = (&'a Parameter, &'a [f32])> {
        self.parameters
            .iter()
            .map(|parameter| (parameter, &flat[parameter.offset..parameter.offset + parameter.count()]))
    }

    /// A flat tensor with one number for all values of each constant, such as the factors of their
    /// learning rates.
    pub fn spread(&self, number: impl Fn(&Parameter) -> f32) -> Vec<f32> {
        self.parameters
            .iter()
            .flat_map(|parameter| std::iter::repeat_n(number(parameter), parameter.count()))
            .collect()
    }

    /// 1 for values that decay, 0 for those that don't.
    pub(super) fn decay_mask(&self) -> Vec<f32> {
        self.spread(|parameter| if parameter.decays() { 1.0 } else { 0.0 })
    }

    /// Takes the flat tensor `weights` of a graph apart into values named as the constants.
    pub(super) fn unpack(&self, graph: &mut GraphBuilder, weights: &str) -> Result<(), OnnxError> {
        let lengths: Vec<i64> = self.parameters.iter().map(|parameter| parameter.count() as i64).collect();
        let pieces: Vec<String> =
            self.parameters.iter().map(|parameter| format!("{}.flat", parameter.name)).collect();
        let lengths = graph.integers(&lengths);
        graph.node(crate::onnx::proto::NodeProto {
            input: vec![weights.into(), lengths],
            output: pieces.clone(),
            name: Some("unpack".into()),
            op_type: Some("Split".into()),
            attribute: vec![crate::onnx::attributes::int("axis", 0)],
            ..Default::default()
        })?;
        for (parameter, piece) in self.parameters.iter().zip(pieces) {
            let shape: Vec<i64> = parameter.shape.iter().map(|&length| length as i64).collect();
            let shape = graph.integers(&shape);
            graph.node(crate::onnx::proto::NodeProto {
                input: vec![piece, shape],
                output: vec![parameter.name.clone()],
                name: Some(format!("{}.unpack", parameter.name)),
                op_type: Some("Reshape".into()),
                ..Default::default()
            })?;
        }
        Ok(())
    }
}
