//! Shapes of an operator's outputs from the shapes of its inputs.
//!
//! Covers the operators that heads consist of and that graftd writes; shapes are static. Source:
//! the ONNX operator specification, opset 17.

use super::OnnxError;
use super::attributes::{int_of, ints_of, string_of};
use super::proto::NodeProto;

/// An axis that may count from the end; none when there is no such axis.
pub(crate) fn wrapped(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

/// Shapes of the node's outputs.
///
/// `shapes` holds the shape of each input (empty for an absent one); `constant` gives the values of
/// a constant integer input by name.
///
/// # Errors
/// When the operator is not known here, an input is missing or the shapes don't fit: the message
/// names the node and the shapes.
pub fn infer_shapes(
    node: &NodeProto,
    shapes: &[Vec<usize>],
    constant: &dyn Fn(&str) -> Option<Vec<i64>>,
) -> Result<Vec<Vec<usize>>, OnnxError> {
    let inference = Inference { node, shapes, constant };
    let single = |shape: Result<Vec<usize>, OnnxError>| shape.map(|shape| vec![shape]);
    match node.op_type() {
        "Abs" | "Cast" | "Clip" | "Exp" | "HardSigmoid" | "HardSwish" | "Identity" | "LeakyRelu" | "Log"
        | "Neg" | "Reciprocal" | "Relu" | "Sigmoid" | "Sign" | "Softmax" | "Softplus" | "Sqrt" | "Tanh"
        | "BatchNormalization" => single(inference.input(0).map(<[usize]>::to_vec)),
        "Add" | "Sub" | "Mul" | "Div" => single(inference.input(1).and_then(|_| inference.broadcast_all())),
        "Pow" | "Min" | "Max" | "Greater" | "Less" | "Equal" | "Where" => single(inference.broadcast_all()),
        "Conv" => single(inference.conv()),
        "ConvTranspose" => single(inference.conv_transpose()),
        "MaxPool" | "AveragePool" => single(inference.pool()),
        "GlobalAveragePool" => single(inference.global_pool()),
        "MatMul" => single(inference.matmul()),
        "Reshape" => single(inference.reshape()),
        "Transpose" => single(inference.transpose()),
        "Concat" => single(inference.concat()),
        "Gather" => single(inference.gather()),
        "Slice" => single(inference.slice()),
        "Pad" => single(inference.pad()),
        "ReduceSum" => single(inference.reduce()),
        "Unsqueeze" => single(inference.unsqueeze()),
        "Expand" => single(inference.expand()),
        "Resize" => single(inference.resize()),
        "Split" => inference.split(),
        other => Err(inference.bad(&format!("the shape rule of {other} is not known"))),
    }
}

/// The shape that two operands broadcast to (ONNX: multidirectional, as numpy).
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let axis = |shape: &[usize], index: usize| match (index + shape.len()).checked_sub(rank) {
        Some(own) => shape[own],
        None => 1,
    };
    (0..rank)
        .map(|index| match (axis(a, index), axis(b, index)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

struct Inference<'a> {
    node: &'a NodeProto,
    shapes: &'a [Vec<usize>],
    constant: &'a dyn Fn(&str) -> Option<Vec<i64>>,
}

impl Inference<'_> {
    fn bad(&self, reason: &str) -> OnnxError {
        OnnxError::invalid(format!(
            "node {:?} ({} of {:?}): {reason}",
            self.node.name(),
            self.node.op_type(),
            self.shapes
        ))
    }

    fn input(&self, index: usize) -> Result<&[usize], OnnxError> {
        self.shapes
            .get(index)
            .map(Vec::as_slice)
            .ok_or_else(|| self.bad(&format!("input {index} is missing")))
    }

    fn ints(&self, index: usize) -> Result<Vec<i64>, OnnxError> {
        self.optional_ints(index)
            .ok_or_else(|| self.bad(&format!("input {index} must be a constant list of integers")))
    }

    fn optional_ints(&self, index: usize) -> Option<Vec<i64>> {
        self.node.input.get(index).filter(|name| !name.is_empty()).and_then(|name| (self.constant)(name))
    }

    fn axis(&self, axis: i64, rank: usize) -> Result<usize, OnnxError> {
        wrapped(axis, rank).ok_or_else(|| self.bad(&format!("there is no axis {axis}")))
    }

    fn broadcast_all(&self) -> Result<Vec<usize>, OnnxError> {
        self.shapes.iter().try_fold(Vec::new(), |shape, input| {
            broadcast(&shape, input).ok_or_else(|| self.bad("the shapes don't broadcast"))
        })
    }

    /// Kernel, strides, dilations and pads (begin of each axis, then end) of a windowed operator.
    fn window(&self, kernel: &[usize]) -> Result<Window, OnnxError> {
        let node = self.node;
        if !matches!(string_of(node, "auto_pad"), None | Some("NOTSET")) {
            return Err(self.bad("auto_pad is not supported"));
        }
        let rank = kernel.len();
        let list = |name: &str, default: i64, count: usize| -> Result<Vec<usize>, OnnxError> {
            let values = ints_of(node, name).map_or(vec![default; count], <[i64]>::to_vec);
            let values: Vec<usize> = values.iter().filter_map(|&value| usize::try_from(value).ok()).collect();
            if values.len() == count { Ok(values) } else { Err(self.bad(&format!("bad {name}"))) }
        };
        let window = Window {
            kernel: kernel.to_vec(),
            strides: list("strides", 1, rank)?,
            dilations: list("dilations", 1, rank)?,
            pads: list("pads", 0, 2 * rank)?,
        };
        let (steps, all) = (window.strides.iter().chain(&window.dilations).chain(kernel), &window.pads);
        if steps.clone().any(|&step| step == 0) || steps.chain(all).any(|&number| number > LONGEST) {
            return Err(self.bad("a side, stride, dilation or pad is out of range"));
        }
        Ok(window)
    }

    fn group(&self) -> Result<usize, OnnxError> {
        let group = usize::try_from(int_of(self.node, "group", 1)).ok();
        group.filter(|group| (1..=LONGEST).contains(group)).ok_or_else(|| self.bad("group is out of range"))
    }

    fn conv(&self) -> Result<Vec<usize>, OnnxError> {
        let (x, w) = (self.input(0)?, self.input(1)?);
        let group = self.group()?;
        if x.len() < 3 || x.len() != w.len() || x[1] != w[1] * group {
            return Err(self.bad("the kernel does not fit the input"));
        }
        let spatial = self.window(&w[2..])?.slide(&x[2..]).ok_or_else(|| self.bad("kernel too large"))?;
        Ok([&[x[0], w[0]], spatial.as_slice()].concat())
    }

    fn conv_transpose(&self) -> Result<Vec<usize>, OnnxError> {
        let (x, w) = (self.input(0)?, self.input(1)?);
        let group = self.group()?;
        if x.len() < 3 || x.len() != w.len() || x[1] != w[0] {
            return Err(self.bad("the kernel does not fit the input"));
        }
        let window = self.window(&w[2..])?;
        let extra = ints_of(self.node, "output_padding").map_or(vec![0; w.len() - 2], <[i64]>::to_vec);
        let spatial: Option<Vec<usize>> = (0..w.len() - 2)
            .map(|i| {
                let full = window.strides[i] * (x[2 + i] - 1)
                    + extra[i] as usize
                    + (window.kernel[i] - 1) * window.dilations[i]
                    + 1;
                full.checked_sub(window.pads[i] + window.pads[w.len() - 2 + i])
            })
            .collect();
        let spatial = spatial.ok_or_else(|| self.bad("pads are larger than the output"))?;
        Ok([&[x[0], w[1] * group], spatial.as_slice()].concat())
    }

    fn pool(&self) -> Result<Vec<usize>, OnnxError> {
        let x = self.input(0)?;
        if int_of(self.node, "ceil_mode", 0) != 0 {
            return Err(self.bad("ceil_mode is not supported"));
        }
        let kernel: Vec<usize> = ints_of(self.node, "kernel_shape")
            .ok_or_else(|| self.bad("kernel_shape is missing"))?
            .iter()
            .map(|&side| side as usize)
            .collect();
        if x.len() != kernel.len() + 2 {
            return Err(self.bad("the kernel does not fit the input"));
        }
        let spatial = self.window(&kernel)?.slide(&x[2..]).ok_or_else(|| self.bad("kernel too large"))?;
        Ok([&x[..2], spatial.as_slice()].concat())
    }

    fn global_pool(&self) -> Result<Vec<usize>, OnnxError> {
        let x = self.input(0)?;
        Ok(x.iter().enumerate().map(|(axis, &length)| if axis < 2 { length } else { 1 }).collect())
    }

    fn matmul(&self) -> Result<Vec<usize>, OnnxError> {
        let (a, b) = (self.input(0)?, self.input(1)?);
        if a.len() < 2 || b.len() < 2 || a[a.len() - 1] != b[b.len() - 2] {
            return Err(self.bad("the inner lengths differ"));
        }
        let mut shape = broadcast(&a[..a.len() - 2], &b[..b.len() - 2])
            .ok_or_else(|| self.bad("the outer axes don't broadcast"))?;
        shape.extend([a[a.len() - 2], b[b.len() - 1]]);
        Ok(shape)
    }

    fn reshape(&self) -> Result<Vec<usize>, OnnxError> {
        let x = self.input(0)?;
        let wanted = self.ints(1)?;
        let count: usize = x.iter().product();
        let mut shape = Vec::with_capacity(wanted.len());
        for (index, &length) in wanted.iter().enumerate() {
            shape.push(match length {
                0 if int_of(self.node, "allowzero", 0) == 0 => {
                    *x.get(index).ok_or_else(|| self.bad("0 has no axis to copy"))?
                }
                -1 => 1,
                length => usize::try_from(length).map_err(|_| self.bad("negative length"))?,
            });
        }
        if let Some(open) = wanted.iter().position(|&length| length == -1) {
            let rest: usize = shape.iter().product();
            if rest == 0 || !count.is_multiple_of(rest) {
                return Err(self.bad(&format!("can't become {wanted:?}")));
            }
            shape[open] = count / rest;
        }
        if shape.iter().product::<usize>() == count {
            Ok(shape)
        } else {
            Err(self.bad(&format!("can't become {wanted:?}")))
        }
    }

    fn gather(&self) -> Result<Vec<usize>, OnnxError> {
        let (data, indices) = (self.input(0)?, self.input(1)?);
        let axis = int_of(self.node, "axis", 0).rem_euclid(data.len().max(1) as i64) as usize;
        if axis >= data.len() {
            return Err(self.bad("its axis is not there"));
        }
        Ok([&data[..axis], indices, &data[axis + 1..]].concat())
    }

    fn transpose(&self) -> Result<Vec<usize>, OnnxError> {
        let x = self.input(0)?;
        match ints_of(self.node, "perm") {
            None => Ok(x.iter().rev().copied().collect()),
            Some(perm) if (0..x.len() as i64).all(|axis| perm.contains(&axis)) && perm.len() == x.len() => {
                Ok(perm.iter().map(|&axis| x[axis as usize]).collect())
            }
            Some(_) => Err(self.bad("perm is no order of the axes")),
        }
    }

    fn concat(&self) -> Result<Vec<usize>, OnnxError> {
        let mut shape = self.input(0)?.to_vec();
        let axis = self.axis(int_of(self.node, "axis", 0), shape.len())?;
        for other in &self.shapes[1..] {
            let fits = other.len() == shape.len()
                && (0..shape.len()).all(|index| index == axis || other[index] == shape[index]);
            if !fits {
                return Err(self.bad("the shapes differ beside the axis"));
            }
            shape[axis] += other[axis];
        }
        Ok(shape)
    }

    fn slice(&self) -> Result<Vec<usize>, OnnxError> {
        let mut shape = self.input(0)?.to_vec();
        let (starts, ends) = (self.ints(1)?, self.ints(2)?);
        let axes = self.optional_ints(3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.optional_ints(4).unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(self.bad("starts, ends, axes and steps differ in length"));
        }
        for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let axis = self.axis(axis, shape.len())?;
            let length = shape[axis] as i64;
            let wrap = |position: i64| if position < 0 { position.saturating_add(length) } else { position };
            let taken = match step {
                1.. => (wrap(end).clamp(0, length) - wrap(start).clamp(0, length) + step - 1) / step,
                ..=-1 => {
                    (wrap(start).clamp(-1, length - 1) - wrap(end).clamp(-1, length - 1) - step - 1) / -step
                }
                0 => return Err(self.bad("a step is 0")),
            };
            shape[axis] = taken.max(0) as usize;
        }
        Ok(shape)
    }

    fn pad(&self) -> Result<Vec<usize>, OnnxError> {
        let x = self.input(0)?;
        let pads = self.ints(1)?;
        if pads.len() != 2 * x.len() {
            return Err(self.bad("pads must hold two numbers for each axis"));
        }
        (0..x.len())
            .map(|axis| usize::try_from(x[axis] as i64 + pads[axis] + pads[axis + x.len()]))
            .collect::<Result<_, _>>()
            .map_err(|_| self.bad("pads take away more than there is"))
    }

    fn reduce(&self) -> Result<Vec<usize>, OnnxError> {
        let x = self.input(0)?;
        let axes = match self.optional_ints(1) {
            Some(axes) => axes.iter().map(|&axis| self.axis(axis, x.len())).collect::<Result<Vec<_>, _>>()?,
            None => (0..x.len()).collect(),
        };
        let keep = int_of(self.node, "keepdims", 1) != 0;
        Ok((0..x.len())
            .filter_map(|axis| match axes.contains(&axis) {
                true => keep.then_some(1),
                false => Some(x[axis]),
            })
            .collect())
    }

    fn unsqueeze(&self) -> Result<Vec<usize>, OnnxError> {
        let mut shape = self.input(0)?.to_vec();
        let axes = self.ints(1)?;
        let rank = shape.len() + axes.len();
        let mut axes = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        for axis in axes {
            shape.insert(axis, 1);
        }
        Ok(shape)
    }

    fn expand(&self) -> Result<Vec<usize>, OnnxError> {
        let wanted: Vec<usize> = self.ints(1)?.iter().map(|&length| length as usize).collect();
        broadcast(self.input(0)?, &wanted).ok_or_else(|| self.bad(&format!("can't expand to {wanted:?}")))
    }

    fn resize(&self) -> Result<Vec<usize>, OnnxError> {
        // Sizes, unlike scales, are integers and so can be read here.
        let sizes = self.ints(3)?;
        Ok(sizes.iter().map(|&length| length as usize).collect())
    }

    fn split(&self) -> Result<Vec<Vec<usize>>, OnnxError> {
        let x = self.input(0)?;
        let axis = self.axis(int_of(self.node, "axis", 0), x.len())?;
        let parts = self.node.output.len();
        let lengths: Vec<usize> = match self.optional_ints(1) {
            Some(lengths) => lengths.iter().map(|&length| length as usize).collect(),
            None if x[axis].is_multiple_of(parts) => vec![x[axis] / parts; parts],
            None => return Err(self.bad("the axis can't be split evenly")),
        };
        if lengths.len() != parts || lengths.iter().sum::<usize>() != x[axis] {
            return Err(self.bad("the parts don't add up to the axis"));
        }
        Ok(lengths
            .iter()
            .map(|&length| {
                let mut shape = x.to_vec();
                shape[axis] = length;
                shape
            })
            .collect())
    }
}

/// Sides, strides, dilations and pads of a window, at most: their products must not overflow.
const LONGEST: usize = 1 << 20;

struct Window {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
}

impl Window {
    /// Positions of the window along each axis; none when it is larger than the padded input.
    fn slide(&self, spatial: &[usize]) -> Option<Vec<usize>> {
        let rank = self.kernel.len();
        (0..rank)
            .map(|i| {
                let padded = spatial[i] + self.pads[i] + self.pads[rank + i];
                let reach = self.dilations[i] * (self.kernel[i] - 1) + 1;
                padded.checked_sub(reach).map(|room| room / self.strides[i] + 1)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::attributes::{int, ints};

    fn node(op: &str, inputs: &[&str], attributes: Vec<crate::onnx::proto::AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec!["y".into()],
            attribute: attributes,
            ..Default::default()
        }
    }

    #[test]
    fn convolution_shapes_follow_the_specification() {
        let conv = node("Conv", &["x", "w"], vec![ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])]);
        let shapes = infer_shapes(&conv, &[vec![2, 4, 7, 8], vec![6, 4, 3, 3]], &|_| None).unwrap();
        assert_eq!(shapes, [vec![2, 6, 4, 4]]);
        let grouped = node("Conv", &["x", "w"], vec![int("group", 4)]);
        let error = infer_shapes(&grouped, &[vec![2, 4, 7, 8], vec![6, 4, 3, 3]], &|_| None).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{error}");
    }

    #[test]
    fn settings_that_no_convolution_has_are_refused() {
        for attribute in [
            ints("strides", &[0, 1]),
            ints("dilations", &[1, 1 << 40]),
            ints("pads", &[0, 0, 0, i64::MAX]),
            int("group", 0),
            int("group", -1),
        ] {
            let conv = node("Conv", &["x", "w"], vec![attribute]);
            assert!(infer_shapes(&conv, &[vec![1, 4, 7, 8], vec![6, 4, 3, 3]], &|_| None).is_err());
        }
        let transpose = node("Transpose", &["x"], vec![ints("perm", &[0, 0])]);
        assert!(infer_shapes(&transpose, &[vec![2, 3]], &|_| None).is_err());
        assert!(infer_shapes(&node("Add", &["x"], vec![]), &[vec![2]], &|_| None).is_err());
    }

    #[test]
    fn slices_count_backwards_too() {
        let constants = |name: &str| -> Option<Vec<i64>> {
            Some(match name {
                "starts" => vec![-1, 1],
                "ends" => vec![i64::MIN, 6],
                "axes" => vec![0, 1],
                _ => vec![-1, 2],
            })
        };
        let slice = node("Slice", &["x", "starts", "ends", "axes", "steps"], vec![]);
        assert_eq!(infer_shapes(&slice, &[vec![5, 7]], &constants).unwrap(), [vec![5, 3]]);
    }

    #[test]
    fn broadcasting_is_multidirectional() {
        assert_eq!(broadcast(&[3, 1, 5], &[4, 1]), Some(vec![3, 4, 5]));
        assert_eq!(broadcast(&[2], &[3]), None);
    }
}
