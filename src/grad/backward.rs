//! The way back while it is being written: gradients so far, as whole maps and as rows.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};

use crate::onnx::attributes::ints;
use crate::onnx::proto::NodeProto;

use super::GradError;
use super::rows::{Grid, Table};
use super::writer::Writer;

/// What a rule works with: a writer of the way back's graph, and the gradients.
pub(crate) struct Backward<'a> {
    writer: Writer<'a>,
    /// Values that depend on a trained constant.
    active: &'a HashSet<String>,
    /// Gradient of each forward value, by its name.
    gradients: HashMap<String, String>,
    /// Gradients that are rows, likewise.
    row_gradients: HashMap<String, RowGradient>,
}

/// A gradient as rows `[R, channels]` of the way back, and its support: see `rows.rs`.
#[derive(Debug, Clone)]
pub(crate) struct RowGradient {
    pub value: String,
    pub support: usize,
}

impl<'a> Deref for Backward<'a> {
    type Target = Writer<'a>;

    fn deref(&self) -> &Writer<'a> {
        &self.writer
    }
}

impl<'a> DerefMut for Backward<'a> {
    fn deref_mut(&mut self) -> &mut Writer<'a> {
        &mut self.writer
    }
}

impl<'a> Backward<'a> {
    /// No gradients yet.
    pub(super) fn new(writer: Writer<'a>, active: &'a HashSet<String>) -> Self {
        Backward { writer, active, gradients: HashMap::new(), row_gradients: HashMap::new() }
    }

    /// The writer, when all gradients are known.
    pub(super) fn into_writer(self) -> Writer<'a> {
        self.writer
    }

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
        self.gradients.contains_key(name) || self.row_gradients.contains_key(name)
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

    /// d(loss)/d(this forward value) as rows, if it is known as rows.
    pub(crate) fn row_gradient(&self, name: &str) -> Option<RowGradient> {
        self.row_gradients.get(name).cloned()
    }

    /// Makes the gradient of an output come in as rows.
    pub(super) fn row_input(&mut self, output: usize, name: &str, input: &str) {
        let (support, channels) = (self.output_support(output, name), self.shape(name)[1]);
        let value = self.rows_input(input, support, channels);
        self.row_gradients.insert(name.into(), RowGradient { value, support });
    }

    /// Adds rows to d(loss)/d(this forward value). Where a gradient is known already, both become whole maps:
    /// their supports may differ.
    pub(crate) fn add_row_gradient(&mut self, name: &str, gradient: RowGradient) -> Result<(), GradError> {
        let alone = !self.has_gradient(name);
        self.spread(name)?;
        self.row_gradients.insert(name.into(), gradient);
        if alone { Ok(()) } else { self.spread(name) }
    }

    /// Turns d(loss)/d(this forward value) from rows into the whole map, where it is rows.
    pub(crate) fn spread(&mut self, name: &str) -> Result<(), GradError> {
        let Some(RowGradient { value, support }) = self.row_gradients.remove(name) else { return Ok(()) };
        let Grid { batch, sides: [height, width] } = self.grid(support);
        let channels = self.own_shape(&value)[1];
        let all = self.pick(&value, Table::All(support))?;
        let all = self.reshape(&all, &[batch, height, width, channels])?;
        let map = self.op_with("Transpose", &[&all], &[ints("perm", &[0, 3, 1, 2])])?;
        self.add_gradient(name, map)
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
