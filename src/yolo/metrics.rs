//! How good detections are: average precision as COCO computes it.
//!
//! Detections of each picture and class, surest first, take the truest box that is still free at
//! each of ten overlaps (0.50 to 0.95). Precision, made non-increasing from the right, is read at
//! 101 recalls and averaged (Lin et al., "Microsoft COCO", arXiv 1405.0312; the arithmetic is that
//! of its evaluation program, with 300 detections per picture and class and objects of all sizes).

use serde::{Deserialize, Serialize};

use super::detection::Detection;
use super::geometry::iou;

/// Detections per picture and class that count.
const MAX_DETECTIONS: usize = 300;

/// Overlaps at which a detection may be right.
const N_OVERLAPS: usize = 10;

/// Confidences at which precision and recall are looked at.
const N_CONFIDENCES: usize = 1000;

/// What a model's detections are worth on a set of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Pictures looked at.
    pub images: usize,
    /// True boxes on them.
    pub boxes: usize,
    /// Mean over the classes of average precision at IoU 0.50; none without any true box.
    #[serde(rename = "mAP50")]
    pub map50: Option<f64>,
    /// Mean over the classes and over IoU 0.50, 0.55, … 0.95; none without any true box.
    #[serde(rename = "mAP50_95")]
    pub map50_95: Option<f64>,
    /// Mean precision at the confidence with the best mean F1, at IoU 0.50.
    pub precision: Option<f64>,
    /// Mean recall there.
    pub recall: Option<f64>,
    /// One entry per class that has true boxes.
    pub per_class: Vec<ClassEvaluation>,
}

/// The same for one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassEvaluation {
    /// Name of the class.
    pub class: String,
    /// Average precision at IoU 0.50.
    #[serde(rename = "AP50")]
    pub ap50: f64,
    /// Average precision over IoU 0.50 to 0.95.
    #[serde(rename = "AP50_95")]
    pub ap50_95: f64,
    /// True boxes.
    pub boxes: usize,
}

/// A true box: its class and its corners `[x1, y1, x2, y2]`, in the same pixels as the detections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TruthBox {
    /// Index of its class.
    pub class: u32,
    /// Its corners.
    pub corners: [f32; 4],
}

/// Collects detections and truth picture by picture, then measures.
#[derive(Debug, Clone)]
pub struct Evaluator {
    classes: Vec<String>,
    found: Vec<Vec<Found>>,
    n_truth: Vec<usize>,
    images: usize,
}

/// One detection: how sure it was, and at which overlaps it was right.
#[derive(Debug, Clone, Copy)]
struct Found {
    score: f32,
    right: [bool; N_OVERLAPS],
}

impl Evaluator {
    /// For these class names.
    pub fn new(classes: &[String]) -> Self {
        Evaluator {
            classes: classes.to_vec(),
            found: vec![Vec::new(); classes.len()],
            n_truth: vec![0; classes.len()],
            images: 0,
        }
    }

    /// Adds a picture. Classes outside the list are left out.
    pub fn add(&mut self, detections: &[Detection], truth: &[TruthBox]) {
        self.images += 1;
        for class in 0..self.classes.len() {
            let of_class = |found: u32| found as usize == class;
            let truth: Vec<[f64; 4]> =
                truth.iter().filter(|b| of_class(b.class)).map(|b| b.corners.map(f64::from)).collect();
            let mut found: Vec<&Detection> = detections.iter().filter(|d| of_class(d.class)).collect();
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(MAX_DETECTIONS);
            self.n_truth[class] += truth.len();
            self.found[class].extend(match_to_truth(&found, &truth));
        }
    }

    /// Measures all that was added.
    pub fn finish(mut self) -> Evaluation {
        let mut per_class = Vec::new();
        let mut curves = Vec::new();
        for class in 0..self.classes.len() {
            let n_truth = self.n_truth[class];
            if n_truth == 0 {
                continue;
            }
            // Stable: among equal scores the order of the pictures decides, as in COCO.
            self.found[class].sort_by(|a, b| b.score.total_cmp(&a.score));
            let found = &self.found[class];
            let precisions: Vec<f64> =
                (0..N_OVERLAPS).map(|overlap| average_precision(found, overlap, n_truth)).collect();
            per_class.push(ClassEvaluation {
                class: self.classes[class].clone(),
                ap50: precisions[0],
                ap50_95: mean(&precisions).unwrap_or(0.0),
                boxes: n_truth,
            });
            curves.push(Curve::new(found, n_truth));
        }
        let best = best_confidence(&curves);
        let mean_of =
            |value: fn(&ClassEvaluation) -> f64| mean(&per_class.iter().map(value).collect::<Vec<f64>>());
        Evaluation {
            images: self.images,
            boxes: self.n_truth.iter().sum(),
            map50: mean_of(|class| class.ap50),
            map50_95: mean_of(|class| class.ap50_95),
            precision: mean(&curves.iter().map(|curve| curve.precision[best]).collect::<Vec<f64>>()),
            recall: mean(&curves.iter().map(|curve| curve.recall[best]).collect::<Vec<f64>>()),
            per_class,
        }
    }
}

/// The overlap with this number: 0.50, 0.55, … 0.95.
fn overlap_threshold(number: usize) -> f64 {
    0.5 + 0.05 * number as f64
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Matches detections, surest first, with boxes. The box with the highest overlap among those still
/// free is taken (the last among equals, as in COCO).
fn match_to_truth(found: &[&Detection], truth: &[[f64; 4]]) -> Vec<Found> {
    let mut results: Vec<Found> =
        found.iter().map(|d| Found { score: d.score, right: [false; N_OVERLAPS] }).collect();
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
                result.right[number] = true;
            }
        }
    }
    results
}

/// Precision at 101 recalls, averaged. `found` is sorted, surest first.
fn average_precision(found: &[Found], overlap: usize, n_truth: usize) -> f64 {
    let mut right = 0;
    let mut points: Vec<(f64, f64)> = found
        .iter()
        .enumerate()
        .map(|(index, found)| {
            right += usize::from(found.right[overlap]);
            (right as f64 / n_truth as f64, right as f64 / (index + 1) as f64)
        })
        .collect();
    let mut highest = 0.0;
    for (_, precision) in points.iter_mut().rev() {
        highest = f64::max(highest, *precision);
        *precision = highest;
    }
    let read = |recall: f64| {
        let index = points.partition_point(|&(reached, _)| reached < recall);
        points.get(index).map_or(0.0, |&(_, precision)| precision)
    };
    (0..=100).map(|percent| read(f64::from(percent) * 0.01)).sum::<f64>() / 101.0
}

/// Precision and recall of a class at IoU 0.50 as functions of the confidence, sampled at
/// [`N_CONFIDENCES`] points from 0 to 1.
struct Curve {
    precision: Vec<f64>,
    recall: Vec<f64>,
}

impl Curve {
    fn new(found: &[Found], n_truth: usize) -> Self {
        let mut right = 0.0;
        let points: Vec<[f64; 3]> = found
            .iter()
            .enumerate()
            .map(|(index, found)| {
                right += f64::from(u8::from(found.right[0]));
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
fn best_confidence(curves: &[Curve]) -> usize {
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
