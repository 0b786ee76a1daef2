//! The promotion gate: a candidate must be better than the current model on the hold-out, and must
//! not have forgotten a class.

use serde::{Deserialize, Serialize};

use crate::yolo::metrics::Evaluation;

/// How far the AP50-95 of a class may drop, as long as the mean rises.
const TOLERANCE: f64 = 0.05;

/// What the gate says about a candidate, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the candidate takes over.
    pub promoted: bool,
    /// Why or why not, for people.
    pub reason: String,
}

/// Compares a candidate with the current model, both measured on the same hold-out.
pub fn judge(current: &Evaluation, candidate: &Evaluation) -> Verdict {
    let refuse = |reason: String| Verdict { promoted: false, reason };
    let (Some(before), Some(after)) = (current.map50_95, candidate.map50_95) else {
        return refuse("the hold-out has no box, so nothing can be compared".into());
    };
    if after.is_nan() || after <= before {
        return refuse(format!(
            "the candidate's hold-out mAP50-95 is {after:.4}, not above the current model's {before:.4}"
        ));
    }
    let forgotten = current.per_class.iter().find_map(|old| {
        let new = candidate.per_class.iter().find(|new| new.class == old.class)?;
        (old.ap50_95 - new.ap50_95 > TOLERANCE).then_some((old, new))
    });
    if let Some((old, new)) = forgotten {
        return refuse(format!(
            "class {:?} fell from AP50-95 {:.4} to {:.4}, more than the tolerance of {TOLERANCE}",
            old.class, old.ap50_95, new.ap50_95
        ));
    }
    Verdict { promoted: true, reason: format!("hold-out mAP50-95 rose from {before:.4} to {after:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yolo::metrics::ClassEvaluation;

    fn evaluation(classes: &[f64]) -> Evaluation {
        let per_class = classes
            .iter()
            .enumerate()
            .map(|(i, &ap)| ClassEvaluation { class: format!("c{i}"), ap50: ap, ap50_95: ap, boxes: 3 })
            .collect();
        let mean = (!classes.is_empty()).then(|| classes.iter().sum::<f64>() / classes.len() as f64);
        Evaluation {
            images: 1,
            boxes: 3,
            map50: mean,
            map50_95: mean,
            precision: None,
            recall: None,
            per_class,
        }
    }

    #[test]
    fn the_gate_lets_a_better_candidate_through() {
        assert!(judge(&evaluation(&[0.2, 0.5]), &evaluation(&[0.3, 0.48])).promoted);
    }

    #[test]
    fn the_gate_refuses_what_is_not_better() {
        assert!(!judge(&evaluation(&[0.3]), &evaluation(&[0.3])).promoted);
        assert!(!judge(&evaluation(&[0.3]), &evaluation(&[f64::NAN])).promoted);
        assert!(!judge(&evaluation(&[]), &evaluation(&[])).promoted);
    }

    #[test]
    fn the_gate_refuses_when_an_old_class_drops() {
        let verdict = judge(&evaluation(&[0.2, 0.5]), &evaluation(&[0.6, 0.4]));
        assert!(!verdict.promoted);
        assert!(verdict.reason.contains("\"c1\""), "{}", verdict.reason);
    }
}
