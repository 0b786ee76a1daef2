//! Tells levels and branches of raw maps by what the graph does with them, whatever its names are.

use std::collections::{BTreeMap, HashSet};

use crate::onnx::{Links, values};

use super::ancestry::Ancestry;
use super::tail::{Tail, kernel};
use super::{ExportError, Pair, refuse};

/// The pairs, coarsest level first as a rule.
///
/// # Errors
/// With the reason, when the raw maps are not a box map and a class map per level.
pub(super) fn pairs(links: &Links, tail: &Tail, ancestry: &Ancestry) -> Result<Vec<Pair>, ExportError> {
    let maps = &tail.maps;
    if maps.is_empty() {
        return Err(refuse::no_head(links, tail));
    }
    let channels: Vec<usize> = maps.iter().map(|&map| channels(links, map)).collect::<Result<_, _>>()?;
    if refuse::is_anchor_based(links, maps, &channels) {
        return Err(refuse::anchor_based(&channels));
    }
    let groups = ancestry.groups();
    if let Some(large) = groups.iter().find(|group| group.len() > 2) {
        return Err(refuse::third_branch(large.len() * groups.len()));
    }
    groups
        .iter()
        .map(|group| match *group.as_slice() {
            [a, b] => box_and_class(links, a, b),
            _ => Err(refuse::no_head(links, tail)),
        })
        .collect()
}

/// How many channels the convolution writes.
pub(super) fn channels(links: &Links, conv: usize) -> Result<usize, ExportError> {
    let node = &links.graph().node[conv];
    let kernel = kernel(links, node).ok_or_else(|| refuse::computed_kernel(node))?;
    Ok(values::dims(kernel)?.first().copied().unwrap_or(0))
}

fn box_and_class(links: &Links, a: usize, b: usize) -> Result<Pair, ExportError> {
    let (used_a, used_b) = (Uses::of(links, a), Uses::of(links, b));
    let pair = |boxes, classes| Ok(Pair { boxes, classes });
    match (used_a.sigmoid, used_b.sigmoid) {
        (true, false) => return pair(b, a),
        (false, true) => return pair(a, b),
        _ => {}
    }
    // Both go the same way where one `Concat` along the channels makes one map of them, as exports of
    // older releases do: boxes stand first in it.
    for (concat, first) in &used_a.concats {
        if let Some(second) = used_b.concats.get(concat).filter(|&second| second != first) {
            return if first < second { pair(a, b) } else { pair(b, a) };
        }
    }
    // Raw maps that are outputs: boxes are four sides of 16 bins, or of one number.
    let is_box = |map| -> Result<bool, ExportError> { Ok(matches!(channels(links, map)?, 4 | 64)) };
    match (is_box(a)?, is_box(b)?) {
        (true, false) => pair(a, b),
        (false, true) => pair(b, a),
        _ => Err(refuse::which_is_the_box_map(&links.graph().node[a], &links.graph().node[b])),
    }
}

/// What becomes of a raw map once it has been laid out anew.
#[derive(Default)]
struct Uses {
    sigmoid: bool,
    /// `Concat` nodes on the way, with the position at which the map goes in.
    concats: BTreeMap<usize, usize>,
}

impl Uses {
    fn of(links: &Links, conv: usize) -> Self {
        let graph = links.graph();
        let mut uses = Uses::default();
        let mut seen = HashSet::new();
        let mut open: Vec<&str> = graph.node[conv].output.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            for &index in links.consumers(name).iter().filter(|&&index| seen.insert(index)) {
                let node = &graph.node[index];
                match node.op_type() {
                    "Sigmoid" => uses.sigmoid = true,
                    "Reshape" | "Transpose" | "Concat" | "Split" | "Slice" | "Flatten" | "Squeeze"
                    | "Unsqueeze" | "Identity" | "Cast" | "Gather" => {
                        if node.op_type() == "Concat"
                            && let Some(position) = node.input.iter().position(|input| input == name)
                        {
                            uses.concats.insert(index, position);
                        }
                        open.extend(node.output.iter().map(String::as_str));
                    }
                    _ => {}
                }
            }
        }
        uses
    }
}
