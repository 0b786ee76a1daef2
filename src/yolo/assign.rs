//! Task-aligned assignment: which anchors answer for which true box, and how strongly.
//!
//! Each anchor whose centre lies in a true box is a candidate for it, with the alignment metric
//! `score^α · CIoU^β` (score of the box's class, overlap of the anchor's predicted box). The k best
//! candidates of each box are taken; an anchor that several boxes took goes to the one that it
//! overlaps most. The target score of a taken anchor is its metric, scaled so that each box's best
//! anchor gets the box's best overlap.
//!
//! Source: Feng et al., "TOOD: Task-aligned one-stage object detection", arXiv 2108.07755; the
//! details below that the paper leaves open are the reference's.

use super::geometry;
use super::maps::HeadShape;

/// Keeps the scaling of metrics finite.
const EPSILON: f32 = 1e-9;

/// Settings of the assignment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assigner {
    /// Candidates taken for each box.
    pub top_k: usize,
    /// Of an anchor's box after conflicts are settled, this many best are kept (1 for one-to-one
    /// heads); as large as `top_k` where there is no second cut.
    pub second_top_k: usize,
}

impl Assigner {
    /// Each box is answered by up to ten anchors.
    pub const ONE_TO_MANY: Assigner = Assigner { top_k: 10, second_top_k: 10 };
    /// Each box is answered by one anchor.
    pub const ONE_TO_ONE: Assigner = Assigner { top_k: 7, second_top_k: 1 };

    /// The one that a head was trained with.
    pub fn for_head(shape: &HeadShape) -> Assigner {
        if shape.one_to_one { Assigner::ONE_TO_ONE } else { Assigner::ONE_TO_MANY }
    }
}

/// A true box in pixels of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrueBox {
    /// Class.
    pub class: usize,
    /// `[x1, y1, x2, y2]`.
    pub corners: [f32; 4],
}

/// An anchor that answers for a box with a weight above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assigned {
    /// Index over all levels, finest first, row by row.
    pub anchor: usize,
    /// Index of the true box.
    pub truth: usize,
    /// Target score of the box's class, above 0.
    pub score: f32,
}

/// A candidate of one box.
#[derive(Clone, Copy)]
struct Candidate {
    anchor: usize,
    metric: f32,
    overlap: f32,
}

impl Assigner {
    /// Assigns the anchors of one picture. `score(anchor, class)` is the predicted score,
    /// `corners(anchor)` the predicted box in pixels of the input. Anchors come in order.
    pub fn assign(
        &self,
        shape: &HeadShape,
        truth: &[TrueBox],
        score: impl Fn(usize, usize) -> f32,
        corners: impl Fn(usize) -> [f32; 4],
    ) -> Vec<Assigned> {
        let n_anchors = shape.anchors();
        // For each anchor the box that it overlaps most among those it is a candidate for.
        let mut best: Vec<Option<(usize, f32)>> = vec![None; n_anchors];
        let mut claims = vec![0_u32; n_anchors];
        let mut candidates: Vec<Vec<Candidate>> = Vec::with_capacity(truth.len());
        let mut taken: Vec<Vec<Candidate>> = Vec::with_capacity(truth.len());
        for (index, box_) in truth.iter().enumerate() {
            let mut mine = Vec::new();
            for_each_anchor_inside(shape, box_.corners, |anchor| {
                let predicted = corners(anchor).map(f64::from);
                let overlap = geometry::ciou(box_.corners.map(f64::from), predicted).max(0.0) as f32;
                let metric = score(anchor, box_.class).sqrt() * overlap.powi(6);
                mine.push(Candidate { anchor, metric, overlap });
                if best[anchor].is_none_or(|(_, most)| overlap > most) {
                    best[anchor] = Some((index, overlap));
                }
            });
            let mut top: Vec<Candidate> =
                mine.iter().copied().filter(|candidate| candidate.metric > 0.0).collect();
            keep_best(&mut top, self.top_k);
            for candidate in &top {
                claims[candidate.anchor] += 1;
            }
            candidates.push(mine);
            taken.push(top);
        }

        let mut settled: Vec<Vec<Candidate>> = vec![Vec::new(); truth.len()];
        let mut moved = vec![false; n_anchors];
        for (index, top) in taken.iter().enumerate() {
            for candidate in top {
                if claims[candidate.anchor] == 1 {
                    settled[index].push(*candidate);
                } else if !std::mem::replace(&mut moved[candidate.anchor], true)
                    && let Some((winner, _)) = best[candidate.anchor]
                    && let Some(there) = candidates[winner].iter().find(|c| c.anchor == candidate.anchor)
                {
                    settled[winner].push(*there);
                }
            }
        }

        let mut assigned = Vec::new();
        for (truth, mut anchors) in settled.into_iter().enumerate() {
            if self.second_top_k < self.top_k {
                keep_best(&mut anchors, self.second_top_k);
            }
            let most = |value: fn(&Candidate) -> f32| anchors.iter().map(value).fold(0.0, f32::max);
            let (best_metric, best_overlap) = (most(|c| c.metric), most(|c| c.overlap));
            assigned.extend(anchors.iter().filter_map(|candidate| {
                let score = candidate.metric * best_overlap / (best_metric + EPSILON);
                (score > 0.0).then_some(Assigned { anchor: candidate.anchor, truth, score })
            }));
        }
        assigned.sort_by_key(|assigned| assigned.anchor);
        assigned
    }
}

/// Keeps the `count` candidates with the largest metric; among equals the first anchors.
fn keep_best(candidates: &mut Vec<Candidate>, count: usize) {
    candidates.sort_by(|a, b| b.metric.total_cmp(&a.metric).then(a.anchor.cmp(&b.anchor)));
    candidates.truncate(count);
}

/// Visits, in order, the anchors whose centre lies in the box. A side shorter than the second
/// level's stride counts as that long, so that small boxes find anchors too.
pub(super) fn for_each_anchor_inside(shape: &HeadShape, corners: [f32; 4], mut visit: impl FnMut(usize)) {
    let shortest = shape.levels.get(1).map_or(0, |level| level.stride) as f32;
    let widened = |low: f32, high: f32| {
        if high - low < shortest {
            let centre = (low + high) / 2.0;
            (centre - shortest / 2.0, centre + shortest / 2.0)
        } else {
            (low, high)
        }
    };
    let (x1, x2) = widened(corners[0], corners[2]);
    let (y1, y2) = widened(corners[1], corners[3]);
    let mut first = 0;
    for level in &shape.levels {
        let stride = level.stride as f32;
        let inside = |index: usize, low: f32, high: f32| {
            let centre = (index as f32 + 0.5) * stride;
            (centre - low).min(high - centre) > EPSILON
        };
        for row in span(y1, y2, stride, level.height).filter(|&row| inside(row, y1, y2)) {
            for column in span(x1, x2, stride, level.width).filter(|&column| inside(column, x1, x2)) {
                visit(first + row * level.width + column);
            }
        }
        first += level.cells();
    }
}

/// Cells whose centres may lie between two positions.
fn span(low: f32, high: f32, stride: f32, count: usize) -> std::ops::Range<usize> {
    let start = (low / stride - 0.5).floor().max(0.0) as usize;
    let end = (high / stride + 0.5).ceil().max(0.0) as usize;
    start.min(count)..end.min(count)
}
