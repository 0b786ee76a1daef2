//! The derivatives: one rule per operator, one line here for each.

mod arithmetic;
mod conv;
mod matmul;
mod rearrange;
mod silu;
mod unary;

use std::collections::HashMap;

use super::GradError;
use super::backward::Backward;
use super::rows::Window;
use super::writer::Writer;
use crate::onnx::GraphBuilder;
use crate::onnx::proto::NodeProto;

/// Adds to the gradients of the node's inputs what the gradients of its outputs imply.
type Rule = fn(&mut Backward, &NodeProto) -> Result<(), GradError>;

/// The rule of an operator.
fn rule(op_type: &str) -> Option<Rule> {
    Some(match op_type {
        "Add" | "Sub" | "Mul" | "Div" => arithmetic::backward,
        "Concat" => rearrange::concat,
        "Conv" => conv::backward,
        "Exp" | "Identity" | "LeakyRelu" | "Neg" | "Relu" | "Sigmoid" | "Sqrt" | "Tanh" => unary::backward,
        "MatMul" => matmul::backward,
        "Reshape" => rearrange::reshape,
        "Transpose" => rearrange::transpose,
        _ => return None,
    })
}

/// A node, or a group of nodes whose derivative together is cheaper than one by one.
pub(super) enum Fused<'a> {
    /// A node by itself.
    One(&'a NodeProto),
    /// `Sigmoid` and `Mul` that make SiLU, as one node of a notional operator.
    Silu(Box<NodeProto>),
}

impl Fused<'_> {
    /// The node, or one that reads and writes what the group does.
    pub(super) fn node(&self) -> &NodeProto {
        match self {
            Fused::One(node) => node,
            Fused::Silu(node) => node,
        }
    }

    /// Writes the way back through it for a gradient that is rows; says false where it can't.
    pub(super) fn apply_to_rows(&self, backward: &mut Backward) -> Result<bool, GradError> {
        match self {
            Fused::Silu(node) => silu::backward_of_rows(backward, node),
            Fused::One(node) if node.op_type() == "Conv" => conv::backward_of_rows(backward, node),
            Fused::One(_) => Ok(false),
        }
    }

    /// Writes the way back through it.
    pub(super) fn apply(&self, backward: &mut Backward) -> Result<(), GradError> {
        match self {
            Fused::Silu(node) => silu::backward(backward, node),
            Fused::One(node) => match rule(node.op_type()) {
                Some(rule) => rule(backward, node),
                None => Err(GradError::NoRule { node: node.name().into(), op_type: node.op_type().into() }),
            },
        }
    }
}

/// How a forward value is made at some places alone: see `grad/sparse.rs`.
pub(super) enum Maker {
    /// Of the same places of z.
    Silu(Box<NodeProto>),
    /// Of the places that a kernel reads.
    Conv(Box<NodeProto>, Window),
}

impl Maker {
    /// Makes rows of a support.
    pub(super) fn rows(&self, writer: &mut Writer, support: usize) -> Result<String, GradError> {
        match self {
            Maker::Silu(node) => silu::rows(writer, node, support),
            Maker::Conv(node, window) => conv::rows(writer, node, *window, support),
        }
    }
}

/// Makers of all the values that have one.
pub(super) fn makers(groups: &[Fused], forward: &GraphBuilder) -> HashMap<String, Maker> {
    let maker = |group: &Fused| {
        let maker = match group {
            Fused::Silu(node) => Maker::Silu(node.clone()),
            Fused::One(node) if node.op_type() == "Conv" => {
                Maker::Conv(Box::new((*node).clone()), conv::window(forward, node)?)
            }
            Fused::One(_) => return None,
        };
        Some((group.node().output[0].clone(), maker))
    };
    groups.iter().filter_map(maker).collect()
}

/// Groups nodes, keeping their order (a group stands where its last node stood).
pub(super) fn fuse(nodes: &[NodeProto]) -> Vec<Fused<'_>> {
    let pairs = silu::find(nodes);
    nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| !pairs.iter().any(|pair| pair.sigmoid == *index))
        .map(|(index, node)| match pairs.iter().find(|pair| pair.mul == index) {
            Some(pair) => Fused::Silu(Box::new(pair.node(nodes))),
            None => Fused::One(node),
        })
        .collect()
}
