//! Weighted evaluation against evaluations of pictures that were really added so often.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ranking::Scratch;
use super::*;

/// A picture of two classes: boxes, and detections near some of them and elsewhere.
fn picture(rng: &mut ChaCha8Rng) -> (Vec<Detection>, Vec<TruthBox>) {
    let corner = |reach: f32, rng: &mut ChaCha8Rng| reach * rng.random::<f32>();
    let (mut found, mut truth) = (Vec::new(), Vec::new());
    for _ in 0..rng.random_range(0..5) {
        let (x, y, class) = (corner(300.0, rng), corner(300.0, rng), rng.random_range(0..2));
        truth.push(TruthBox { class, corners: [x, y, x + 50.0, y + 40.0] });
        for _ in 0..rng.random_range(0..3) {
            let (dx, dy, score) = (corner(15.0, rng), corner(15.0, rng), rng.random());
            found.push(Detection {
                x1: x + dx,
                y1: y + dy,
                x2: x + dx + 50.0,
                y2: y + dy + 40.0,
                score,
                class,
            });
        }
    }
    for _ in 0..rng.random_range(0..6) {
        let (x, y, score, class) =
            (corner(300.0, rng), corner(300.0, rng), rng.random(), rng.random_range(0..2));
        found.push(Detection { x1: x, y1: y, x2: x + 30.0, y2: y + 30.0, score, class });
    }
    (found, truth)
}

fn pictures(count: usize, seed: u64) -> Vec<(Vec<Detection>, Vec<TruthBox>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| picture(&mut rng)).collect()
}

/// Each picture as often as it counts.
fn added(pictures: &[(Vec<Detection>, Vec<TruthBox>)], weights: &[u32]) -> Measurement {
    let mut evaluator = Evaluator::new(&["a".to_owned(), "b".to_owned()]);
    for ((found, truth), &weight) in pictures.iter().zip(weights) {
        for _ in 0..weight {
            evaluator.add(found, truth);
        }
    }
    evaluator.measurement()
}

/// Average precision as its definition has it: every detection a point, every recall searched for.
fn plain_precision(right: &[bool], n_truth: usize) -> f64 {
    let mut count = 0;
    let mut points: Vec<(f64, f64)> = right
        .iter()
        .enumerate()
        .map(|(index, &right)| {
            count += usize::from(right);
            (count as f64 / n_truth as f64, count as f64 / (index + 1) as f64)
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

proptest! {
    #[test]
    fn true_positives_alone_decide_the_average_precision(count in 1_usize..12, seed in any::<u64>()) {
        let all = added(&pictures(count, seed), &vec![1; count]);
        for ranking in &all.rankings {
            let found = ranking.average_precisions(&vec![1; count], &mut Scratch::default());
            prop_assert_eq!(found.is_some(), ranking.n_truth() > 0);
            for (overlap, value) in found.iter().flatten().enumerate() {
                let right: Vec<bool> = ranking.found().iter().map(|found| found.is_right(overlap)).collect();
                // To the last bit.
                prop_assert_eq!(*value, plain_precision(&right, ranking.n_truth()));
            }
        }
    }

    #[test]
    fn a_picture_that_counts_twice_is_a_picture_added_twice(
        weights in prop::collection::vec(0_u32..4, 1..12), seed in any::<u64>(),
    ) {
        let pictures = pictures(weights.len(), seed);
        let once = added(&pictures, &vec![1; weights.len()]);
        let weighted = once.weighted(&weights, &mut Scratch::default());
        let really = added(&pictures, &weights);
        let expected = really.weighted(&vec![1; really.images], &mut Scratch::default());
        for (weighted, expected) in weighted.iter().zip(&expected) {
            prop_assert_eq!(weighted.is_some(), expected.is_some());
            let apart = (weighted.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs();
            prop_assert!(apart < 1e-12, "{weighted:?} is not {expected:?}");
        }
    }
}

#[test]
fn the_plain_figure_is_the_one_with_all_weights_one() {
    let all = added(&pictures(9, 4), &[1; 9]);
    let evaluation = all.evaluation();
    assert_eq!(all.map50_95(), evaluation.map50_95);
    let classes: Vec<f64> = evaluation.per_class.iter().map(|class| class.ap50_95).collect();
    let weighted: Vec<f64> = all.weighted(&[1; 9], &mut Scratch::default()).into_iter().flatten().collect();
    assert_eq!(classes, weighted);
}

#[test]
fn draws_are_the_same_on_any_number_of_threads() {
    let one = added(&pictures(9, 4), &[1; 9]);
    let other = {
        let mut worse = pictures(9, 4);
        worse.iter_mut().for_each(|(found, _)| found.truncate(3));
        added(&worse, &[1; 9])
    };
    let paired = Paired::new(&one, &other).unwrap();
    let draw = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| paired.resample(50, 3))
    };
    assert_eq!(draw(1), draw(3));
    assert_ne!(paired.resample(50, 3), paired.resample(50, 4));
    assert!(Paired::new(&one, &added(&pictures(9, 5), &[1; 9])).is_none());
}
