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

/// A pair of anchor and class that is sure enough, before its box is worked out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// How sure, 0 to 1.
    pub score: f32,
    /// Which anchor, counted over all levels, finest first.
    pub anchor: usize,
    /// Which class.
    pub class: u32,
}

/// A box and where it is from. Its coordinates are pixels of the network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The box, its score and class.
    pub detection: Detection,
    /// Which anchor made it, counted over all levels, finest first.
    pub anchor: usize,
}

/// Greedy suppression, surest first; among equal scores the lower anchor, then the lower class, goes
/// first. `iou` is compared strictly. `corners` works out the box of one of the `anchors`,
/// `[x1, y1, x2, y2]`; it is asked only for those that are reached before enough are kept, and once.
pub fn suppress(
    mut hits: Vec<Hit>,
    anchors: usize,
    keep: &Keep,
    corners: impl Fn(usize) -> [f32; 4],
) -> Vec<Candidate> {
    surest_first(&mut hits);
    let mut boxes: Vec<Option<[f32; 4]>> = vec![None; anchors];
    let mut kept: Vec<Candidate> = Vec::new();
    for Hit { score, anchor, class } in hits {
        if kept.len() == keep.max_detections {
            break;
        }
        let corners = *boxes[anchor].get_or_insert_with(|| corners(anchor));
        // No two boxes overlap by more than 1.
        let covered = keep.iou < 1.0
            && kept.iter().any(|other| {
                (keep.agnostic || other.detection.class == class)
                    && overlap(other.detection.corners(), corners) > keep.iou
            });
        if !covered {
            let [x1, y1, x2, y2] = corners;
            kept.push(Candidate { detection: Detection { x1, y1, x2, y2, score, class }, anchor });
        }
    }
    kept
}

/// Leaves the surest, in order. A head that knows nothing yet hits everywhere, so the rest is cut off
/// before it is put in order.
fn surest_first(hits: &mut Vec<Hit>) {
    let order = |a: &Hit, b: &Hit| {
        let order = b.score.total_cmp(&a.score);
        order.then(a.anchor.cmp(&b.anchor)).then(a.class.cmp(&b.class))
    };
    if hits.len() > MAX_CANDIDATES {
        hits.select_nth_unstable_by(MAX_CANDIDATES, order);
        hits.truncate(MAX_CANDIDATES);
    }
    hits.sort_unstable_by(order);
}

fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    iou(a.map(f64::from), b.map(f64::from)) as f32
}
