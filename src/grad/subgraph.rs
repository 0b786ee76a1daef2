//! The part of a model that is differentiated.

use std::collections::HashSet;

use crate::onnx::GraphBuilder;
use crate::onnx::OnnxError;
use crate::onnx::proto::{NodeProto, TensorProto};

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

    /// Adds the frozen constants to a graph.
    pub(super) fn add_frozen(&self, graph: &mut GraphBuilder) -> Result<(), OnnxError> {
        self.constants
            .iter()
            .filter(|tensor| !self.trained.iter().any(|name| name == tensor.name()))
            .try_for_each(|tensor| graph.initializer(tensor.clone()))
    }
}
