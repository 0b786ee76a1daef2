//! How good detections are: average precision as COCO computes it.
//!
//! Detections of each picture and class, surest first, take the truest box that is still free at
//! each of ten overlaps (0.50 to 0.95). Precision, made non-increasing from the right, is read at
//! 101 recalls and averaged (Lin et al., "Microsoft COCO", arXiv 1405.0312; the arithmetic is that
//! of its evaluation program, with 300 detections per picture and class and objects of all sizes).

mod curve;
mod matching;
mod measurement;
mod paired;
mod ranking;

pub use measurement::Measurement;
pub use paired::{ClassPair, Differences, Paired};

use serde::{Deserialize, Serialize};

use crate::label::LabelBox;

use super::detection::Detection;
use matching::{Found, match_to_truth};
use ranking::Ranking;

/// Detections per picture and class that count.
const MAX_DETECTIONS: usize = 300;

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

impl TruthBox {
    /// The boxes of labels on a picture of this width and height, in its pixels.
    pub fn of(labels: &[LabelBox], (width, height): (u32, u32)) -> Vec<Self> {
        let truth =
            |label: &LabelBox| TruthBox { class: label.class, corners: label.to_pixels(width, height) };
        labels.iter().map(truth).collect()
    }
}

/// Collects detections and truth picture by picture, then measures.
#[derive(Debug, Clone)]
pub struct Evaluator {
    classes: Vec<String>,
    found: Vec<Vec<Found>>,
    /// Per class, picture and number of its true boxes.
    truth: Vec<Vec<(u32, u32)>>,
    images: usize,
}

impl Evaluator {
    /// For these class names.
    pub fn new(classes: &[String]) -> Self {
        Evaluator {
            classes: classes.to_vec(),
            found: vec![Vec::new(); classes.len()],
            truth: vec![Vec::new(); classes.len()],
            images: 0,
        }
    }

    /// Adds a picture. Classes outside the list are left out.
    pub fn add(&mut self, detections: &[Detection], truth: &[TruthBox]) {
        let picture = self.images as u32;
        self.images += 1;
        for class in 0..self.classes.len() {
            let of_class = |found: u32| found as usize == class;
            let truth: Vec<[f64; 4]> =
                truth.iter().filter(|b| of_class(b.class)).map(|b| b.corners.map(f64::from)).collect();
            let mut found: Vec<&Detection> = detections.iter().filter(|d| of_class(d.class)).collect();
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(MAX_DETECTIONS);
            if !truth.is_empty() {
                self.truth[class].push((picture, truth.len() as u32));
            }
            self.found[class].extend(match_to_truth(&found, &truth, picture));
        }
    }

    /// Measures all that was added.
    pub fn finish(self) -> Evaluation {
        self.measurement().evaluation()
    }

    /// All that was added, ready to be evaluated, and to be compared with another model's.
    pub fn measurement(self) -> Measurement {
        let rankings = self.found.into_iter().zip(self.truth);
        Measurement {
            classes: self.classes,
            rankings: rankings.map(|(found, truth)| Ranking::new(found, truth)).collect(),
            images: self.images,
        }
    }
}

#[cfg(test)]
mod tests;
