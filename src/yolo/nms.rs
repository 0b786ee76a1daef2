//! Non-maximum suppression: of boxes that overlap too much, the surest stays.

use super::detection::Detection;
use super::geometry::iou;

/// What is kept of what a network puts out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keep {
    /// A score must be above this.
    pub confidence: f32,
    /// A box that overlaps a surer one by more than this goes.
    pub iou: f32,
    /// Boxes per picture, at most; the surest stay.
    pub max_detections: usize,
    /// Whether an anchor may answer for several classes (measuring) or for its best alone (using).
    pub multi_label: bool,
    /// Whether boxes of different classes suppress each other.
    pub agnostic: bool,
}

impl Keep {
    /// For using a model: a score above 0.25, one class per box.
    pub fn to_use() -> Self {
        Keep { confidence: 0.25, iou: 0.7, max_detections: 300, multi_label: false, agnostic: false }
    }

    /// For measuring a model: nearly everything, as YOLO validation does.
    pub fn to_measure() -> Self {
        Keep { confidence: 0.001, multi_label: true, ..Keep::to_use() }
    }

    /// The same for a head that finds each object once: as many pairs of anchor and class as there are
    /// anchors, at most. Its own decoding takes the best anchors and then, of these, the best pairs;
    /// that is the best pairs of all, because a pair's anchor is at least as good as the pair.
    pub(super) fn for_one_to_one(self, anchors: usize) -> Self {
        let max_detections = self.max_detections.min(anchors);
        Keep { iou: f32::INFINITY, multi_label: true, max_detections, ..self }
    }
}

/// At most this many candidates enter the suppression, the surest.
const MAX_CANDIDATES: usize = 30_000;

/// A box before suppression. Its coordinates are pixels of the network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The box, its score and class.
    pub detection: Detection,
    /// Which anchor made it, counted over all levels, finest first.
    pub anchor: usize,
}

/// Greedy suppression, surest first; among equal scores the lower anchor, then the lower class, goes
/// first. `iou` is compared strictly.
pub fn suppress(mut candidates: Vec<Candidate>, keep: &Keep) -> Vec<Candidate> {
    candidates.sort_unstable_by(|a, b| {
        let order = b.detection.score.total_cmp(&a.detection.score);
        order.then(a.anchor.cmp(&b.anchor)).then(a.detection.class.cmp(&b.detection.class))
    });
    candidates.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() == keep.max_detections {
            break;
        }
        // No two boxes overlap by more than 1.
        let covered = keep.iou < 1.0
            && kept.iter().any(|other| {
                (keep.agnostic || other.detection.class == candidate.detection.class)
                    && overlap(&other.detection, &candidate.detection) > keep.iou
            });
        if !covered {
            kept.push(candidate);
        }
    }
    kept
}

fn overlap(a: &Detection, b: &Detection) -> f32 {
    iou(a.corners().map(f64::from), b.corners().map(f64::from)) as f32
}
