//! What each raw map is computed from, and what that says of levels and branches.
//!
//! The two branches of a level meet in the feature that both read, so what both are computed from is
//! that feature and what stands before it, and what one alone is computed from is its branch.

use crate::onnx::Links;

/// The nodes that each of some nodes is computed from, itself among them.
pub(super) struct Ancestry {
    /// Indices of the nodes that were asked about.
    of: Vec<usize>,
    /// Per node that was asked about, whether each node of the graph is an ancestor.
    ancestors: Vec<Vec<bool>>,
}

impl Ancestry {
    /// Walks back from each of these nodes.
    pub(super) fn of(links: &Links, nodes: &[usize]) -> Self {
        let graph = links.graph();
        let ancestors = nodes.iter().map(|&node| {
            let mut seen = vec![false; graph.node.len()];
            let mut open = vec![node];
            while let Some(index) = open.pop() {
                if !std::mem::replace(&mut seen[index], true) {
                    open.extend(graph.node[index].input.iter().filter_map(|name| links.producer_index(name)));
                }
            }
            seen
        });
        Ancestry { of: nodes.to_vec(), ancestors: ancestors.collect() }
    }

    fn row(&self, node: usize) -> &[bool] {
        let row = self.of.iter().position(|&known| known == node);
        &self.ancestors[row.expect("only nodes that were walked back from are asked about")]
    }

    /// The last node, in topological order, that both are computed from: where their ways part.
    pub(super) fn meeting(&self, a: usize, b: usize) -> Option<usize> {
        let (a, b) = (self.row(a), self.row(b));
        (0..a.len()).rev().find(|&index| a[index] && b[index])
    }

    /// The nodes that of all those asked about only this one is computed from.
    pub(super) fn alone(&self, node: usize) -> impl Iterator<Item = usize> {
        let own = self.row(node);
        let others: Vec<&[bool]> =
            self.of.iter().filter(|&&other| other != node).map(|&other| self.row(other)).collect();
        (0..own.len()).filter(move |&index| own[index] && !others.iter().any(|other| other[index]))
    }

    /// Groups the nodes by where their ways part, the last such place first.
    ///
    /// Levels are computed from each other (a neck goes up and down), so two maps of different levels
    /// meet too, but never later than the two of the finer level do: taking the latest meeting first
    /// and setting its nodes aside gives one group per level.
    pub(super) fn groups(&self) -> Vec<Vec<usize>> {
        let mut left = self.of.clone();
        let mut groups = Vec::new();
        while !left.is_empty() {
            let meetings = left.iter().enumerate().flat_map(|(i, &a)| {
                left[i + 1..].iter().filter_map(move |&b| self.meeting(a, b).map(|at| (at, a, b)))
            });
            let Some((at, first, _)) = meetings.max_by_key(|&(at, ..)| at) else {
                groups.extend(left.drain(..).map(|node| vec![node]));
                break;
            };
            let (group, rest): (Vec<usize>, Vec<usize>) =
                left.iter().partition(|&&node| node == first || self.meeting(first, node) == Some(at));
            groups.push(group);
            left = rest;
        }
        groups
    }
}
