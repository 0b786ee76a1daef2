//! How unsure a model is of what it saw.
//!
//! Of each box two things may be in doubt. *Which* class it is of: the margin between the best class and the
//! second tells (1-vs-2; Brust, Käding, Denzler, "Active learning for deep object detection", arXiv 1809.09875,
//! 2018). Scores of a detector are no distribution over classes, so the margin is taken relative to both. And
//! *whether* it is there at all: a score near the threshold may tip. A frame's doubt is the sum over its boxes,
//! as theirs does best, the later ones counting less.

use crate::yolo::geometry::iou;
use crate::yolo::look::Sighting;

use super::options::SelectOptions;

/// A box that overlaps a surer one by more than this is the same object seen twice.
const SAME: f64 = 0.45;

/// The second doubtful box of a frame counts so much of the first, and so on: a frame full of them is worth
/// more than one with a single, and less than as many frames.
const FURTHER: f32 = 0.8;

/// From here a second class is named beside the first.
const NAMED: f32 = 0.5;

/// How unsure the model is of a frame, and of which box most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Doubt {
    /// 0 where it is sure of everything; about 1 for one box that is wholly in doubt.
    pub amount: f32,
    /// The box that is most in doubt; its rival only if that is why.
    pub sighting: Option<Sighting>,
}

/// Doubt over what was seen. `weight` says how much a class counts.
pub(super) fn doubt(sightings: &[Sighting], options: &SelectOptions, weight: impl Fn(u32) -> f32) -> Doubt {
    let mut doubts: Vec<(f32, Sighting)> = Vec::new();
    for (index, sighting) in sightings.iter().enumerate() {
        let corners = sighting.detection.corners().map(f64::from);
        let same = |other: &Sighting| iou(other.detection.corners().map(f64::from), corners) > SAME;
        if sightings[..index].iter().any(same) {
            continue;
        }
        let (whether, which) = (whether(sighting, options), which(sighting, options));
        let rival = sighting.rival.filter(|_| which >= NAMED);
        let heaviest = rival.map_or(0.0, |(class, _)| weight(class)).max(weight(sighting.detection.class));
        let amount = heaviest * whether.max(which);
        if amount > 0.0 {
            doubts.push((amount, Sighting { rival, ..*sighting }));
        }
    }
    doubts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut share = 1.0;
    let mut amount = 0.0;
    for (doubt, _) in &doubts {
        amount += share * doubt;
        share *= FURTHER;
    }
    Doubt { amount, sighting: doubts.first().map(|&(_, sighting)| sighting) }
}

/// 1 in the middle of the range of unsure scores, 0 at its ends and outside.
fn whether(sighting: &Sighting, options: &SelectOptions) -> f32 {
    let middle = (options.unsure_from + options.unsure_to) / 2.0;
    let half = (options.unsure_to - options.unsure_from) / 2.0;
    match half > 0.0 {
        true => (1.0 - (sighting.detection.score - middle).abs() / half).max(0.0),
        false => 0.0,
    }
}

/// 1 where two classes are equally likely, 0 where the second is out of the question; less where hardly
/// anything is there.
fn which(sighting: &Sighting, options: &SelectOptions) -> f32 {
    let Some((_, second)) = sighting.rival else { return 0.0 };
    let first = sighting.detection.score;
    // A one-to-one head may put the less likely class of an anchor forward as a box of its own.
    if first <= 0.0 || second > first {
        return 0.0;
    }
    let margin = (first - second) / (first + second);
    let is_there = (first / ((options.unsure_from + options.unsure_to) / 2.0).max(0.05)).min(1.0);
    (1.0 - margin) * is_there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yolo::detection::Detection;

    fn sighting(x1: f32, class: u32, score: f32, rival: Option<(u32, f32)>) -> Sighting {
        let detection = Detection { x1, y1: 0.0, x2: x1 + 10.0, y2: 10.0, score, class };
        Sighting { detection, rival }
    }

    fn amount(sightings: &[Sighting]) -> f32 {
        doubt(sightings, &SelectOptions::default(), |_| 1.0).amount
    }

    #[test]
    fn near_the_threshold_and_between_two_classes_is_doubt() {
        let none = amount(&[sighting(0.0, 0, 0.95, Some((1, 0.01)))]);
        let tipping = amount(&[sighting(0.0, 0, 0.35, Some((1, 0.01)))]);
        let torn = amount(&[sighting(0.0, 0, 0.8, Some((1, 0.75)))]);
        let nothing = amount(&[sighting(0.0, 0, 0.06, Some((1, 0.05)))]);
        assert!(
            none < 0.05 && tipping > 0.9 && torn > 0.9 && nothing < 0.2,
            "{none} {tipping} {torn} {nothing}"
        );
    }

    #[test]
    fn the_box_that_is_most_in_doubt_is_named_with_what_else_it_may_be() {
        let boxes = [sighting(0.0, 0, 0.9, Some((1, 0.02))), sighting(40.0, 2, 0.41, Some((1, 0.38)))];
        let doubt = doubt(&boxes, &SelectOptions::default(), |_| 1.0);
        assert_eq!(doubt.sighting, Some(boxes[1]));
    }

    #[test]
    fn an_object_seen_twice_is_one_doubt_and_two_objects_are_two() {
        let one = amount(&[sighting(0.0, 0, 0.4, None)]);
        let twice = amount(&[sighting(0.0, 0, 0.4, None), sighting(1.0, 1, 0.35, None)]);
        let two = amount(&[sighting(0.0, 0, 0.4, None), sighting(40.0, 1, 0.35, None)]);
        assert_eq!(one, twice);
        assert!(two > 1.5 * one && two < 2.5 * one);
    }

    #[test]
    fn a_class_that_counts_more_is_more_doubt() {
        let options = SelectOptions::default();
        let boxes = [sighting(0.0, 0, 0.35, None), sighting(40.0, 3, 0.3, None)];
        let doubt = doubt(&boxes, &options, |class| if class == 3 { 2.0 } else { 0.5 });
        assert_eq!(doubt.sighting.map(|sighting| sighting.detection.class), Some(3));
    }
}
