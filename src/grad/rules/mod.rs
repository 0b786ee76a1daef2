//! The derivatives: one rule per operator, one line here for each.

mod arithmetic;
mod conv;
mod matmul;
mod rearrange;
mod silu;
mod unary;

use super::GradError;
use super::backward::Backward;
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
