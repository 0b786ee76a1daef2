//! `lr = "auto"`: a look before the leap.
//!
//! Each candidate takes a few steps from the same start, and the averaged weights are then asked for their
//! loss on pictures that these steps did not see. The rate with the lowest loss is taken. (A short version
//! of the range test of Smith, "Cyclical learning rates for training neural networks", arXiv 1506.01186,
//! judged by what is learnt rather than by the loss of the steps themselves.)

use crate::yolo::criterion::{Criterion, Sums, normaliser};
use crate::yolo::maps::RawMaps;

use super::TrainError;
use super::batches::Member;
use super::epochs::Epochs;
use super::event::TrainEvent;
use super::head::Weights;
use super::options::DEFAULT_LR;
use super::schedule::Course;

/// The candidates, as multiples of the default.
const CANDIDATES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// Share of a run's steps that each candidate takes, and the bounds of that.
const SHARE: f64 = 0.04;
const STEPS: std::ops::RangeInclusive<usize> = 6..=40;

/// One sample of so many is asked rather than learnt from; at most so many are asked.
const ASKED_OF: usize = 4;
const MOST_ASKED: usize = 32;

impl Epochs<'_> {
    /// Tries the candidates and gives the best; the head is as before.
    pub(super) fn choose_rate(
        &mut self,
        criterion: &Criterion,
        on_event: &mut dyn FnMut(TrainEvent),
    ) -> Result<f64, TrainError> {
        let mut chosen = |rate: f64, reason: String| {
            on_event(TrainEvent::Chosen { what: "lr".into(), value: rate.to_string(), reason });
            Ok(rate)
        };
        let (asked, learnt): (Vec<usize>, Vec<usize>) =
            (0..self.samples.len()).partition(|index| index % ASKED_OF == 0);
        if asked.len() < 2 || learnt.len() < self.batch {
            return chosen(DEFAULT_LR, "there are too few pictures to try others".into());
        }
        // The last view is the one that the steps see last, if at all.
        let other = self.views_per_sample - 1;
        let asked: Vec<Member> =
            asked.iter().take(MOST_ASKED).map(|&index| Member::View(index, other)).collect();
        let all_steps = self.options.epochs as usize * self.samples.len().div_ceil(self.batch);
        let steps = ((all_steps as f64 * SHARE) as usize).clamp(*STEPS.start(), *STEPS.end());
        let start = self.head.state();
        let mut tried: Vec<(f64, f64)> = Vec::new();
        for rate in CANDIDATES.map(|factor| factor * DEFAULT_LR) {
            self.head.restore(&start);
            // As if these steps were the run: the rate rises and falls as it will.
            let course = Course::of_steps(self.options, rate, steps as u64);
            for step in 0..steps {
                let members: Vec<Member> = (0..self.batch)
                    .map(|place| {
                        let turn = step * self.batch + place;
                        let view = (turn / learnt.len()) as u32 % self.views_per_sample;
                        Member::View(learnt[turn % learnt.len()], view)
                    })
                    .collect();
                self.head.scale_before_last(course.before_last(step as u64), &self.last);
                self.step(&members, criterion, &course.at(step as u64))?;
            }
            tried.push((rate, self.loss_of(&asked, criterion)?));
        }
        self.head.restore(&start);
        let finite = tried.iter().filter(|(_, loss)| loss.is_finite());
        let Some(&(best, _)) = finite.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            return chosen(DEFAULT_LR, "no candidate kept the loss finite".into());
        };
        let losses: Vec<String> = tried.iter().map(|(rate, loss)| format!("{rate}: {loss:.3}")).collect();
        chosen(best, format!("loss on unseen pictures after {steps} steps: {}", losses.join(", ")))
    }

    /// The averaged weights' loss per picture.
    fn loss_of(&mut self, members: &[Member], criterion: &Criterion) -> Result<f64, TrainError> {
        let mut sums = Sums::default();
        for part in members.chunks(self.head.part()) {
            self.control.go_on()?;
            let (batch, truth, _) = self.read(part)?;
            let mut gradients = criterion.gradients(part.len());
            let evaluate = |maps: &RawMaps| {
                let maps = RawMaps { batch: part.len(), ..maps.clone() };
                criterion.sums(&maps, &truth, &mut gradients)
            };
            sums = sums + self.head.maps(&batch, Weights::Averaged, evaluate)?;
        }
        Ok(sums.loss.total() * normaliser(1, sums.scores))
    }
}
