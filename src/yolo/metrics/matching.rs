//! Matches detections with true boxes, as COCO does.

use crate::yolo::detection::Detection;
use crate::yolo::geometry::iou;

/// Overlaps at which a detection may be right.
pub(super) const N_OVERLAPS: usize = 10;

/// One detection: how sure it was, on which picture, and at which overlaps it was right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub score: f32,
    /// Number of the picture, in the order in which they were added.
    pub picture: u32,
    /// Bit k says whether it is a true positive at overlap number k.
    right: u16,
}

impl Found {
    /// Whether it is a true positive at the overlap with this number.
    pub fn is_right(&self, overlap: usize) -> bool {
        self.right >> overlap & 1 == 1
    }
}

/// The overlap with this number: 0.50, 0.55, … 0.95.
fn overlap_threshold(number: usize) -> f64 {
    0.5 + 0.05 * number as f64
}

/// Matches detections of a picture, surest first, with boxes. The box with the highest overlap among
/// those still free is taken (the last among equals, as in COCO).
pub(super) fn match_to_truth(found: &[&Detection], truth: &[[f64; 4]], picture: u32) -> Vec<Found> {
    let mut results: Vec<Found> =
        found.iter().map(|detection| Found { score: detection.score, picture, right: 0 }).collect();
    if truth.is_empty() {
        return results;
    }
    let overlaps: Vec<f64> = found
        .iter()
        .flat_map(|detection| {
            let corners = detection.corners().map(f64::from);
            truth.iter().map(move |other| iou(corners, *other))
        })
        .collect();
    for number in 0..N_OVERLAPS {
        let mut taken = vec![false; truth.len()];
        for (result, row) in results.iter_mut().zip(overlaps.chunks_exact(truth.len())) {
            let mut best = overlap_threshold(number);
            let mut choice = None;
            for (index, &overlap) in row.iter().enumerate() {
                if !taken[index] && overlap >= best {
                    (best, choice) = (overlap, Some(index));
                }
            }
            if let Some(index) = choice {
                taken[index] = true;
                result.right |= 1 << number;
            }
        }
    }
    results
}
