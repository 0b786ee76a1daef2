//! The gate on models that are made up: what they find on a picture is drawn by chance, with a skill.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::yolo::detection::Detection;
use crate::yolo::metrics::{Evaluator, TruthBox};

/// A made-up model: per class, how likely it is to see a box and how closely it then draws it.
#[derive(Clone, Copy)]
struct Skill<'a> {
    recall: &'a [f64],
    noise: f32,
}

/// A hold-out of `pictures` pictures, of which the boxes come from `truth_seed`.
struct Pictures(Vec<Vec<TruthBox>>);

impl Pictures {
    /// `share[c]` of the pictures show boxes of class c, 1 to 5 each.
    fn new(pictures: usize, share: &[f64], truth_seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(truth_seed);
        let mut one = |_| {
            let mut boxes = Vec::new();
            for (class, &share) in share.iter().enumerate() {
                if rng.random::<f64>() >= share {
                    continue;
                }
                for _ in 0..rng.random_range(1..=5) {
                    let [x, y] = [0, 1].map(|_| 600.0 * rng.random::<f32>());
                    let side = 16.0 + 80.0 * rng.random::<f32>();
                    boxes.push(TruthBox { class: class as u32, corners: [x, y, x + side, y + side] });
                }
            }
            boxes
        };
        Pictures((0..pictures).map(&mut one).collect())
    }

    /// What a model of this skill finds. A picture that is hard is hard for every model.
    fn measured(&self, skill: Skill, seed: u64) -> Measurement {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let names: Vec<String> = (0..skill.recall.len()).map(|class| format!("c{class}")).collect();
        let mut evaluator = Evaluator::new(&names);
        for (number, truth) in self.0.iter().enumerate() {
            let ease = 0.5 + 0.5 * ((number * 37 % 11) as f64 / 10.0);
            let mut found = Vec::new();
            for target in truth {
                if rng.random::<f64>() < ease * skill.recall[target.class as usize] {
                    let side = target.corners[2] - target.corners[0];
                    let mut moved = || skill.noise * side * (2.0 * rng.random::<f32>() - 1.0);
                    let [x1, y1, x2, y2] = target.corners.map(|corner| corner + moved());
                    let score = 0.2 + 0.8 * rng.random::<f32>();
                    found.push(Detection { x1, y1, x2, y2, score, class: target.class });
                }
            }
            for _ in 0..rng.random_range(0..4) {
                let [x1, y1] = [0, 1].map(|_| 600.0 * rng.random::<f32>());
                let class = rng.random_range(0..skill.recall.len() as u32);
                let score = 0.7 * rng.random::<f32>();
                found.push(Detection { x1, y1, x2: x1 + 40.0, y2: y1 + 40.0, score, class });
            }
            evaluator.add(&found, truth);
        }
        evaluator.measurement()
    }
}

const GOOD: Skill = Skill { recall: &[0.95, 0.95], noise: 0.08 };
const FAIR: Skill = Skill { recall: &[0.7, 0.7], noise: 0.15 };

#[test]
fn the_gate_lets_a_clear_winner_through() {
    for seed in 0..20 {
        let pictures = Pictures::new(30, &[1.0, 0.7], seed);
        let (fair, good) = (pictures.measured(FAIR, 2 * seed), pictures.measured(GOOD, 2 * seed + 1));
        let verdict = judge(&fair, &good, 0.9);
        assert!(verdict.promoted && verdict.confidence.unwrap() > 0.99, "{verdict:?}");
        assert_eq!(verdict.more_labels, None);
        // The other way round it is as surely worse.
        let back = judge(&good, &fair, 0.9);
        assert!(!back.promoted && back.reason.contains("not above"), "{back:?}");
        assert!((back.confidence.unwrap() + verdict.confidence.unwrap() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_gate_refuses_what_is_not_better() {
    let pictures = Pictures::new(12, &[1.0], 3);
    let skill = Skill { recall: &[0.8], noise: 0.1 };
    let same = pictures.measured(skill, 5);
    let verdict = judge(&same, &same, 0.9);
    assert!(!verdict.promoted && verdict.reason.contains("not above"), "{verdict:?}");
    assert_eq!((verdict.confidence, verdict.more_labels), (Some(0.5), None));

    let empty = Pictures::new(3, &[0.0], 3);
    let verdict = judge(&empty.measured(skill, 1), &empty.measured(skill, 2), 0.9);
    assert!(!verdict.promoted && verdict.reason.contains("no box"), "{verdict:?}");
    assert_eq!(verdict.confidence, None);

    let others = Pictures::new(12, &[1.0], 4);
    let verdict = judge(&same, &others.measured(skill, 5), 0.0);
    assert!(!verdict.promoted && verdict.reason.contains("same pictures"), "{verdict:?}");
}

#[test]
fn the_gate_says_how_many_more_pictures_would_tell() {
    let (worse, better) = (Skill { recall: &[0.70], noise: 0.12 }, Skill { recall: &[0.74], noise: 0.12 });
    let verdicts = (0..40).map(|seed| {
        let pictures = Pictures::new(8, &[1.0], 100 + seed);
        judge(&pictures.measured(worse, 2 * seed), &pictures.measured(better, 2 * seed + 1), 0.9)
    });
    let lucky: Vec<Verdict> = verdicts.filter(|verdict| verdict.reason.contains("luck")).collect();
    assert!(lucky.len() > 5, "{lucky:?}");
    for verdict in &lucky {
        let (sure, more) = (verdict.confidence.unwrap(), verdict.more_labels);
        assert!(!verdict.promoted && sure < 0.9, "{verdict:?}");
        let Some(more) = more else { continue };
        assert!(
            more > 0 && verdict.reason.contains(&format!("label about {more} more hold-out")),
            "{verdict:?}"
        );
        assert!(verdict.reason.contains("on 8 pictures") && verdict.reason.contains("90 % needed"));
    }
    // The nearer to certainty, the fewer.
    let mut told: Vec<(f64, usize)> =
        lucky.iter().filter_map(|v| Some((v.confidence?, v.more_labels?))).collect();
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(told[0].1 > 3 * told[told.len() - 1].1, "{told:?}");
}

#[test]
fn the_gate_is_never_sure_on_a_handful_of_pictures() {
    for count in 1..=5 {
        let pictures = Pictures::new(count, &[1.0], 9);
        let (blind, good) = (
            pictures.measured(Skill { recall: &[0.0], noise: 0.0 }, 1),
            pictures.measured(Skill { recall: &[1.0], noise: 0.02 }, 2),
        );
        let verdict = judge(&blind, &good, 0.9);
        assert_eq!(verdict.promoted, count >= 4, "{count}: {verdict:?}");
        if count < 4 {
            assert_eq!(verdict.more_labels, Some(4 - count), "{verdict:?}");
        }
        // Who asks for no evidence is given none.
        assert!(judge(&blind, &good, 0.0).promoted);
    }
}

#[test]
fn the_gate_refuses_when_an_old_class_drops() {
    let pictures = Pictures::new(30, &[1.0, 0.5], 7);
    let base = pictures.measured(Skill { recall: &[0.3, 0.9], noise: 0.08 }, 1);
    let candidate = pictures.measured(Skill { recall: &[0.95, 0.6], noise: 0.08 }, 2);
    let verdict = judge(&base, &candidate, 0.9);
    assert!(!verdict.promoted && verdict.reason.contains("class \"c1\" fell"), "{verdict:?}");
}

/// Boxes as the test says: one class on all pictures, another on `rare` of them.
fn with_a_rare_class(rare: usize, current: f32, candidate: f32) -> Verdict {
    let model = |common: usize, moved: f32| {
        let mut evaluator = Evaluator::new(&["common".to_owned(), "rare".to_owned()]);
        for picture in 0..20 {
            let corners = |class: u32| [0.0, 200.0 * class as f32, 100.0, 200.0 * class as f32 + 100.0];
            let mut truth = vec![TruthBox { class: 0, corners: corners(0) }];
            let mut found = Vec::new();
            let mut find = |class: u32, moved: f32| {
                let [x1, y1, x2, y2] = corners(class);
                found.push(Detection { x1: x1 + moved, x2: x2 + moved, y1, y2, score: 0.9, class });
            };
            if picture < common {
                find(0, 0.0);
            }
            if picture < rare {
                truth.push(TruthBox { class: 1, corners: corners(1) });
                find(1, moved);
            }
            evaluator.add(&found, &truth);
        }
        evaluator.measurement()
    };
    judge(&model(1, current), &model(20, candidate), 0.9)
}

#[test]
fn a_small_fall_on_few_pictures_is_luck_and_a_collapse_is_not() {
    // Moved by 4 and by 10 of 100 pixels, a box is right at nine and at seven of ten overlaps.
    let lucky = with_a_rare_class(2, 4.0, 10.0);
    assert!(lucky.promoted, "{lucky:?}");
    assert!(
        lucky.reason.contains("class \"rare\" fell") && lucky.reason.contains("may be luck"),
        "{lucky:?}"
    );
    let sure = with_a_rare_class(12, 4.0, 10.0);
    assert!(!sure.promoted && sure.reason.contains("class \"rare\""), "{sure:?}");
    let lost = with_a_rare_class(1, 4.0, 90.0);
    assert!(!lost.promoted && lost.reason.contains("on 1 picture,"), "{lost:?}");
}

/// How often two models that are equally good would be taken for a better and a worse one.
fn false_promotions(pictures: usize, share: &[f64], pairs: u64, confidence: f64) -> f64 {
    let recall = vec![0.75; share.len()];
    let skill = Skill { recall: &recall, noise: 0.12 };
    let promoted = (0..pairs).filter(|pair| {
        let pictures = Pictures::new(pictures, share, 7_000 + pair);
        let [one, other] = [0, 1].map(|side| pictures.measured(skill, 90_000 + 2 * pair + side));
        judge(&one, &other, confidence).promoted
    });
    promoted.count() as f64 / pairs as f64
}

#[test]
fn luck_is_promoted_no_more_often_than_the_confidence_allows() {
    // Three standard deviations of a share of 0.1 out of 300 are 0.052.
    for (pictures, share) in [(4, &[1.0][..]), (6, &[1.0]), (12, &[0.9, 0.4]), (40, &[0.8, 0.3, 0.1])] {
        let rate = false_promotions(pictures, share, 300, 0.9);
        assert!(rate <= 0.1 + 0.052, "{rate} of lucky candidates pass on {pictures} pictures");
        // And the bootstrap is not merely blind: without it half of them pass.
        assert!(rate >= 0.02, "{rate} on {pictures} pictures");
    }
    assert!(false_promotions(12, &[1.0], 100, 0.0) > 0.35);
}
