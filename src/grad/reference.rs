//! An interpreter of ONNX graphs in f64, for tests: obviously right rather than fast.
//!
//! Knows the operators that rules differentiate and those that they write. Every operator is a walk
//! over the indices of its output, as the specification has it.

use std::collections::HashMap;

use crate::onnx::Model;
use crate::onnx::attributes::{float_of, int_of, ints_of};
use crate::onnx::proto::NodeProto;
use crate::onnx::values::{dims, to_f32, to_i64};

/// Values in row-major order. Integers are held as f64 too.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{shape:?}");
        Array { shape: shape.to_vec(), data }
    }

    fn from_fn(shape: &[usize], value: impl FnMut(&[usize]) -> f64) -> Self {
        Array::new(shape, indices(shape).iter().map(|index| &index[..]).map(value).collect())
    }

    fn at(&self, index: &[usize]) -> f64 {
        let flat = index.iter().zip(&self.shape).fold(0, |flat, (&i, &length)| {
            assert!(i < length);
            flat * length + i
        });
        self.data[flat]
    }

    /// The value at an index of a shape that this one was broadcast to.
    fn broadcast_at(&self, index: &[usize]) -> f64 {
        let own = &index[index.len() - self.shape.len()..];
        let own: Vec<usize> =
            own.iter().zip(&self.shape).map(|(&i, &length)| if length == 1 { 0 } else { i }).collect();
        self.at(&own)
    }

    fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|&value| value as i64).collect()
    }
}

fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |prefixes, &length| {
        let longer = |prefix: Vec<usize>| (0..length).map(move |i| [&prefix[..], &[i]].concat());
        prefixes.into_iter().flat_map(longer).collect()
    })
}

/// Runs a graph: values of its outputs, in order.
pub(super) fn run(model: &Model, feeds: &HashMap<String, Array>) -> Vec<Array> {
    let graph = model.graph();
    let mut values = feeds.clone();
    for tensor in &graph.initializer {
        let data = match to_i64(tensor) {
            Ok(integers) => integers.iter().map(|&value| value as f64).collect(),
            Err(_) => to_f32(tensor).expect("a float tensor").iter().map(|&value| f64::from(value)).collect(),
        };
        values.insert(tensor.name().into(), Array::new(&dims(tensor).expect("static"), data));
    }
    for node in &graph.node {
        let inputs: Vec<&Array> =
            node.input.iter().filter(|name| !name.is_empty()).map(|name| &values[name.as_str()]).collect();
        let outputs = evaluate(node, &inputs);
        for (name, value) in node.output.iter().zip(outputs) {
            values.insert(name.clone(), value);
        }
    }
    graph.output.iter().map(|output| values[output.name()].clone()).collect()
}

fn evaluate(node: &NodeProto, inputs: &[&Array]) -> Vec<Array> {
    let x = inputs[0];
    let each =
        |function: &dyn Fn(f64) -> f64| Array::new(&x.shape, x.data.iter().map(|&v| function(v)).collect());
    vec![match node.op_type() {
        // Only integers are cast, and they are held as they come.
        "Cast" | "Identity" => x.clone(),
        "Neg" => each(&|v| -v),
        "Exp" => each(&f64::exp),
        "Sqrt" => each(&f64::sqrt),
        "Tanh" => each(&f64::tanh),
        "Relu" => each(&|v| v.max(0.0)),
        "Sigmoid" => each(&|v| 1.0 / (1.0 + (-v).exp())),
        "Sign" => each(&|v| if v == 0.0 { 0.0 } else { v.signum() }),
        "LeakyRelu" => {
            let slope = f64::from(float_of(node, "alpha", 0.01));
            each(&|v| if v > 0.0 { v } else { slope * v })
        }
        "Add" => binary(inputs, |a, b| a + b),
        "Sub" => binary(inputs, |a, b| a - b),
        "Mul" => binary(inputs, |a, b| a * b),
        "Div" => binary(inputs, |a, b| a / b),
        "MatMul" => matmul(inputs[0], inputs[1]),
        "Conv" => conv(node, inputs),
        "ConvTranspose" => conv_transpose(node, inputs),
        "ReduceSum" => reduce_sum(node, inputs),
        "Reshape" => reshape(inputs),
        "Transpose" => transpose(node, x),
        "Concat" => concat(node, inputs),
        "Gather" => gather(node, inputs),
        "Slice" => slice(inputs),
        "Pad" => pad(inputs),
        "Expand" => {
            let shape: Vec<usize> = inputs[1].integers().iter().map(|&length| length as usize).collect();
            Array::from_fn(&shape, |index| x.broadcast_at(index))
        }
        "Split" => return split(node, inputs),
        other => panic!("the reference does not know {other}"),
    }]
}

fn binary(inputs: &[&Array], function: impl Fn(f64, f64) -> f64) -> Array {
    let [a, b] = inputs else { panic!("two operands") };
    let rank = a.shape.len().max(b.shape.len());
    let length = |array: &Array, axis: usize| {
        (axis + array.shape.len()).checked_sub(rank).map_or(1, |own| array.shape[own])
    };
    let shape: Vec<usize> = (0..rank).map(|axis| length(a, axis).max(length(b, axis))).collect();
    Array::from_fn(&shape, |index| function(a.broadcast_at(index), b.broadcast_at(index)))
}

fn matmul(a: &Array, b: &Array) -> Array {
    let (rows, inner) = (a.shape[a.shape.len() - 2], a.shape[a.shape.len() - 1]);
    let columns = b.shape[b.shape.len() - 1];
    let heads = |array: &Array| {
        Array::new(
            &array.shape[..array.shape.len() - 2],
            vec![0.0; array.shape[..array.shape.len() - 2].iter().product()],
        )
    };
    let mut shape = binary(&[&heads(a), &heads(b)], |_, _| 0.0).shape;
    shape.extend([rows, columns]);
    Array::from_fn(&shape, |index| {
        let (head, place) = index.split_at(index.len() - 2);
        (0..inner)
            .map(|k| {
                a.broadcast_at(&[head, &[place[0], k]].concat())
                    * b.broadcast_at(&[head, &[k, place[1]]].concat())
            })
            .sum()
    })
}

struct Window {
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
    groups: usize,
}

impl Window {
    fn of(node: &NodeProto) -> Self {
        let list = |name: &str, default: i64| ints_of(node, name).map_or(vec![default; 4], <[i64]>::to_vec);
        Window {
            strides: list("strides", 1),
            dilations: list("dilations", 1),
            pads: list("pads", 0),
            groups: int_of(node, "group", 1) as usize,
        }
    }

    /// Where tap `k` of output place `p` lies along axis `i`, if inside.
    fn place(&self, i: usize, p: usize, k: usize, length: usize) -> Option<usize> {
        let at = p as i64 * self.strides[i] + k as i64 * self.dilations[i] - self.pads[i];
        usize::try_from(at).ok().filter(|&at| at < length)
    }
}

fn conv(node: &NodeProto, inputs: &[&Array]) -> Array {
    let (x, w, window) = (inputs[0], inputs[1], Window::of(node));
    let side = |i: usize| {
        let reach = window.dilations[i] * (w.shape[2 + i] as i64 - 1) + 1;
        ((x.shape[2 + i] as i64 + window.pads[i] + window.pads[i + 2] - reach) / window.strides[i] + 1)
            as usize
    };
    let per_out = w.shape[0] / window.groups;
    Array::from_fn(&[x.shape[0], w.shape[0], side(0), side(1)], |index| {
        let [b, o, p, q] = *index else { panic!("four axes") };
        let mut sum = inputs.get(2).map_or(0.0, |bias| bias.data[o]);
        for tap in indices(&w.shape[1..]) {
            let [c, k, l] = *tap else { panic!("three axes") };
            let channel = o / per_out * w.shape[1] + c;
            if let (Some(y), Some(z)) = (window.place(0, p, k, x.shape[2]), window.place(1, q, l, x.shape[3]))
            {
                sum += x.at(&[b, channel, y, z]) * w.at(&[o, c, k, l]);
            }
        }
        sum
    })
}

fn conv_transpose(node: &NodeProto, inputs: &[&Array]) -> Array {
    let (x, w, window) = (inputs[0], inputs[1], Window::of(node));
    let extra = ints_of(node, "output_padding").map_or(vec![0; 2], <[i64]>::to_vec);
    let side = |i: usize| {
        let reach = window.dilations[i] * (w.shape[2 + i] as i64 - 1) + 1;
        let spread = window.strides[i] * (x.shape[2 + i] as i64 - 1) + reach + extra[i];
        (spread - window.pads[i] - window.pads[i + 2]) as usize
    };
    let shape = [x.shape[0], w.shape[1] * window.groups, side(0), side(1)];
    let mut y = Array::from_fn(&shape, |_| 0.0);
    let per_in = x.shape[1] / window.groups;
    for index in indices(&x.shape) {
        let [b, c, p, q] = *index else { panic!("four axes") };
        for tap in indices(&w.shape[1..]) {
            let [o, k, l] = *tap else { panic!("three axes") };
            let channel = c / per_in * w.shape[1] + o;
            if let (Some(r), Some(s)) = (window.place(0, p, k, shape[2]), window.place(1, q, l, shape[3])) {
                let flat = ((b * shape[1] + channel) * shape[2] + r) * shape[3] + s;
                y.data[flat] += x.at(&index) * w.at(&[c, o, k, l]);
            }
        }
    }
    y
}

fn reduce_sum(node: &NodeProto, inputs: &[&Array]) -> Array {
    let (x, axes) = (inputs[0], inputs[1].integers());
    let rank = x.shape.len();
    let gone: Vec<bool> =
        (0..rank).map(|axis| axes.iter().any(|&a| a.rem_euclid(rank as i64) as usize == axis)).collect();
    let kept: Vec<usize> = (0..rank).map(|axis| if gone[axis] { 1 } else { x.shape[axis] }).collect();
    let mut sums = Array::from_fn(&kept, |_| 0.0);
    for index in indices(&x.shape) {
        let flat =
            (0..rank).fold(0, |flat, axis| flat * kept[axis] + if gone[axis] { 0 } else { index[axis] });
        sums.data[flat] += x.at(&index);
    }
    if int_of(node, "keepdims", 1) == 0 {
        sums.shape = (0..rank).filter(|&axis| !gone[axis]).map(|axis| x.shape[axis]).collect();
    }
    sums
}

fn reshape(inputs: &[&Array]) -> Array {
    let (x, mut wanted) = (inputs[0], inputs[1].integers());
    for (axis, length) in wanted.iter_mut().enumerate().filter(|(_, length)| **length == 0) {
        *length = x.shape[axis] as i64;
    }
    let known: i64 = wanted.iter().filter(|&&length| length > 0).product();
    let rest = x.data.len() as i64 / known;
    let shape: Vec<usize> =
        wanted.iter().map(|&length| if length < 0 { rest } else { length } as usize).collect();
    Array::new(&shape, x.data.clone())
}

fn transpose(node: &NodeProto, x: &Array) -> Array {
    let reversed: Vec<i64> = (0..x.shape.len() as i64).rev().collect();
    let perm = ints_of(node, "perm").unwrap_or(&reversed);
    let shape: Vec<usize> = perm.iter().map(|&axis| x.shape[axis as usize]).collect();
    Array::from_fn(&shape, |index| {
        let mut source = vec![0; index.len()];
        perm.iter().zip(index).for_each(|(&axis, &i)| source[axis as usize] = i);
        x.at(&source)
    })
}

fn concat(node: &NodeProto, inputs: &[&Array]) -> Array {
    let axis = int_of(node, "axis", 0).rem_euclid(inputs[0].shape.len() as i64) as usize;
    let mut shape = inputs[0].shape.clone();
    shape[axis] = inputs.iter().map(|input| input.shape[axis]).sum();
    Array::from_fn(&shape, |index| {
        let mut index = index.to_vec();
        let input = inputs.iter().find(|input| {
            let inside = index[axis] < input.shape[axis];
            index[axis] -= if inside { 0 } else { input.shape[axis] };
            inside
        });
        input.expect("inside one").at(&index)
    })
}

fn gather(node: &NodeProto, inputs: &[&Array]) -> Array {
    let (x, picked) = (inputs[0], inputs[1].integers());
    let axis = int_of(node, "axis", 0) as usize;
    let mut shape = x.shape.clone();
    shape[axis] = picked.len();
    Array::from_fn(&shape, |index| {
        let mut index = index.to_vec();
        index[axis] = picked[index[axis]] as usize;
        x.at(&index)
    })
}

fn slice(inputs: &[&Array]) -> Array {
    let x = inputs[0];
    let [starts, ends] = [1, 2].map(|i| inputs[i].integers());
    let axes = inputs.get(3).map_or((0..starts.len() as i64).collect(), |axes| axes.integers());
    let steps = inputs.get(4).map_or(vec![1; starts.len()], |steps| steps.integers());
    let mut picked: Vec<Vec<usize>> = x.shape.iter().map(|&length| (0..length).collect()).collect();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = axis.rem_euclid(x.shape.len() as i64) as usize;
        let length = x.shape[axis] as i64;
        let from_end = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
        let (low, high) = if steps[i] > 0 { (0, length) } else { (-1, length - 1) };
        let (mut at, end) = (from_end(starts[i]).clamp(low.max(0), high), from_end(ends[i]).clamp(low, high));
        picked[axis].clear();
        while if steps[i] > 0 { at < end } else { at > end } {
            picked[axis].push(at as usize);
            at += steps[i];
        }
    }
    let shape: Vec<usize> = picked.iter().map(Vec::len).collect();
    Array::from_fn(&shape, |index| {
        let source: Vec<usize> = index.iter().zip(&picked).map(|(&i, places)| places[i]).collect();
        x.at(&source)
    })
}

fn pad(inputs: &[&Array]) -> Array {
    let (x, pads) = (inputs[0], inputs[1].integers());
    let rank = x.shape.len();
    let shape: Vec<usize> =
        (0..rank).map(|axis| (x.shape[axis] as i64 + pads[axis] + pads[rank + axis]) as usize).collect();
    Array::from_fn(&shape, |index| {
        let source: Option<Vec<usize>> = (0..rank)
            .map(|axis| {
                usize::try_from(index[axis] as i64 - pads[axis]).ok().filter(|&at| at < x.shape[axis])
            })
            .collect();
        source.map_or(0.0, |source| x.at(&source))
    })
}

fn split(node: &NodeProto, inputs: &[&Array]) -> Vec<Array> {
    let x = inputs[0];
    let axis = int_of(node, "axis", 0).rem_euclid(x.shape.len() as i64) as usize;
    let lengths = match inputs.get(1) {
        Some(lengths) => lengths.integers(),
        None => vec![(x.shape[axis] / node.output.len()) as i64; node.output.len()],
    };
    let mut start = 0;
    lengths
        .iter()
        .map(|&length| {
            let mut shape = x.shape.clone();
            shape[axis] = length as usize;
            let from = start;
            start += length as usize;
            Array::from_fn(&shape, |index| {
                let mut index = index.to_vec();
                index[axis] += from;
                x.at(&index)
            })
        })
        .collect()
}
