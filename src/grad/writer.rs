//! Writes a graph of the compiler's: operators, forward values, and the stash.

use crate::onnx::GraphBuilder;
use crate::onnx::proto::AttributeProto;

use super::GradError;
use super::sparse::{Makers, Sparse};

/// A graph in the making that reads values of the forward pass.
pub(crate) struct Writer<'a> {
    pub(super) graph: GraphBuilder,
    /// The forward graph, for shapes.
    pub(super) forward: &'a GraphBuilder,
    /// Forward values that the graph takes in, in the order in which they were asked for.
    pub(super) stash: Vec<String>,
    /// What it has of rows.
    pub(super) sparse: Sparse<'a>,
}

impl<'a> Writer<'a> {
    /// Writes on in `graph`; `makers` is what rows can be made of.
    pub(super) fn new(graph: GraphBuilder, forward: &'a GraphBuilder, makers: &'a Makers) -> Self {
        Writer { graph, forward, stash: Vec::new(), sparse: Sparse::new(makers) }
    }

    /// A forward value that the graph reads; it comes in from the stash unless the graph has it: as a weight,
    /// an input or a frozen constant, or because its node is there.
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

    /// Shape of a value of the graph that is written.
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

    /// Adds an operator of one input, unless the graph has it.
    pub(crate) fn op_once(&mut self, op_type: &str, input: &str) -> Result<String, GradError> {
        match self.graph.find(op_type, input) {
            Some(output) => Ok(output),
            None => self.op(op_type, &[input]),
        }
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
}
