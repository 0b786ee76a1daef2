//! The forward pass of a training step where only few places of some outputs matter.
//!
//! A loss reads boxes at the anchors that may answer for an object, so a step needs box maps there alone. The
//! whole maps are for whoever wants to know what a network finds.

use std::collections::HashSet;

use crate::onnx::{GraphBuilder, Model};
use crate::tensor::Tensor;

use super::GradError;
use super::layout::ParameterLayout;
use super::rows::Rows;
use super::sparse::Makers;
use super::subgraph::Subgraph;
use super::writer::Writer;

/// A forward graph that gives rows of some outputs. Inputs: those of `Compiled::forward`, then what
/// [`ForwardAt::tables`] makes. Outputs: those of `Compiled::forward`, of which the ones that are rows are
/// `[R, channels]`, a row for each place in ascending order; then the same stash.
#[derive(Debug)]
pub struct ForwardAt {
    /// Features, weights and tables to outputs and stash.
    pub model: Model,
    rows: Rows,
}

impl ForwardAt {
    /// Whether this output is rows.
    pub fn covers(&self, output: usize) -> bool {
        self.rows.covers(output)
    }

    /// The tables that go in after the weights. `at` says for each place of an output, by index, whether it is
    /// wanted: `[batch · height · width]`. Where none is, the first place is made all the same.
    pub fn tables<'a>(&self, at: impl Fn(usize) -> &'a [bool]) -> Vec<Tensor> {
        self.rows.tables(&at)
    }
}

/// Writes it, for the outputs `sparse`, by index. `start` makes a graph with the inputs and constants of
/// `subgraph`; `stash` is what the way back reads.
pub(super) fn write(
    subgraph: &Subgraph,
    layout: &ParameterLayout,
    forward: &GraphBuilder,
    makers: &Makers,
    sparse: &[usize],
    stash: &[String],
) -> Result<ForwardAt, GradError> {
    // Tried out, to see which whole maps rows are made from.
    let mut trial = Writer::new(subgraph.start("trial", layout)?, forward, makers);
    for &output in sparse {
        rows_of(&mut trial, subgraph, output)?;
    }
    let outputs = (0..subgraph.outputs.len()).filter(|index| !sparse.contains(index));
    let whole = outputs.map(|index| &subgraph.outputs[index]).chain(stash).chain(&trial.stash);
    let mut needed: HashSet<&str> = whole.map(String::as_str).collect();
    let mut nodes = Vec::new();
    for node in subgraph.nodes.iter().rev() {
        if node.output.iter().any(|name| needed.contains(name.as_str())) {
            needed.extend(node.input.iter().map(String::as_str));
            nodes.push(node);
        }
    }

    let mut graph = subgraph.start("forward_at", layout)?;
    for node in nodes.into_iter().rev() {
        graph.node(node.clone())?;
    }
    let mut writer = Writer::new(graph, forward, makers);
    for (index, name) in subgraph.outputs.iter().enumerate() {
        if sparse.contains(&index) {
            let rows = rows_of(&mut writer, subgraph, index)?;
            writer.graph.output(&rows, &format!("rows of {name}"))?;
        } else {
            writer.graph.output(name, name)?;
        }
    }
    for name in stash {
        writer.graph.output(name, name)?;
    }
    let Writer { mut graph, sparse, .. } = writer;
    let inputs = graph.inputs();
    graph.prune(&inputs.iter().map(String::as_str).collect::<Vec<&str>>());
    Ok(ForwardAt { model: graph.finish(), rows: sparse.rows })
}

fn rows_of(writer: &mut Writer, subgraph: &Subgraph, output: usize) -> Result<String, GradError> {
    let name = &subgraph.outputs[output];
    let support = writer.output_support(output, name);
    writer.at(name, support)
}
