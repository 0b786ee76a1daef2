//! Precision and recall over the confidence, and the confidence at which both are best.

use super::matching::Found;

/// Confidences at which precision and recall are looked at.
const N_CONFIDENCES: usize = 1000;

/// Precision and recall of a class at IoU 0.50 as functions of the confidence, sampled at
/// [`N_CONFIDENCES`] points from 0 to 1.
pub(super) struct Curve {
    pub precision: Vec<f64>,
    pub recall: Vec<f64>,
}

impl Curve {
    pub fn new(found: &[Found], n_truth: usize) -> Self {
        let mut right = 0.0;
        let points: Vec<[f64; 3]> = found
            .iter()
            .enumerate()
            .map(|(index, found)| {
                right += f64::from(u8::from(found.is_right(0)));
                [f64::from(found.score), right / (index + 1) as f64, right / n_truth as f64]
            })
            .collect();
        let sample = |column: usize, beyond: f64| {
            (0..N_CONFIDENCES)
                .map(|step| interpolate(&points, column, step as f64 / (N_CONFIDENCES - 1) as f64, beyond))
                .collect()
        };
        Curve { precision: sample(1, 1.0), recall: sample(2, 0.0) }
    }

    fn f1(&self, step: usize) -> f64 {
        let (precision, recall) = (self.precision[step], self.recall[step]);
        2.0 * precision * recall / (precision + recall + 1e-16)
    }
}

/// Linear interpolation between points sorted by falling confidence; `beyond` is the value above the
/// highest, the last point's holds below the lowest.
fn interpolate(points: &[[f64; 3]], column: usize, confidence: f64, beyond: f64) -> f64 {
    let below = points.partition_point(|point| point[0] >= confidence);
    match (below.checked_sub(1).map(|index| points[index]), points.get(below)) {
        (None, None) => 0.0,
        (None, Some(_)) => beyond,
        (Some(last), None) => last[column],
        (Some(upper), Some(lower)) => {
            let share = (upper[0] - confidence) / (upper[0] - lower[0]);
            upper[column] + share * (lower[column] - upper[column])
        }
    }
}

/// The sampled confidence whose F1, mean over the classes and smoothed over a tenth of the axis, is
/// highest.
pub(super) fn best_confidence(curves: &[Curve]) -> usize {
    let f1: Vec<f64> =
        (0..N_CONFIDENCES).map(|step| curves.iter().map(|curve| curve.f1(step)).sum()).collect();
    let half = N_CONFIDENCES / 20;
    let smooth = |step: usize| -> f64 {
        (0..=2 * half).map(|i| f1[(step + i).saturating_sub(half).min(N_CONFIDENCES - 1)]).sum()
    };
    (0..N_CONFIDENCES)
        .fold((0, f64::NEG_INFINITY), |best, step| {
            let value = smooth(step);
            if value > best.1 { (step, value) } else { best }
        })
        .0
}
