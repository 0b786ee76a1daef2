//! The part of a model that is differentiated.

use std::collections::HashSet;

use crate::onnx::GraphBuilder;
use crate::onnx::proto::{NodeProto, TensorProto};

use super::GradError;
use super::layout::ParameterLayout;

/// Name of the flat tensor of trained weights in all graphs.
pub(super) const WEIGHTS: &str = "weights";

/// Nodes in topological order with what they read: inputs of known shape and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Subgraph {
    /// Operators, each after those that feed it.
    pub nodes: Vec<NodeProto>,
    /// Constants that the nodes read, float32 unless they are shapes or axes.
    pub constants: Vec<TensorProto>,
    /// Names and static shapes of what comes in.
    pub inputs: Vec<(String, Vec<usize>)>,
    /// Names of what goes out.
    pub outputs: Vec<String>,
    /// Names of the constants that are trained, in the order in which they lie in the flat tensor.
    pub trained: Vec<String>,
}

impl Subgraph {
    /// The constant of this name.
    pub fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.constants.iter().find(|tensor| tensor.name() == name)
    }

    /// Names of the values that depend on a trained constant, the trained constants included.
    pub(super) fn active(&self) -> HashSet<String> {
        let mut active: HashSet<String> = self.trained.iter().cloned().collect();
        for node in &self.nodes {
            if node.input.iter().any(|name| active.contains(name)) {
                active.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
            }
        }
        active
    }

    /// A graph with what the nodes read and don't make themselves: inputs, trained constants, which come out
    /// of one more input, `weights`, and frozen ones.
    pub(super) fn start(&self, name: &str, layout: &ParameterLayout) -> Result<GraphBuilder, GradError> {
        let mut graph = GraphBuilder::new(name);
        for (name, shape) in &self.inputs {
            graph.input(name, shape);
        }
        graph.input(WEIGHTS, &[layout.count()]);
        layout.unpack(&mut graph, WEIGHTS)?;
        for tensor in self.constants.iter().filter(|tensor| !self.trained.iter().any(|t| t == tensor.name()))
        {
            graph.initializer(tensor.clone())?;
        }
        Ok(graph)
    }
}
