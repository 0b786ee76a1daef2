//! The forward pass where only few places of some outputs matter.
//!
//! A loss reads boxes at the anchors that may answer for an object, and whoever looks for objects reads them
//! where a class is likely: box maps are needed there alone.

use std::collections::HashSet;

use crate::onnx::{GraphBuilder, Model};
use crate::tensor::Tensor;

use super::GradError;
use super::layout::ParameterLayout;
use super::rows::Rows;
use super::sparse::Makers;
use super::subgraph::Subgraph;
use super::writer::Writer;

/// The forward pass in two graphs: `rest` makes the outputs that are whole maps, and then `at` makes rows of the
/// others, at places that may depend on what `rest` gave.
///
/// - Inputs of `rest`: those of `Compiled::forward`. Outputs: the outputs that are no rows, in their order, then
///   the stash.
/// - Inputs of `at`: those of `Compiled::forward`, then what [`ForwardAt::tables`] makes. Outputs: for each output
///   that is rows `[R, channels]`, a row for each place in ascending order.
#[derive(Debug)]
pub struct ForwardAt {
    /// Features and weights to whole maps and stash.
    pub rest: Model,
    /// Features, weights and tables to rows.
    pub at: Model,
    rows: Rows,
}

impl ForwardAt {
    /// Whether this output is rows.
    pub fn covers(&self, output: usize) -> bool {
        self.rows.covers(output)
    }

    /// The tables that go into `at` after the weights. `wanted` says for each place of an output, by index,
    /// whether it is: `[batch · height · width]`. Where none is, the first place is made all the same.
    pub fn tables<'a>(&self, wanted: impl Fn(usize) -> &'a [bool]) -> Vec<Tensor> {
        self.rows.tables(&wanted)
    }
}

/// Writes both, for the outputs `sparse`, by index; none when these are all the outputs. `stash` is what the way
/// back reads.
pub(super) fn write(
    subgraph: &Subgraph,
    layout: &ParameterLayout,
    forward: &GraphBuilder,
    makers: &Makers,
    sparse: &[usize],
    stash: &[String],
) -> Result<Option<ForwardAt>, GradError> {
    let outputs = &subgraph.outputs;
    let whole: Vec<&String> =
        (0..outputs.len()).filter(|index| !sparse.contains(index)).map(|index| &outputs[index]).collect();
    if sparse.is_empty() || whole.is_empty() {
        return Ok(None);
    }
    let mut rest = with_nodes(subgraph, layout, "rest", whole.iter().copied().chain(stash))?;
    for name in whole.into_iter().chain(stash) {
        rest.output(name, name)?;
    }

    // Tried out, to see which whole maps rows are made from.
    let mut trial = Writer::new(subgraph.start("trial", layout)?, forward, makers);
    for &output in sparse {
        rows_of(&mut trial, subgraph, output)?;
    }
    let at = with_nodes(subgraph, layout, "at", &trial.stash)?;
    let mut writer = Writer::new(at, forward, makers);
    for &output in sparse {
        let rows = rows_of(&mut writer, subgraph, output)?;
        writer.graph.output_of_any_length(&rows, &format!("rows of {}", outputs[output]))?;
    }
    let Writer { graph: at, sparse, .. } = writer;
    let finish = |mut graph: GraphBuilder| {
        // All inputs stay, so that both are fed alike.
        let inputs = graph.inputs();
        graph.prune(&inputs.iter().map(String::as_str).collect::<Vec<&str>>());
        graph.finish()
    };
    Ok(Some(ForwardAt { rest: finish(rest), at: finish(at), rows: sparse.rows }))
}

/// A graph with the nodes that make these values.
fn with_nodes<'a>(
    subgraph: &Subgraph,
    layout: &ParameterLayout,
    name: &str,
    values: impl IntoIterator<Item = &'a String>,
) -> Result<GraphBuilder, GradError> {
    let mut needed: HashSet<&str> = values.into_iter().map(String::as_str).collect();
    let mut nodes = Vec::new();
    for node in subgraph.nodes.iter().rev() {
        if node.output.iter().any(|name| needed.contains(name.as_str())) {
            needed.extend(node.input.iter().map(String::as_str));
            nodes.push(node);
        }
    }
    let mut graph = subgraph.start(name, layout)?;
    nodes.into_iter().rev().try_for_each(|node| graph.node(node.clone()))?;
    Ok(graph)
}

fn rows_of(writer: &mut Writer, subgraph: &Subgraph, output: usize) -> Result<String, GradError> {
    let name = &subgraph.outputs[output];
    let support = writer.output_support(output, name);
    writer.at(name, support)
}
