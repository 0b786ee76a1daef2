//! Variants of the bundled base for tests and benchmarks: another input size, other class names, one
//! class more. They know the constants behind the head by the bundled file's names.

use std::path::Path;

use graftd::onnx::proto::TensorProto;
use graftd::onnx::{Model, values};

/// Strides of the base's levels.
const STRIDES: [usize; 3] = [8, 16, 32];

/// The bundled base for another side of the input, pixels, its one class renamed.
pub fn resized(base: &Path, side: usize, class: &str) -> Model {
    let mut model = Model::read(base).unwrap();
    let before = anchors(416);
    let after = anchors(side);
    let centres: [Vec<f32>; 2] = [0, 1].map(|axis| {
        let level = |stride: &usize| {
            let width = side / stride;
            (0..width * width).map(move |i| (if axis == 0 { i % width } else { i / width }) as f32 + 0.5)
        };
        STRIDES.iter().flat_map(level).collect()
    });
    let strides: Vec<f32> =
        STRIDES.iter().flat_map(|&stride| vec![stride as f32; (side / stride).pow(2)]).collect();
    let graph = model.graph_mut();
    for tensor in &mut graph.initializer {
        let name = tensor.name().to_owned();
        if name.ends_with("Constant_19_output_0") || name.ends_with("Constant_20_output_0") {
            *tensor = values::tensor_f32(&name, &[1, 2, after], &centres.concat());
        } else if name.ends_with("Constant_22_output_0") {
            *tensor = values::tensor_f32(&name, &[1, after], &strides);
        } else if name.starts_with("/model.2/dfl/Concat") {
            let shape = values::to_i64(tensor).unwrap();
            let swap = |&n: &i64| if n == before as i64 { after as i64 } else { n };
            *tensor = values::tensor_i64(&name, &shape.iter().map(swap).collect::<Vec<_>>());
        }
    }
    graph.value_info.clear();
    let side = side as i64;
    set_dims(&mut graph.input[0], &[1, 3, side, side]);
    set_dims(&mut graph.output[0], &[1, 5, after as i64]);
    model.set_metadata("imgsz", &format!("[{side}, {side}]"));
    model.set_metadata("names", &format!("{{0: '{class}'}}"));
    model
}

/// The model with one class more, which it knows nothing of: its last kernels are zero and its biases
/// the usual prior, `ln(5 / n / (640 / stride)²)`.
pub fn with_class(mut model: Model, names: &[&str]) -> Model {
    let classes = names.len();
    let graph = model.graph_mut();
    for tensor in &mut graph.initializer {
        let name = tensor.name().to_owned();
        let level = (0..STRIDES.len()).find(|level| name.starts_with(&format!("model.2.cv3.{level}.2.")));
        if let Some(level) = level {
            let prior = (5.0 / classes as f32 / (640.0 / STRIDES[level] as f32).powi(2)).ln();
            *tensor = longer(tensor, &name, if name.ends_with("bias") { prior } else { 0.0 });
        } else if name == "/model.2/Concat_4_output_0" {
            *tensor = values::tensor_i64(&name, &[1, classes as i64, -1]);
        }
    }
    let anchors = dims(&graph.output[0])[2];
    set_dims(&mut graph.output[0], &[1, 4 + classes as i64, anchors]);
    let entries: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{i}: '{name}'")).collect();
    model.set_metadata("names", &format!("{{{}}}", entries.join(", ")));
    model
}

/// A tensor with one row more along its first axis.
fn longer(tensor: &TensorProto, name: &str, value: f32) -> TensorProto {
    let mut shape = values::dims(tensor).unwrap();
    let mut numbers = values::to_f32(tensor).unwrap();
    let row = numbers.len() / shape[0];
    shape[0] += 1;
    numbers.extend(vec![value; row]);
    values::tensor_f32(name, &shape, &numbers)
}

fn anchors(side: usize) -> usize {
    STRIDES.iter().map(|stride| (side / stride).pow(2)).sum()
}

fn dims(info: &graftd::onnx::proto::ValueInfoProto) -> Vec<i64> {
    let shape = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
    shape.dim.iter().map(|dim| dim.dim_value.unwrap()).collect()
}

fn set_dims(info: &mut graftd::onnx::proto::ValueInfoProto, dims: &[i64]) {
    let shape = info.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    for (slot, &dim) in shape.dim.iter_mut().zip(dims) {
        slot.dim_value = Some(dim);
    }
}
