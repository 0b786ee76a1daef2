//! What a model found on a set of pictures, matched and ranked, so that it can be evaluated on any
//! weighting of the pictures without matching again.

use super::curve::{Curve, best_confidence};
use super::ranking::{Ranking, Scratch};
use super::{ClassEvaluation, Evaluation};

/// A model's detections on a set of pictures, matched with the truth.
#[derive(Debug, Clone)]
pub struct Measurement {
    pub(super) classes: Vec<String>,
    /// One per class.
    pub(super) rankings: Vec<Ranking>,
    pub(super) images: usize,
}

impl Measurement {
    /// What the detections are worth on all pictures.
    pub fn evaluation(&self) -> Evaluation {
        let weights = vec![1; self.images];
        let mut scratch = Scratch::default();
        let mut per_class = Vec::new();
        let mut curves = Vec::new();
        for (class, ranking) in self.classes.iter().zip(&self.rankings) {
            let Some(precisions) = ranking.average_precisions(&weights, &mut scratch) else { continue };
            let boxes = ranking.n_truth();
            per_class.push(ClassEvaluation {
                class: class.clone(),
                ap50: precisions[0],
                ap50_95: mean(&precisions).unwrap_or(0.0),
                boxes,
            });
            curves.push(Curve::new(ranking.found(), boxes));
        }
        let best = best_confidence(&curves);
        let mean_of =
            |value: fn(&ClassEvaluation) -> f64| mean(&per_class.iter().map(value).collect::<Vec<f64>>());
        Evaluation {
            images: self.images,
            boxes: per_class.iter().map(|class| class.boxes).sum(),
            map50: mean_of(|class| class.ap50),
            map50_95: mean_of(|class| class.ap50_95),
            precision: mean(&curves.iter().map(|curve| curve.precision[best]).collect::<Vec<f64>>()),
            recall: mean(&curves.iter().map(|curve| curve.recall[best]).collect::<Vec<f64>>()),
            per_class,
        }
    }

    /// mAP50-95 on all pictures; none without any true box.
    pub fn map50_95(&self) -> Option<f64> {
        let figures = self.weighted(&vec![1; self.images], &mut Scratch::default());
        mean(&figures.into_iter().flatten().collect::<Vec<f64>>())
    }

    /// AP50-95 of each class when picture `p` counts `weights[p]` times; none for a class without a
    /// true box then.
    pub(super) fn weighted(&self, weights: &[u32], scratch: &mut Scratch) -> Vec<Option<f64>> {
        let figure = |ranking: &Ranking| mean(&ranking.average_precisions(weights, scratch)?);
        self.rankings.iter().map(figure).collect()
    }
}

/// Mean of the values; none of nothing.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
