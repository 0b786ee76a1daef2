//! Two models measured on the same pictures, compared by a paired bootstrap.
//!
//! Pictures are drawn with replacement, as many as there are, and both models are evaluated on the
//! same draw: what is hard about a picture is hard for both, and goes out of the difference (Efron and
//! Tibshirani, "An Introduction to the Bootstrap", chapters 8 and 16; for figures that are no means
//! over pictures, such as average precision, Bisani and Ney, "Bootstrap estimates for confidence
//! intervals", ICASSP 2004). The picture is what is drawn, not the box: boxes of one picture rise and
//! fall together.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Measurement;
use super::measurement::mean;
use super::ranking::Scratch;

/// Two models on the same pictures.
#[derive(Debug, Clone)]
pub struct Paired<'a> {
    current: &'a Measurement,
    candidate: &'a Measurement,
    /// Classes that both models have and the pictures show.
    classes: Vec<ClassPair>,
}

/// A class that both models have.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPair {
    /// Its name.
    pub class: String,
    /// AP50-95 of the current model.
    pub current: f64,
    /// AP50-95 of the candidate.
    pub candidate: f64,
    /// Pictures that show it.
    pub pictures: usize,
    /// Its number in the one model and in the other.
    numbers: (usize, usize),
}

/// Candidate minus current model on one draw of pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// Of mAP50-95; none when the draw shows no true box.
    pub map50_95: Option<f64>,
    /// Of AP50-95, for each of [`Paired::classes`]; none when the draw does not show the class.
    pub classes: Vec<Option<f64>>,
}

impl<'a> Paired<'a> {
    /// Pairs two measurements; none when they are not of the same pictures with the same truth.
    pub fn new(current: &'a Measurement, candidate: &'a Measurement) -> Option<Self> {
        if current.images != candidate.images {
            return None;
        }
        let weights = vec![1; current.images];
        let mut scratch = Scratch::default();
        let before = current.weighted(&weights, &mut scratch);
        let after = candidate.weighted(&weights, &mut scratch);
        let mut classes = Vec::new();
        for (number, class) in current.classes.iter().enumerate() {
            let Some(other) = candidate.classes.iter().position(|name| name == class) else { continue };
            let truth = current.rankings[number].truth();
            if truth != candidate.rankings[other].truth() {
                return None;
            }
            if let (Some(current), Some(candidate)) = (before[number], after[other]) {
                classes.push(ClassPair {
                    class: class.clone(),
                    current,
                    candidate,
                    pictures: truth.len(),
                    numbers: (number, other),
                });
            }
        }
        Some(Paired { current, candidate, classes })
    }

    /// Classes that both models have and the pictures show.
    pub fn classes(&self) -> &[ClassPair] {
        &self.classes
    }

    /// Pictures that show a true box of a class that either model has: what a comparison rests on.
    pub fn pictures(&self) -> usize {
        let mut shows = vec![false; self.current.images];
        for ranking in self.current.rankings.iter().chain(&self.candidate.rankings) {
            for &(picture, _) in ranking.truth() {
                shows[picture as usize] = true;
            }
        }
        shows.into_iter().filter(|&shows| shows).count()
    }

    /// Differences on so many draws. The same seed gives the same draws, on any number of threads.
    pub fn resample(&self, draws: usize, seed: u64) -> Vec<Differences> {
        let one = |scratch: &mut (Scratch, Vec<u32>), draw: usize| {
            let (scratch, weights) = scratch;
            // A stream of its own for each draw, so that it does not matter who comes first.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(draw as u64);
            let n_pictures = self.current.images;
            weights.clear();
            weights.resize(n_pictures, 0);
            for _ in 0..n_pictures {
                weights[rng.random_range(0..n_pictures)] += 1;
            }
            self.differences(weights, scratch)
        };
        (0..draws).into_par_iter().map_init(Default::default, one).collect()
    }

    /// Differences when picture `p` counts `weights[p]` times.
    fn differences(&self, weights: &[u32], scratch: &mut Scratch) -> Differences {
        let current = self.current.weighted(weights, scratch);
        let candidate = self.candidate.weighted(weights, scratch);
        let map = |figures: &[Option<f64>]| mean(&figures.iter().flatten().copied().collect::<Vec<f64>>());
        let difference = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        Differences {
            map50_95: difference(map(&candidate), map(&current)),
            classes: self
                .classes
                .iter()
                .map(|class| difference(candidate[class.numbers.1], current[class.numbers.0]))
                .collect(),
        }
    }
}
