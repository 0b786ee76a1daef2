//! The detections of one class, ranked once, and their average precision on any weighting of the
//! pictures.

use super::matching::{Found, N_OVERLAPS};

/// Recalls at which precision is read: 0, 0.01, … 1.
const N_RECALLS: u32 = 101;

/// All detections of a class on a set of pictures, surest first, and where the true boxes are.
#[derive(Debug, Clone)]
pub(super) struct Ranking {
    found: Vec<Found>,
    /// Per overlap, which of `found` are right, in rising order.
    right: Vec<Vec<u32>>,
    /// Picture and number of its true boxes; pictures without one are left out.
    truth: Vec<(u32, u32)>,
}

/// Room to work in, kept from one weighting to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Weight of the detections down to each rank.
    reached: Vec<u32>,
    /// Recall and precision behind each true positive.
    points: Vec<(f64, f64)>,
}

impl Ranking {
    pub fn new(mut found: Vec<Found>, truth: Vec<(u32, u32)>) -> Self {
        // Stable: among equal scores the order of the pictures decides, as in COCO.
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let ranks = 0..found.len() as u32;
        let right = (0..N_OVERLAPS)
            .map(|overlap| ranks.clone().filter(|&rank| found[rank as usize].is_right(overlap)).collect())
            .collect();
        Ranking { found, right, truth }
    }

    /// Detections, surest first.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// Picture and number of its true boxes, where there is one.
    pub fn truth(&self) -> &[(u32, u32)] {
        &self.truth
    }

    /// True boxes.
    pub fn n_truth(&self) -> usize {
        self.truth.iter().map(|&(_, boxes)| boxes as usize).sum()
    }

    /// Average precision at each overlap when picture `p` counts `weights[p]` times; none when no true
    /// box is left.
    ///
    /// The figures are those of an evaluation in which the picture was added as often as it counts:
    /// within a run of equal right detections precision only rises, so what is read at a recall is the
    /// precision at the end of a run; and behind a wrong one it only falls, so true positives are all
    /// that has to be looked at.
    pub fn average_precisions(&self, weights: &[u32], scratch: &mut Scratch) -> Option<[f64; N_OVERLAPS]> {
        let n_truth: u64 =
            self.truth.iter().map(|&(picture, boxes)| u64::from(boxes * weights[picture as usize])).sum();
        if n_truth == 0 {
            return None;
        }
        let Scratch { reached, points } = scratch;
        // What is ranked behind the last true positive changes nothing.
        let last = self.right.iter().filter_map(|ranks| ranks.last()).max();
        let n_ranks = last.map_or(0, |&rank| rank as usize + 1);
        let mut sum = 0;
        reached.clear();
        reached.extend(self.found[..n_ranks].iter().map(|found| {
            sum += weights[found.picture as usize];
            sum
        }));
        let precisions = std::array::from_fn(|overlap| {
            let mut right = 0;
            points.clear();
            for &rank in &self.right[overlap] {
                let weight = weights[self.found[rank as usize].picture as usize];
                if weight > 0 {
                    right += weight;
                    let precision = f64::from(right) / f64::from(reached[rank as usize]);
                    points.push((f64::from(right) / n_truth as f64, precision));
                }
            }
            read_at_recalls(points)
        });
        Some(precisions)
    }
}

/// Precision, made non-increasing from the right, read at 101 recalls and averaged.
fn read_at_recalls(points: &mut [(f64, f64)]) -> f64 {
    let mut highest = 0.0;
    for (_, precision) in points.iter_mut().rev() {
        highest = f64::max(highest, *precision);
        *precision = highest;
    }
    let mut next = 0;
    let read = |percent: u32| {
        let recall = f64::from(percent) * 0.01;
        while points.get(next).is_some_and(|&(reached, _)| reached < recall) {
            next += 1;
        }
        points.get(next).map_or(0.0, |&(_, precision)| precision)
    };
    (0..N_RECALLS).map(read).sum::<f64>() / f64::from(N_RECALLS)
}
