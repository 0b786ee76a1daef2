//! `SiLU`: y = z·σ(z), written as `Sigmoid` and `Mul` by every exporter.
//!
//! dz = dy·(σ + y·(1 − σ)), which needs σ and y alone. One by one the two rules would stash z as
//! well and make two more passes over the maps.

use crate::grad::GradError;
use crate::grad::backward::{Backward, RowGradient};
use crate::grad::writer::Writer;
use crate::onnx::proto::NodeProto;

/// Indices of a `Sigmoid` and the `Mul` that is its only reader and also reads its input.
pub(super) struct Pair {
    pub(super) sigmoid: usize,
    pub(super) mul: usize,
}

impl Pair {
    /// A node that reads z and writes y and σ.
    pub(super) fn node(&self, nodes: &[NodeProto]) -> NodeProto {
        NodeProto {
            input: nodes[self.sigmoid].input.clone(),
            output: vec![nodes[self.mul].output[0].clone(), nodes[self.sigmoid].output[0].clone()],
            name: nodes[self.mul].name.clone(),
            op_type: Some("SiLU".into()),
            ..Default::default()
        }
    }
}

/// Finds the pairs.
pub(super) fn find(nodes: &[NodeProto]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (sigmoid, node) in nodes.iter().enumerate().filter(|(_, node)| node.op_type() == "Sigmoid") {
        let (z, s) = (&node.input[0], &node.output[0]);
        let mut readers = nodes.iter().enumerate().filter(|(_, other)| other.input.contains(s));
        if let (Some((mul, reader)), None) = (readers.next(), readers.next())
            && reader.op_type() == "Mul"
            && (reader.input[..] == [z.clone(), s.clone()] || reader.input[..] == [s.clone(), z.clone()])
        {
            pairs.push(Pair { sigmoid, mul });
        }
    }
    pairs
}

/// The rule.
pub(super) fn backward(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    let y = backward.value(&node.output[0]);
    let s = backward.value(&node.output[1]);
    let dz = through(backward, &dy, &s, &y)?;
    backward.add_gradient(&node.input[0], dz)
}

/// The rule for rows.
pub(super) fn backward_of_rows(backward: &mut Backward, node: &NodeProto) -> Result<bool, GradError> {
    let Some(dy) = backward.row_gradient(&node.output[0]) else { return Ok(false) };
    let y = backward.at(&node.output[0], dy.support)?;
    let s = sigmoid(backward, node, dy.support)?;
    let value = through(backward, &dy.value, &s, &y)?;
    backward.add_row_gradient(&node.input[0], RowGradient { value, ..dy })?;
    Ok(true)
}

/// y at some places.
pub(super) fn rows(writer: &mut Writer, node: &NodeProto, support: usize) -> Result<String, GradError> {
    let (z, s) = (writer.at(&node.input[0], support)?, sigmoid(writer, node, support)?);
    writer.op("Mul", &[&z, &s])
}

/// σ at some places.
fn sigmoid(writer: &mut Writer, node: &NodeProto, support: usize) -> Result<String, GradError> {
    let z = writer.at(&node.input[0], support)?;
    writer.op_once("Sigmoid", &z)
}

fn through(backward: &mut Backward, dy: &str, s: &str, y: &str) -> Result<String, GradError> {
    let one = backward.scalar(1.0);
    let rest = backward.op("Sub", &[&one, s])?;
    let product = backward.op("Mul", &[y, &rest])?;
    let slope = backward.op("Add", &[s, &product])?;
    backward.op("Mul", &[dy, &slope])
}

#[cfg(test)]
mod tests {
    use crate::grad::finite::{Case, check, node};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_pairs_gradient_agrees_with_finite_differences(
            shape in prop::collection::vec(1usize..4, 1..4), swapped: bool, seed: u64,
        ) {
            let mut case = Case::new(seed);
            let z = case.trained("z", &shape);
            case.nodes.push(node("Sigmoid", &[&z], &["s"]));
            case.nodes.push(node("Mul", &if swapped { ["s", &z] } else { [&z, "s"] }, &["y"]));
            check(case, &["y"])?;
        }

        #[test]
        fn a_sigmoid_that_others_read_too_is_no_pair(length in 1usize..5, seed: u64) {
            let mut case = Case::new(seed);
            let z = case.trained("z", &[length]);
            case.nodes.push(node("Sigmoid", &[&z], &["s"]));
            case.nodes.push(node("Mul", &[&z, "s"], &["y"]));
            case.nodes.push(node("Add", &["y", "s"], &["both"]));
            check(case, &["both"])?;
        }
    }
}
