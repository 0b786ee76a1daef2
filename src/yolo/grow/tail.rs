//! Follows the classes from the raw maps to the end of the graph and finds every number that has to
//! change with them.
//!
//! What an exporter puts behind a head differs from release to release: joins with the boxes, splits,
//! transpositions, suppression, top-k selections. So nothing here knows a whole tail. One rule per
//! operator says on which axis of its outputs the classes lie, and which of its constants count them.
//! An operator without a rule is a reason to refuse: a wrong file is worse than none.

use std::collections::HashMap;

use crate::onnx::attributes::{find, int_of, ints_of};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::wrapped;

use super::axis::{ClassAxis, Counts};
use super::edits::{Edits, names_read_in_bodies};
use super::known::Known;

/// How a value depends on the number of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    /// One of its axes has them.
    Classes(ClassAxis),
    /// It holds positions on a shared axis: cell · classes + class.
    Positions,
}

/// The values behind the raw class maps and the changes that they need.
pub(super) struct Tail<'a> {
    known: Known<'a>,
    counts: Counts,
    /// Values with classes on an axis, or positions among them.
    pub carried: HashMap<&'a str, Carried>,
    /// What to change.
    pub edits: Edits,
}

/// Why the tail can't be made to hold another number: what could not be followed.
type Unknown = String;

impl<'a> Tail<'a> {
    /// Follows the classes from these raw maps on.
    ///
    /// # Errors
    /// The reason, as a part of a sentence.
    pub fn follow(graph: &'a GraphProto, maps: &[&'a str], counts: Counts) -> Result<Self, Unknown> {
        let carried =
            maps.iter().map(|&map| (map, Carried::Classes(ClassAxis::of_map()))).collect::<HashMap<_, _>>();
        let mut tail = Tail { known: Known::new(graph), counts, carried, edits: Edits::default() };
        for (index, node) in graph.node.iter().enumerate() {
            if node.input.iter().any(|name| tail.carried.contains_key(name.as_str())) {
                tail.node(index)
                    .map_err(|reason| format!("its node {:?} ({}) {reason}", node.name(), node.op_type()))?;
            }
        }
        if let Some(name) = names_read_in_bodies(graph).iter().find(|n| tail.carried.contains_key(n.as_str()))
        {
            return Err(format!("a branch or loop inside it reads {name:?}"));
        }
        Ok(tail)
    }

    fn node(&mut self, index: usize) -> Result<(), Unknown> {
        let node = &self.known.links.graph().node[index];
        if !matches!(node.domain.as_deref(), None | Some("" | "ai.onnx")) {
            return Err("is of no standard kind".into());
        }
        if node.input.iter().any(|name| self.carried.get(name.as_str()) == Some(&Carried::Positions)) {
            return self.positions(index);
        }
        match node.op_type() {
            "Identity" | "Cast" | "Sigmoid" | "HardSigmoid" | "Clip" | "Relu" | "Exp" | "Log" | "Sqrt"
            | "Neg" | "Not" => self.keep(index),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Greater" | "GreaterOrEqual" | "Less"
            | "LessOrEqual" | "Equal" | "And" | "Or" | "Where" => self.elementwise(index),
            "Reshape" => self.reshape(index),
            "Flatten" => self.flatten(index),
            "Transpose" => self.transpose(index),
            "Concat" => self.concat(index),
            "Slice" => self.slice(index),
            "Split" => self.split(index),
            "Unsqueeze" | "Squeeze" => self.squeeze(index),
            "Expand" => self.expand(index),
            "ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceMean" | "ArgMax" => self.reduce(index),
            "TopK" => self.top_k(index),
            "Gather" => self.gather(index),
            "GatherElements" => self.gather_elements(index),
            // What these write are lengths and places as they are found when the graph runs.
            "Shape" | "Size" | "NonZero" | "NonMaxSuppression" => Ok(()),
            _ => Err("is not known here".into()),
        }
    }

    fn at(&self, index: usize) -> &'a NodeProto {
        &self.known.links.graph().node[index]
    }

    /// The class axis of an input.
    fn axis(&self, index: usize, input: usize) -> Option<ClassAxis> {
        match self.carried.get(self.at(index).input.get(input)?.as_str())? {
            Carried::Classes(axis) => Some(*axis),
            Carried::Positions => None,
        }
    }

    /// The class axis of the first input, which the operator works on.
    fn data(&self, index: usize) -> Result<ClassAxis, Unknown> {
        self.axis(index, 0).ok_or_else(|| "takes classes where it should take settings".into())
    }

    fn set(&mut self, index: usize, output: usize, carried: Carried) {
        if let Some(name) = self.at(index).output.get(output).filter(|name| !name.is_empty()) {
            self.carried.insert(name.as_str(), carried);
        }
    }

    fn keep(&mut self, index: usize) -> Result<(), Unknown> {
        let axis = self.data(index)?;
        self.set(index, 0, Carried::Classes(axis));
        Ok(())
    }

    /// Positions on a shared axis: their remainder is the class, their quotient the cell.
    fn positions(&mut self, index: usize) -> Result<(), Unknown> {
        let node = self.at(index);
        match node.op_type() {
            "Identity" | "Cast" | "Unsqueeze" | "Squeeze" => self.set(index, 0, Carried::Positions),
            "Shape" => {}
            // With one class, positions are cells, and exporters leave the division out.
            "GatherElements" if self.counts.old == 1 && self.axis(index, 0).is_none() => {
                self.edits.divide((index, 1), self.counts.new as i64);
            }
            "Mod" | "Div" => {
                let by = self.known.entries(&node.input[1]).unwrap_or_default();
                match by.as_slice() {
                    [Some(count)] if *count == self.counts.old as i64 => {
                        self.edits.entry((index, 1), 0, self.counts.new as i64, 1);
                    }
                    // Read from a shape when the graph runs, so it is right by itself.
                    [None] => {}
                    _ => return Err("divides positions by something else than the number of classes".into()),
                }
            }
            _ => return Err("computes with positions among classes in an unknown way".into()),
        }
        Ok(())
    }

    fn elementwise(&mut self, index: usize) -> Result<(), Unknown> {
        let node = self.at(index);
        let axes: Vec<ClassAxis> =
            (0..node.input.len()).filter_map(|input| self.axis(index, input)).collect();
        let axis = axes[0];
        if axes.iter().any(|other| *other != axis) {
            return Err("joins values whose classes lie on different axes".into());
        }
        for (input, name) in node.input.iter().enumerate() {
            if self.axis(index, input).is_some() {
                continue;
            }
            let Some(lengths) = self.known.lengths(name) else { continue };
            let there = (axis.axis + lengths.len()).checked_sub(axis.rank).map(|own| lengths[own]);
            if lengths.len() > axis.rank || there.flatten().is_some_and(|length| length > 1) {
                return Err("has a number for each class".into());
            }
        }
        self.set(index, 0, Carried::Classes(axis));
        Ok(())
    }

    fn reshape(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let entries = self.known.entries(&node.input[1]).ok_or("has a shape that can't be read")?;
        let lengths = self.known.lengths(&node.input[0]).unwrap_or_else(|| vec![None; from.rank]);
        let copies = int_of(node, "allowzero", 0) == 0;
        let same = |axis: usize| match (entries[axis], lengths.get(axis).copied().flatten()) {
            (Some(0), _) => copies,
            (Some(length), Some(known)) => length == known as i64 || length == -1,
            _ => true,
        };
        let total = from.length(self.counts.old) as i64;
        let leading = !from.flat && entries.len() > from.axis && (0..from.axis).all(same);
        let to = match entries.get(from.axis) {
            Some(Some(length)) if leading && *length == total => {
                let length = from.length(self.counts.new) as i64;
                self.edits.entry((index, 1), from.axis, length, entries.len());
                ClassAxis { rank: entries.len(), ..from }
            }
            Some(None) if leading => ClassAxis { rank: entries.len(), ..from },
            Some(Some(0)) if leading && copies => ClassAxis { rank: entries.len(), ..from },
            // Cells and classes come to share the last axis.
            _ if from.is_minor() && !from.flat && !entries.is_empty() && entries.len() < from.rank => {
                let last = entries.len() - 1;
                let flat = ClassAxis { rank: entries.len(), axis: last, flat: true, ..from };
                if let Some(length) = entries[last].filter(|&length| length > 0) {
                    let length = flat.resized(length as usize, self.counts).ok_or("has an unknown shape")?;
                    self.edits.entry((index, 1), last, length as i64, entries.len());
                }
                flat
            }
            _ => return Err("mixes classes with other channels".into()),
        };
        self.set(index, 0, Carried::Classes(to));
        Ok(())
    }

    fn flatten(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let split = wrapped(int_of(self.at(index), "axis", 1), from.rank).unwrap_or(from.rank);
        if !from.is_minor() || split > from.axis {
            return Err("mixes classes with other channels".into());
        }
        let flat = from.flat || split < from.axis;
        self.set(index, 0, Carried::Classes(ClassAxis { rank: 2, axis: 1, flat, ..from }));
        Ok(())
    }

    fn transpose(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let axis = match ints_of(self.at(index), "perm") {
            Some(perm) => perm.iter().position(|&axis| axis == from.axis as i64),
            None => Some(from.rank - 1 - from.axis),
        };
        let axis = axis.ok_or("has an impossible order of axes")?;
        self.set(index, 0, Carried::Classes(ClassAxis { axis, ..from }));
        Ok(())
    }

    fn concat(&mut self, index: usize) -> Result<(), Unknown> {
        let node = self.at(index);
        let axes: Vec<Option<ClassAxis>> =
            (0..node.input.len()).map(|input| self.axis(index, input)).collect();
        let Some(first) = axes.iter().position(Option::is_some) else { return Ok(()) };
        let Some(mut joined) = axes[first] else { return Ok(()) };
        let axis = wrapped(int_of(node, "axis", 0), joined.rank).ok_or("joins along no axis of its input")?;
        if axis != joined.axis {
            if axes.iter().any(|other| *other != Some(joined)) {
                return Err("joins classes with something else".into());
            }
        } else {
            if axes.iter().flatten().count() > 1 || joined.flat {
                return Err("joins classes with classes".into());
            }
            for (input, name) in node.input.iter().enumerate().filter(|&(input, _)| input != first) {
                let lengths = self.known.lengths(name).filter(|lengths| lengths.len() == joined.rank);
                let length = lengths.and_then(|lengths| lengths[axis]);
                let length = length.ok_or("joins classes with an unknown number of channels")?;
                *(if input < first { &mut joined.before } else { &mut joined.after }) += length;
            }
        }
        self.set(index, 0, Carried::Classes(joined));
        Ok(())
    }

    fn slice(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let of = |input: usize| node.input.get(input).and_then(|name| self.known.entries(name));
        let (starts, ends) = of(1).zip(of(2)).ok_or("has boundaries that can't be read")?;
        let axes = match node.input.get(3).filter(|name| !name.is_empty()) {
            Some(_) => of(3).ok_or("has axes that can't be read")?,
            None => (0..starts.len() as i64).map(Some).collect(),
        };
        let place =
            axes.iter().position(|axis| wrapped(axis.unwrap_or(i64::MAX), from.rank) == Some(from.axis));
        let Some(place) = place else { return self.keep(index) };
        let step = of(4).map_or(Some(1), |steps| *steps.get(place)?);
        let boundaries = starts.get(place).copied().flatten().zip(ends.get(place).copied().flatten());
        let (Some((start, end)), Some(1), false) = (boundaries, step, from.flat) else {
            return Err("cuts classes in an unknown way".into());
        };
        for (input, position) in [(1, start), (2, end)] {
            let moved = from.moved(position, self.counts).ok_or("parts the classes")?;
            if moved != position {
                self.edits.entry((index, input), place, moved, starts.len());
            }
        }
        let total = from.length(self.counts.old) as i64;
        let absolute = |position: i64| {
            let position = if position < 0 { position.saturating_add(total) } else { position };
            position.clamp(0, total) as usize
        };
        if let Some(part) = from.part(absolute(start), absolute(end), self.counts) {
            self.set(index, 0, Carried::Classes(part));
        }
        Ok(())
    }

    fn split(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let axis = wrapped(int_of(node, "axis", 0), from.rank).ok_or("splits no axis of its input")?;
        if axis != from.axis {
            for output in 0..node.output.len() {
                self.set(index, output, Carried::Classes(from));
            }
            return Ok(());
        }
        let sizes = self.known.list(node, 1, "split").ok_or("splits classes into equal parts")?;
        let mut start = 0;
        for (output, &size) in sizes.iter().enumerate() {
            let size = usize::try_from(size).map_err(|_| "has a negative size")?;
            let end = start + size;
            match from.part(start, end, self.counts) {
                Some(part) => {
                    let length = part.length(self.counts.new) as i64;
                    match find(node, "split") {
                        Some(_) => self.edits.setting(index, "split", output, length),
                        None => self.edits.entry((index, 1), output, length, sizes.len()),
                    }
                    self.set(index, output, Carried::Classes(part));
                }
                None if end <= from.before || start >= from.before + self.counts.old => {}
                None => return Err("parts the classes".into()),
            }
            start = end;
        }
        Ok(())
    }

    fn squeeze(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let axes = self.known.list(node, 1, "axes").ok_or("has axes that can't be read")?;
        let adds = node.op_type() == "Unsqueeze";
        let rank = if adds { from.rank + axes.len() } else { from.rank };
        let axes: Option<Vec<usize>> = axes.iter().map(|&axis| wrapped(axis, rank)).collect();
        let axes = axes.ok_or("has impossible axes")?;
        let to = if adds {
            let axis = (0..rank).filter(|axis| !axes.contains(axis)).nth(from.axis);
            ClassAxis { rank, axis: axis.ok_or("has impossible axes")?, ..from }
        } else if axes.contains(&from.axis) {
            return Err("drops the axis of the classes".into());
        } else {
            let before = axes.iter().filter(|&&axis| axis < from.axis).count();
            ClassAxis { rank: rank - axes.len(), axis: from.axis - before, ..from }
        };
        self.set(index, 0, Carried::Classes(to));
        Ok(())
    }

    fn expand(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let entries = self.known.entries(&self.at(index).input[1]).ok_or("has a shape that can't be read")?;
        let rank = from.rank.max(entries.len());
        let axis = from.axis + rank - from.rank;
        match (axis + entries.len()).checked_sub(rank).map(|own| (own, entries[own])) {
            Some((own, Some(length))) if length > 1 || from.length(self.counts.old) as i64 == length => {
                let length = usize::try_from(length).ok().and_then(|l| from.resized(l, self.counts));
                let length = length.ok_or("expands the classes")?;
                self.edits.entry((index, 1), own, length as i64, entries.len());
            }
            _ => {}
        }
        self.set(index, 0, Carried::Classes(ClassAxis { rank, axis, ..from }));
        Ok(())
    }

    fn reduce(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let axes = match node.op_type() {
            "ArgMax" => vec![int_of(node, "axis", 0)],
            _ if find(node, "axes").is_none() && node.input.len() < 2 => return Ok(()),
            _ => self.known.list(node, 1, "axes").ok_or("has axes that can't be read")?,
        };
        let axes: Option<Vec<usize>> = axes.iter().map(|&axis| wrapped(axis, from.rank)).collect();
        let axes = axes.ok_or("has impossible axes")?;
        if axes.contains(&from.axis) {
            return Ok(());
        }
        let gone = if int_of(node, "keepdims", 1) == 0 { axes.as_slice() } else { &[] };
        let before = gone.iter().filter(|&&axis| axis < from.axis).count();
        let to = ClassAxis { rank: from.rank - gone.len(), axis: from.axis - before, ..from };
        self.set(index, 0, Carried::Classes(to));
        Ok(())
    }

    fn top_k(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let axis = wrapped(int_of(self.at(index), "axis", -1), from.rank).ok_or("selects along no axis")?;
        if axis != from.axis {
            self.set(index, 0, Carried::Classes(from));
            self.set(index, 1, Carried::Classes(from));
        } else if from.flat {
            self.set(index, 1, Carried::Positions);
        }
        Ok(())
    }

    fn gather(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let axis = wrapped(int_of(node, "axis", 0), from.rank).ok_or("picks along no axis")?;
        if axis == from.axis {
            return Err("picks single classes".into());
        }
        let picked = self.known.lengths(&node.input[1]).ok_or("picks an unknown number of axes")?.len();
        let rank = from.rank - 1 + picked;
        let to = if axis < from.axis { from.axis + picked - 1 } else { from.axis };
        self.set(index, 0, Carried::Classes(ClassAxis { rank, axis: to, ..from }));
        Ok(())
    }

    /// The output is as long as the indices are: those must be repeated for each class.
    fn gather_elements(&mut self, index: usize) -> Result<(), Unknown> {
        let from = self.data(index)?;
        let node = self.at(index);
        let axis = wrapped(int_of(node, "axis", 0), from.rank).ok_or("picks along no axis")?;
        if axis == from.axis {
            return match from.flat || self.axis(index, 1).is_some() {
                true => Err("picks single classes".into()),
                // Which class was found best: its number says nothing of how many there are.
                false => Ok(()),
            };
        }
        if self.axis(index, 1) != Some(from) {
            let source = self.known.links.producer_index(&node.input[1]);
            let source = source.filter(|&source| matches!(self.at(source).op_type(), "Expand" | "Tile"));
            let Some(source) = source else { return self.gather_elements_of_one(index, from) };
            let entries = self.known.entries(&self.at(source).input[1]).unwrap_or_default();
            let place = (from.axis + entries.len()).checked_sub(from.rank);
            match place.and_then(|place| Some((place, *entries.get(place)?))) {
                Some((place, Some(length))) if length == from.length(self.counts.old) as i64 => {
                    let length = from.length(self.counts.new) as i64;
                    self.edits.copy((index, 1), source, place, length, entries.len());
                }
                // Read from a shape when the graph runs, so it is right by itself.
                Some((_, None)) => {}
                _ => return Err("picks by indices of an unknown shape".into()),
            }
        }
        self.set(index, 0, Carried::Classes(from));
        Ok(())
    }

    /// With one class, exporters leave the repetition out.
    fn gather_elements_of_one(&mut self, index: usize, from: ClassAxis) -> Result<(), Unknown> {
        if from.length(self.counts.old) != 1 || from.flat {
            return Err("picks by indices of an unknown shape".into());
        }
        self.edits.repeat((index, 1), from.rank, from.axis, from.length(self.counts.new) as i64);
        self.set(index, 0, Carried::Classes(from));
        Ok(())
    }
}
