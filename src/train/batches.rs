//! What is in a batch: views of the run's samples, and records of the replay memory.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::label::LabelBox;
use crate::yolo::distil::Coverage;

use super::TrainError;
use super::epochs::Epochs;
use super::head::Batch;

/// One picture of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    /// A view of a sample, both by number.
    View(usize, u32),
    /// A record of the replay memory, by number.
    Record(usize),
}

/// Features of a part of a batch, the boxes of each picture, and what is known of each class on it.
pub(super) type Lesson = (Batch, Vec<Vec<LabelBox>>, Vec<Vec<Coverage>>);

impl Epochs<'_> {
    /// Of a batch, so many are the run's own samples, at least one; the memory fills the rest.
    pub fn own(&self) -> usize {
        let replays = self.replay.as_ref().is_some_and(|replay| replay.len() > 0);
        let replayed = (self.options.replay * self.batch as f64).round() as usize;
        if replays { self.batch - replayed.min(self.batch - 1) } else { self.batch }
    }

    /// The batches of an epoch: each sample once, in an order of its own, each with another view than
    /// in the epoch before. The last batch is filled up from the start of the order.
    pub fn batches(&self, epoch: u32) -> Vec<Vec<Member>> {
        let mut rng = ChaCha8Rng::seed_from_u64(
            self.options.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(epoch)),
        );
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        order.shuffle(&mut rng);
        let views = self.views_per_sample as usize;
        let member = |index: usize| {
            let sample = order[index % order.len()];
            Member::View(sample, ((epoch as usize - 1 + sample) % views) as u32)
        };
        let own = self.own();
        let mut batches: Vec<Vec<Member>> =
            (0..order.len()).step_by(own).map(|start| (start..start + own).map(member).collect()).collect();
        if let Some(replay) = &self.replay
            && own < self.batch
        {
            for batch in &mut batches {
                batch.extend(replay.sample(self.batch - own, &mut rng).into_iter().map(Member::Record));
            }
        }
        batches
    }

    /// Reads a part of a batch.
    pub fn read(&self, members: &[Member]) -> Result<Lesson, TrainError> {
        let lesson = |&member: &Member| match (member, &self.replay) {
            (Member::View(number, view), _) => {
                let sample = &self.samples[number];
                let known = self.views.in_common(&self.coverage, Coverage::Labelled, (number, sample), view);
                (self.views.labels(sample, view), known)
            }
            (Member::Record(record), Some(replay)) => replay.lesson(record).clone(),
            (Member::Record(_), None) => unreachable!("records come from the memory"),
        };
        let (truth, coverage) = members.iter().map(lesson).unzip();
        let features = self.head.fill(members.len(), |index, targets| {
            match (members[index], &self.replay) {
                (Member::View(sample, view), _) => {
                    self.features.read(&self.views.key(&self.samples[sample], view), targets);
                }
                (Member::Record(record), Some(replay)) => replay.read(record, targets)?,
                (Member::Record(_), None) => unreachable!("records come from the memory"),
            }
            Ok(())
        })?;
        Ok((features, truth, coverage))
    }
}
