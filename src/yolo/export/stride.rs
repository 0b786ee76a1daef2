//! How many pixels of the input stand behind one cell of each value, without running the graph.
//!
//! Only what changes the grid matters: strides of convolutions and poolings, and resizing. Where a
//! value's way to the input can't be followed (attention lays its cells out anew) a sum or a
//! concatenation with one that can be followed tells.

use std::collections::HashMap;

use crate::onnx::attributes::{int_of, ints_of};
use crate::onnx::proto::NodeProto;
use crate::onnx::{Links, values};

/// Pixels per cell along the height of the values that can be told.
pub(super) fn strides<'a>(links: &Links<'a>, input: &'a str, height: Option<usize>) -> HashMap<&'a str, f64> {
    let mut known = HashMap::from([(input, 1.0)]);
    for node in &links.graph().node {
        if let Some(stride) = after(links, node, &known, height) {
            known.extend(node.output.iter().map(|name| (name.as_str(), stride)));
        }
    }
    known
}

fn after(links: &Links, node: &NodeProto, known: &HashMap<&str, f64>, height: Option<usize>) -> Option<f64> {
    let stride_of = |name: &String| known.get(name.as_str()).copied();
    let first = node.input.first().and_then(stride_of);
    let step = || ints_of(node, "strides").and_then(|strides| strides.first().copied()).unwrap_or(1) as f64;
    match node.op_type() {
        "Conv" | "MaxPool" | "AveragePool" | "LpPool" => Some(first? * step()),
        "ConvTranspose" => Some(first? / step()),
        "SpaceToDepth" => Some(first? * int_of(node, "blocksize", 1) as f64),
        "DepthToSpace" => Some(first? / int_of(node, "blocksize", 1) as f64),
        "Resize" | "Upsample" => {
            let third = |name: &String| {
                links.constant(name).and_then(|constant| values::to_f32(constant).ok())?.get(2).copied()
            };
            if let Some(scale) = node.input.iter().skip(1).find_map(third) {
                return Some(first? / f64::from(scale));
            }
            let sizes = links.constant(node.input.get(3)?)?;
            let rows = *values::to_i64(sizes).ok()?.get(2)?;
            Some(height? as f64 / rows as f64)
        }
        "Slice" => {
            let list = |at: usize| values::to_i64(links.constant(node.input.get(at)?)?).ok();
            let axes = list(3)?;
            let rows = axes.iter().position(|&axis| axis == 2 || axis == -2);
            match (rows, node.input.get(4).filter(|name| !name.is_empty())) {
                // Every second row, as the first layer of old networks reads; other parts of a picture
                // have no stride.
                (Some(at), Some(_)) => Some(first? * *list(4)?.get(at)? as f64),
                (Some(_), None) => None,
                (None, _) => first,
            }
        }
        "Concat" if !matches!(int_of(node, "axis", 1), 0 | 1) => None,
        // YOLOv9's largest networks stack maps along a new first axis and sum over it.
        "Unsqueeze" | "ReduceSum" => {
            let given = || values::to_i64(links.constant(node.input.get(1)?)?).ok();
            let axes = ints_of(node, "axes").map(<[i64]>::to_vec).or_else(given)?;
            first.filter(|_| axes == [0])
        }
        "Add" | "Sub" | "Mul" | "Div" | "Concat" | "Max" | "Min" | "Where" => {
            node.input.iter().find_map(stride_of)
        }
        "BatchNormalization" | "Sigmoid" | "Relu" | "LeakyRelu" | "Clip" | "HardSwish" | "HardSigmoid"
        | "Gelu" | "Mish" | "Softplus" | "Tanh" | "PRelu" | "Elu" | "Identity" | "Cast" | "Pad" | "Split"
        | "Dropout" | "Erf" | "Pow" | "Swish" => first,
        _ => None,
    }
}
