//! The way back while it is being written: gradients so far, and what the forward pass must stash.

use std::collections::{HashMap, HashSet};

use crate::onnx::GraphBuilder;
use crate::onnx::proto::{AttributeProto, NodeProto};

use super::GradError;
use super::sparse::Sparse;

/// What a rule works with.
pub(crate) struct Backward<'a> {
    /// The graph of the way back.
    pub(super) graph: GraphBuilder,
    /// The forward graph, for shapes.
    pub(super) forward: &'a GraphBuilder,
    /// Values that depend on a trained constant.
    pub(super) active: &'a HashSet<String>,
    /// Gradient of each forward value, by its name.
    pub(super) gradients: HashMap<String, String>,
    /// Forward values that the way back reads, in the order in which they were asked for.
    pub(super) stash: Vec<String>,
    /// Gradients that are rows.
    pub(super) sparse: Sparse,
}

impl Backward<'_> {
    /// Whether the gradient of this forward value is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.active.contains(name)
    }

    /// Whether the gradient of the node's `index`-th input is wanted.
    pub(crate) fn wants_input(&self, node: &NodeProto, index: usize) -> bool {
        node.input.get(index).is_some_and(|name| self.wants(name))
    }

    /// d(loss)/d(this forward value), if anything downstream depends on it.
    pub(crate) fn gradient(&self, name: &str) -> Option<String> {
        self.gradients.get(name).cloned()
    }

    /// Whether anything downstream depends on this forward value.
    pub(crate) fn has_gradient(&self, name: &str) -> bool {
        self.gradients.contains_key(name) || self.row_gradient(name).is_some()
    }

    /// d(loss)/d(first output of the node). Rules are called only when it exists.
    pub(crate) fn output_gradient(&self, node: &NodeProto) -> Result<String, GradError> {
        node.output
            .first()
            .and_then(|name| self.gradient(name))
            .ok_or_else(|| self.unsupported(node, "its first output leads nowhere"))
    }

    /// Adds to d(loss)/d(this forward value).
    pub(crate) fn add_gradient(&mut self, name: &str, gradient: String) -> Result<(), GradError> {
        let sum = match self.gradients.remove(name) {
            Some(so_far) => self.op("Add", &[&so_far, &gradient])?,
            None => gradient,
        };
        self.gradients.insert(name.into(), sum);
        Ok(())
    }

    /// A forward value, to be used on the way back; it is stashed unless it is a weight, an input
    /// or a frozen constant, which the graph has anyway.
    pub(crate) fn value(&mut self, name: &str) -> String {
        if !self.graph.has(name) {
            let shape = self.forward.shape(name).to_vec();
            self.graph.input(name, &shape);
            self.stash.push(name.into());
        }
        name.into()
    }

    /// Shape of a forward value.
    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        self.forward.shape(name).to_vec()
    }

    /// Shape of a value of the way back.
    pub(crate) fn own_shape(&self, name: &str) -> Vec<usize> {
        self.graph.shape(name).to_vec()
    }

    /// Adds an operator without settings.
    pub(crate) fn op(&mut self, op_type: &str, inputs: &[&str]) -> Result<String, GradError> {
        Ok(self.graph.op(op_type, inputs, &[])?)
    }

    /// Adds an operator with settings.
    pub(crate) fn op_with(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Result<String, GradError> {
        Ok(self.graph.op(op_type, inputs, attributes)?)
    }

    /// A scalar constant.
    pub(crate) fn scalar(&mut self, value: f32) -> String {
        self.graph.scalar(value)
    }

    /// A constant list of integers.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        self.graph.integers(values)
    }

    /// The value in another shape; nothing is added when it has that shape already.
    pub(crate) fn reshape(&mut self, value: &str, shape: &[usize]) -> Result<String, GradError> {
        if self.graph.shape(value) == shape {
            return Ok(value.into());
        }
        let lengths: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
        let lengths = self.integers(&lengths);
        self.op("Reshape", &[value, &lengths])
    }

    /// Sums over axes, which vanish.
    pub(crate) fn sum(&mut self, value: &str, axes: &[i64]) -> Result<String, GradError> {
        let axes = self.integers(axes);
        self.op_with("ReduceSum", &[value, &axes], &[crate::onnx::attributes::int("keepdims", 0)])
    }

    /// Sums a gradient over the axes along which its operand was broadcast, so that it gets the
    /// operand's shape.
    pub(crate) fn unbroadcast(&mut self, gradient: &str, shape: &[usize]) -> Result<String, GradError> {
        let wide = self.own_shape(gradient);
        if wide == shape {
            return Ok(gradient.into());
        }
        let missing = wide.len() - shape.len();
        let axes: Vec<i64> = (0..wide.len())
            .filter(|&axis| axis < missing || (shape[axis - missing] == 1 && wide[axis] != 1))
            .map(|axis| axis as i64)
            .collect();
        let sum = if axes.is_empty() { gradient.to_owned() } else { self.sum(gradient, &axes)? };
        self.reshape(&sum, shape)
    }

    /// The error for a form of an operator that its rule does not cover.
    pub(crate) fn unsupported(&self, node: &NodeProto, reason: &str) -> GradError {
        GradError::Unsupported {
            node: node.name().into(),
            op_type: node.op_type().into(),
            reason: reason.into(),
        }
    }
}
