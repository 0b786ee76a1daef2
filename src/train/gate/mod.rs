//! The promotion gate: a candidate must be better than the current model on the hold-out, must not
//! have forgotten a class, and must be better on more than luck.
//!
//! What is luck is told by a paired bootstrap over the hold-out's pictures
//! ([`crate::yolo::metrics::Paired`]). The confidence says how surely the candidate would be better on
//! other pictures of the same kind. It knows nothing of how the candidate was chosen: of a run's epochs
//! the best on this same hold-out is judged, which is a luck of its own that no resampling shows.

mod evidence;

use serde::{Deserialize, Serialize};

use crate::yolo::metrics::{ClassPair, Differences, Measurement, Paired};

use evidence::Evidence;

/// How far the AP50-95 of a class may drop, as long as the mean rises.
const TOLERANCE: f64 = 0.05;

/// A class that keeps less than this share of its AP50-95 counts as forgotten, luck or not.
const COLLAPSE: f64 = 0.5;

/// Resamples of the hold-out's pictures: at a confidence of 0.9 they leave an uncertainty of 0.01.
const RESAMPLES: usize = 1000;

/// The same two models get the same verdict every time.
const SEED: u64 = 0x6761_7465;

/// What the gate says about a candidate, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the candidate takes over.
    pub promoted: bool,
    /// Why or why not, for people.
    pub reason: String,
    /// How surely the candidate is better and not only lucky, 0 to 1; none when nothing could be
    /// compared.
    pub confidence: Option<f64>,
    /// When the candidate looks better but may be lucky: about how many more hold-out pictures would
    /// tell. None also when it would take more than anybody labels.
    pub more_labels: Option<usize>,
}

/// Compares a candidate with the current model, both measured on the same hold-out. `confidence` is
/// how sure the gate must be that the candidate is better, from 0 (its figure need only be higher) to
/// below 1.
///
/// A class counts as forgotten when its AP50-95 fell by more than 0.05 and the bootstrap, on the
/// pictures that show the class, is as sure of the fall as it must be of the rise: with a handful of
/// boxes a change of one overlap in ten moves the figure by more than that. When more than half of it
/// is gone the class is forgotten however few pictures show it, because that mistake is the dearer one.
pub fn judge(current: &Measurement, candidate: &Measurement, confidence: f64) -> Verdict {
    let refuse =
        |reason: String, confidence| Verdict { promoted: false, reason, confidence, more_labels: None };
    let Some(paired) = Paired::new(current, candidate) else {
        return refuse(
            "the two models were not measured on the same pictures; measure both again".into(),
            None,
        );
    };
    let (Some(before), Some(after)) = (current.map50_95(), candidate.map50_95()) else {
        return refuse("the hold-out has no box, so nothing can be compared".into(), None);
    };
    let draws = paired.resample(RESAMPLES, SEED);
    let evidence = Evidence::new(draws.iter().filter_map(|draw| draw.map50_95), paired.pictures());
    let sure = Some(evidence.confidence);
    if after.is_nan() || after <= before {
        let reason = format!(
            "the candidate's hold-out mAP50-95 is {after:.4}, not above the current model's {before:.4}"
        );
        return refuse(reason, sure);
    }
    let fallen: Vec<Fall> =
        paired.classes().iter().enumerate().filter_map(|(i, class)| Fall::of(class, i, &draws)).collect();
    if let Some(fall) = fallen.iter().find(|fall| fall.is_forgotten(confidence)) {
        return refuse(format!("{fall}, more than the tolerance of {TOLERANCE}"), sure);
    }
    let (rise, pictures) = (format!("{before:.4} → {after:.4}"), evidence.pictures);
    if evidence.confidence < confidence {
        let more_labels = evidence.more_pictures(after - before, confidence);
        let advice = match more_labels {
            Some(more) => format!("label about {more} more hold-out {}", counted(more)),
            None => "so small a difference can't be told by labelling more; train on more pictures".into(),
        };
        let reason = format!(
            "the candidate looks better (hold-out mAP50-95 {rise}), but on {pictures} {} that may be luck \
             (confidence {}, {} needed); {advice}",
            counted(pictures),
            percent(evidence.confidence),
            percent(confidence),
        );
        return Verdict { promoted: false, reason, confidence: sure, more_labels };
    }
    let mut reason = format!(
        "hold-out mAP50-95 rose from {before:.4} to {after:.4} (confidence {})",
        percent(evidence.confidence)
    );
    for fall in fallen {
        reason += &format!("; {fall}, which may be luck");
    }
    Verdict { promoted: true, reason, confidence: sure, more_labels: None }
}

/// A class whose AP50-95 fell by more than the tolerance.
struct Fall<'a> {
    class: &'a ClassPair,
    /// That it fell.
    evidence: Evidence,
}

impl<'a> Fall<'a> {
    /// `number` is the class's among the pair's.
    fn of(class: &'a ClassPair, number: usize, draws: &[Differences]) -> Option<Self> {
        if class.current - class.candidate <= TOLERANCE {
            return None;
        }
        let falls = draws.iter().filter_map(|draw| draw.classes[number].map(|difference| -difference));
        Some(Fall { class, evidence: Evidence::new(falls, class.pictures) })
    }

    fn is_forgotten(&self, confidence: f64) -> bool {
        self.class.candidate < COLLAPSE * self.class.current || self.evidence.confidence >= confidence
    }
}

impl std::fmt::Display for Fall<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ClassPair { class, current, candidate, pictures, .. } = self.class;
        let on = counted(*pictures);
        write!(f, "class {class:?} fell from AP50-95 {current:.4} to {candidate:.4} on {pictures} {on}")
    }
}

fn counted(pictures: usize) -> &'static str {
    if pictures == 1 { "picture" } else { "pictures" }
}

/// Rounded down, so that nobody reads 90 % where 90 % were needed and missed, nor ever 100 %.
fn percent(share: f64) -> String {
    format!("{:.0} %", (100.0 * share + 1e-9).floor())
}

#[cfg(test)]
mod tests;
