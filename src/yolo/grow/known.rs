//! What a graph's file already says about lengths: entries of shape vectors, and shapes of values.
//!
//! Exporters leave little or much unsimplified, and axes may be free. So everything here is partial:
//! an entry or a length that only a run would tell is none.

use crate::onnx::attributes::{find, int_of, ints_of};
use crate::onnx::proto::{GraphProto, NodeProto, ValueInfoProto};
use crate::onnx::{Links, values, wrapped};

/// Values that are looked through, at most: chains between a constant and its use are short.
const DEPTH: usize = 40;

/// Lengths of a value's axes, as far as they are known.
pub(super) type Lengths = Vec<Option<usize>>;

/// The integers of a vector, as far as they are known.
pub(super) type Entries = Vec<Option<i64>>;

/// A reader of a graph's constants and shapes.
pub(super) struct Known<'a> {
    pub links: Links<'a>,
}

impl<'a> Known<'a> {
    pub fn new(graph: &'a GraphProto) -> Self {
        Known { links: Links::new(graph) }
    }

    /// The integers of a short vector (a scalar counts as one entry) as far as constants make them;
    /// none when even their number is not known.
    pub fn entries(&self, name: &str) -> Option<Entries> {
        self.entries_within(name, DEPTH, false)
    }

    /// `shapes`: whether the shape of a value may be taken for a constant.
    fn entries_within(&self, name: &str, depth: usize, shapes: bool) -> Option<Entries> {
        if let Some(constant) = self.links.constant(name) {
            let float = || -> Option<Vec<i64>> {
                let values = values::to_f32(constant).ok()?;
                values.iter().map(|&v| (v.fract() == 0.0).then_some(v as i64)).collect()
            };
            let integers = match constant.data_type() {
                // Truth values are bytes.
                9 => constant.raw_data.as_ref().map(|raw| raw.iter().map(|&b| i64::from(b)).collect()),
                _ => values::to_i64(constant).ok().or_else(float),
            };
            return integers.map(|values| values.into_iter().map(Some).collect());
        }
        let depth = depth.checked_sub(1)?;
        let node = self.links.producer(name)?;
        let of = |input: usize| self.entries_within(node.input.get(input)?, depth, shapes);
        match node.op_type() {
            "Identity" | "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" => of(0),
            "Concat" => {
                let parts: Option<Vec<_>> = (0..node.input.len()).map(of).collect();
                Some(parts?.concat())
            }
            "Shape" => {
                let lengths = self.lengths_within(&node.input[0], depth);
                // However little is known of a vector's entries, their number is.
                if lengths.as_ref().is_none_or(|lengths| lengths.len() == 1)
                    && let Some(vector) = of(0)
                {
                    return Some(vec![Some(vector.len() as i64)]);
                }
                Some(lengths?.into_iter().map(|l| l.filter(|_| shapes).map(|l| l as i64)).collect())
            }
            "Gather" => {
                let picked = of(1)?;
                let data = of(0);
                let pick = |at: Option<i64>| -> Option<i64> {
                    let data = data.as_ref()?;
                    *data.get(at?.rem_euclid(data.len().max(1) as i64) as usize)?
                };
                Some(picked.into_iter().map(pick).collect())
            }
            "ConstantOfShape" => {
                let count = of(0)?.into_iter().product::<Option<i64>>()?;
                let value = find(node, "value").and_then(|value| value.t.as_ref());
                let value = value.map_or(Some(0), |tensor| values::to_i64(tensor).ok()?.first().copied());
                Some(vec![value; usize::try_from(count).ok().filter(|&count| count <= 64)?])
            }
            "Where" => {
                let (condition, yes, no) = (of(0)?, of(1)?, of(2)?);
                let at = |list: &[Option<i64>], i: usize| list[i.min(list.len() - 1)];
                let count = condition.len().max(yes.len()).max(no.len());
                let known = [&condition, &yes, &no].iter().all(|l| l.len() == count || l.len() == 1);
                known.then(|| {
                    (0..count)
                        .map(|i| match at(&condition, i) {
                            Some(0) => at(&no, i),
                            Some(_) => at(&yes, i),
                            None => None,
                        })
                        .collect()
                })
            }
            "Equal" | "Mul" | "Add" | "Sub" | "Div" => {
                let (a, b) = (of(0)?, of(1)?);
                let count = a.len().max(b.len());
                if [&a, &b].iter().any(|list| list.len() != count && list.len() != 1) {
                    return None;
                }
                let each = |i: usize| {
                    let (a, b) = (a[i.min(a.len() - 1)]?, b[i.min(b.len() - 1)]?);
                    match node.op_type() {
                        "Equal" => Some(i64::from(a == b)),
                        "Mul" => a.checked_mul(b),
                        "Add" => a.checked_add(b),
                        "Div" => a.checked_div(b),
                        _ => a.checked_sub(b),
                    }
                };
                Some((0..count).map(each).collect())
            }
            _ => None,
        }
    }

    /// Axes, sizes and the like: an input since opset 13 or 18, a setting before.
    pub fn list(&self, node: &NodeProto, input: usize, setting: &str) -> Option<Vec<i64>> {
        self.list_within(node, input, setting, DEPTH, false)
    }

    fn list_within(
        &self,
        node: &NodeProto,
        input: usize,
        setting: &str,
        depth: usize,
        shapes: bool,
    ) -> Option<Vec<i64>> {
        if let Some(values) = ints_of(node, setting) {
            return Some(values.to_vec());
        }
        let name = node.input.get(input).filter(|name| !name.is_empty())?;
        self.entries_within(name, depth, shapes)?.into_iter().collect()
    }

    /// Lengths of a value's axes; none when even their number is not known.
    pub fn lengths(&self, name: &str) -> Option<Lengths> {
        self.lengths_within(name, DEPTH)
    }

    fn lengths_within(&self, name: &str, depth: usize) -> Option<Lengths> {
        let graph = self.links.graph();
        let told = [&graph.value_info, &graph.output, &graph.input];
        if let Some(info) = told.into_iter().flatten().find(|info| info.name() == name)
            && let Some(lengths) = told_lengths(info)
        {
            return Some(lengths);
        }
        if let Some(constant) = self.links.constant(name) {
            return Some(values::dims(constant).ok()?.into_iter().map(Some).collect());
        }
        let depth = depth.checked_sub(1)?;
        let node = self.links.producer(name)?;
        let of = |input: usize| self.lengths_within(node.input.get(input)?, depth);
        let list = |input: usize, setting: &str| self.list_within(node, input, setting, depth, true);
        match node.op_type() {
            "Conv" => {
                let kernel = self.lengths_within(node.input.get(1)?, depth)?;
                let mut lengths = vec![None; kernel.len()];
                *lengths.get_mut(1)? = kernel[0];
                Some(lengths)
            }
            "Identity" | "Cast" | "Sigmoid" | "Softmax" | "Relu" | "Clip" | "Exp" | "Sqrt" | "Neg" => of(0),
            // An operand of which nothing is known is taken to fit the other.
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => match (of(0), of(1)) {
                (Some(a), Some(b)) => Some(broadcast(&a, &b)),
                (a, b) => a.or(b),
            },
            "Reshape" => {
                let entries = self.entries_within(node.input.get(1)?, depth, true)?;
                let from = of(0);
                let length = |(axis, entry): (usize, Option<i64>)| match entry {
                    Some(0) => *from.as_ref()?.get(axis)?,
                    Some(length) => usize::try_from(length).ok(),
                    None => None,
                };
                Some(entries.into_iter().enumerate().map(length).collect())
            }
            "Transpose" => {
                let from = of(0)?;
                match ints_of(node, "perm") {
                    Some(perm) => {
                        perm.iter().map(|&axis| from.get(usize::try_from(axis).ok()?).copied()).collect()
                    }
                    None => Some(from.into_iter().rev().collect()),
                }
            }
            "Concat" => {
                let parts: Option<Vec<Lengths>> = (0..node.input.len()).map(of).collect();
                let parts = parts?;
                let rank = parts.first()?.len();
                let axis = wrapped(int_of(node, "axis", 0), rank)?;
                if parts.iter().any(|part| part.len() != rank) {
                    return None;
                }
                let length = |i: usize| match i == axis {
                    true => parts.iter().map(|part| part[i]).sum(),
                    false => parts.iter().find_map(|part| part[i]),
                };
                Some((0..rank).map(length).collect())
            }
            "Split" => {
                let mut lengths = of(0)?;
                let axis = wrapped(int_of(node, "axis", 0), lengths.len())?;
                let part = node.output.iter().position(|output| output == name)?;
                let parts = node.output.len();
                lengths[axis] = match list(1, "split") {
                    Some(sizes) => usize::try_from(*sizes.get(part)?).ok(),
                    None => lengths[axis].filter(|length| length.is_multiple_of(parts)).map(|l| l / parts),
                };
                Some(lengths)
            }
            "Slice" => {
                let mut lengths = of(0)?;
                let (starts, ends) = (list(1, "starts")?, list(2, "ends")?);
                let axes = list(3, "axes").unwrap_or_else(|| (0..starts.len() as i64).collect());
                let plain = list(4, "steps").is_none_or(|steps| steps.iter().all(|&step| step == 1));
                for ((&start, &end), &axis) in starts.iter().zip(&ends).zip(&axes) {
                    let axis = wrapped(axis, lengths.len())?;
                    lengths[axis] = lengths[axis].filter(|_| plain).map(|length| {
                        let at = |p: i64| {
                            let p = if p < 0 { p.saturating_add(length as i64) } else { p };
                            p.clamp(0, length as i64) as usize
                        };
                        at(end).saturating_sub(at(start))
                    });
                }
                Some(lengths)
            }
            "Unsqueeze" => {
                let mut lengths = of(0)?;
                let axes = list(1, "axes")?;
                let rank = lengths.len() + axes.len();
                let mut axes: Vec<usize> =
                    axes.iter().map(|&axis| wrapped(axis, rank)).collect::<Option<_>>()?;
                axes.sort_unstable();
                for axis in axes {
                    lengths.insert(axis.min(lengths.len()), Some(1));
                }
                Some(lengths)
            }
            _ => None,
        }
    }
}

fn told_lengths(info: &ValueInfoProto) -> Option<Lengths> {
    let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    Some(
        shape
            .dim
            .iter()
            .map(|dim| {
                dim.dim_value.and_then(|v| usize::try_from(v).ok()).filter(|_| dim.dim_param.is_none())
            })
            .collect(),
    )
}

/// Two partly known shapes: a length of 1 gives way, an unknown one may be either.
fn broadcast(a: &Lengths, b: &Lengths) -> Lengths {
    let rank = a.len().max(b.len());
    let at = |lengths: &Lengths, i: usize| match (i + lengths.len()).checked_sub(rank) {
        Some(own) => lengths[own],
        None => Some(1),
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (Some(1), other) | (other, Some(1)) => other,
            (known @ Some(_), _) | (_, known) => known,
        })
        .collect()
}
