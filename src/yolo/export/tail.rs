//! From a graph's outputs back to the convolutions that write its raw maps.
//!
//! Between the raw maps and an output stand reshapes, sigmoid, softmax, arithmetic with anchors, and
//! perhaps suppression: many shapes, but no convolution other than DFL's, which holds nothing but
//! the numbers 0, 1, 2, …. So the first convolutions met on the way back are the last of the head.

use std::collections::HashSet;

use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{Links, values};

/// A constant matrix with no side longer than this is no layer: exporters turn boxes by 4×4 ones.
const LONGEST_CONVERSION: usize = 4;

/// What stands before an output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Indices of the convolutions that write raw maps, in order.
    pub maps: Vec<usize>,
    /// Indices of fully connected layers that stand where a detector has its last convolutions.
    pub dense: Vec<usize>,
    /// Bins per side that DFL takes the expectation over.
    pub bins: Option<usize>,
    /// Whether the best anchors are picked by score.
    pub picks: bool,
    /// Whether overlapping boxes are suppressed.
    pub suppresses: bool,
}

impl Tail {
    /// Walks back from these values.
    pub(super) fn before(links: &Links, outputs: &[&str]) -> Self {
        let graph = links.graph();
        let mut tail = Tail::default();
        let mut seen = HashSet::new();
        let mut open: Vec<&str> = outputs.to_vec();
        while let Some(name) = open.pop() {
            let Some(index) = links.producer_index(name) else { continue };
            if !seen.insert(index) {
                continue;
            }
            let node = &graph.node[index];
            match node.op_type() {
                // A shape says nothing of what the values are: anchors are made from features' shapes.
                "Shape" | "Size" | "ConstantOfShape" => continue,
                "Conv" | "ConvTranspose" => match kernel(links, node).and_then(distance_bins) {
                    Some(bins) => tail.bins = Some(bins),
                    None => {
                        tail.maps.push(index);
                        continue;
                    }
                },
                "Gemm" | "MatMul" if is_dense(links, node) => {
                    tail.dense.push(index);
                    continue;
                }
                "TopK" => tail.picks = true,
                // The standard operator, and those that inference engines bring.
                op if op.contains("NMS") || op == "NonMaxSuppression" => tail.suppresses = true,
                _ => {}
            }
            open.extend(node.input.iter().map(String::as_str));
        }
        tail.maps.sort_unstable();
        tail
    }

    /// Whether the surest boxes are taken as they are, which only a one-to-one head allows.
    pub(super) fn is_one_to_one(&self) -> bool {
        self.picks && !self.suppresses
    }
}

/// The constant kernel of a convolution.
pub(super) fn kernel<'a>(links: &Links<'a>, node: &NodeProto) -> Option<&'a TensorProto> {
    links.constant(node.input.get(1)?)
}

/// The number of bins, when this is DFL's kernel: `[1, bins, 1, 1]` with the values 0, 1, 2, ….
fn distance_bins(kernel: &TensorProto) -> Option<usize> {
    let dims = values::dims(kernel).ok()?;
    let [1, bins, rest @ ..] = dims.as_slice() else { return None };
    let counts = values::to_f32(kernel).ok()?.iter().enumerate().all(|(i, &value)| value == i as f32);
    (*bins > 1 && counts && rest.iter().all(|&side| side == 1)).then_some(*bins)
}

/// Whether a constant matrix is multiplied with, other than a vector or a small conversion.
fn is_dense(links: &Links, node: &NodeProto) -> bool {
    node.input.iter().filter_map(|name| links.constant(name)).any(|constant| {
        let sides = values::dims(constant).unwrap_or_default();
        let is_matrix = sides.iter().filter(|&&side| side > 1).count() >= 2;
        is_matrix && sides.iter().any(|&side| side > LONGEST_CONVERSION)
    })
}
