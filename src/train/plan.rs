//! Which views of which samples a run works with, when features may take so much disk and no more.
//!
//! The rule, in this order:
//!
//! 1. When every wanted view of every sample fits, all are taken.
//! 2. Otherwise each sample keeps as many views as fit, the same number for each, at least one.
//! 3. When not even the plain picture of each sample fits, a subset of the samples is drawn, balanced over
//!    classes, deterministic from the seed; another seed draws another.
//!
//! The hold-out takes at most half of the room: where it is larger, epochs are measured on a part of it
//! (the gate always measures on all of it).

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::features::Sample;

/// What a run works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Indices of the samples that are learnt from, ascending.
    pub samples: Vec<usize>,
    /// Views of each.
    pub views: u32,
    /// How many hold-out samples epochs are measured on.
    pub holdout: usize,
}

impl Plan {
    /// Plans for `capacity` records. None when not even a handful fits.
    pub fn new(samples: &[Sample], holdout: usize, views: u32, capacity: usize, seed: u64) -> Option<Self> {
        let all = samples.len();
        // A plan for fewer would be a run in name only.
        if capacity < holdout.min(4) + all.min(4) {
            return None;
        }
        let measured = if holdout + all * views as usize <= capacity {
            holdout
        } else {
            holdout.min((capacity / 2).max(capacity.saturating_sub(all * views as usize)))
        };
        let room = capacity - measured;
        let fitting = (room / all).min(views as usize);
        let samples = if fitting == 0 { balanced(samples, room, seed) } else { (0..all).collect() };
        Some(Plan { samples, views: fitting.max(1) as u32, holdout: measured })
    }

    /// Takes out what the plan leaves out.
    pub fn apply(&self, samples: &mut Vec<Sample>, holdout: &mut Vec<Sample>) {
        let mut taken = self.samples.iter().peekable();
        let mut index = 0;
        samples.retain(|_| {
            index += 1;
            taken.next_if_eq(&&(index - 1)).is_some()
        });
        holdout.truncate(self.holdout);
    }

    /// What it leaves out of `samples` with so many `views` and `holdout`, for people; none when all is taken.
    pub fn leaves_out(&self, samples: usize, views: u32, holdout: usize) -> Option<String> {
        let mut parts = Vec::new();
        if self.samples.len() < samples {
            let drawn = self.samples.len();
            parts.push(format!(
                "{drawn} of {samples} samples are drawn, balanced over classes, one view each"
            ));
        } else if self.views < views {
            parts.push(format!("each sample has {} views instead of {views}", self.views));
        }
        if self.holdout < holdout {
            parts.push(format!("epochs are measured on {} of {holdout} hold-out samples", self.holdout));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Draws `count` samples: each next one holds the class that the samples so far hold least of. Pictures
/// without boxes count as a class of their own.
fn balanced(samples: &[Sample], count: usize, seed: u64) -> Vec<usize> {
    let classes_of = |index: usize| {
        let mut classes: Vec<usize> =
            samples[index].example.labels.iter().map(|label| label.class as usize + 1).collect();
        classes.sort_unstable();
        classes.dedup();
        if classes.is_empty() { vec![0] } else { classes }
    };
    let n_classes = (0..samples.len()).flat_map(classes_of).max().unwrap_or(0) + 1;
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    // Per class, the samples that hold it, last first.
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); n_classes];
    for &index in order.iter().rev() {
        for class in classes_of(index) {
            waiting[class].push(index);
        }
    }
    let mut held = vec![0_usize; n_classes];
    let mut is_taken = vec![false; samples.len()];
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        for stack in &mut waiting {
            while stack.last().is_some_and(|&index| is_taken[index]) {
                stack.pop();
            }
        }
        let scarcest = (0..n_classes).filter(|&class| !waiting[class].is_empty()).min_by_key(|&c| held[c]);
        let Some(index) = scarcest.and_then(|class| waiting[class].pop()) else { break };
        is_taken[index] = true;
        taken.push(index);
        for class in classes_of(index) {
            held[class] += 1;
        }
    }
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Example;
    use crate::label::LabelBox;
    use proptest::prelude::*;

    fn examples(classes: &[Vec<u32>]) -> Vec<Example> {
        let label = |&class: &u32| LabelBox { class, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
        let example = |classes: &Vec<u32>| Example {
            picture: "x".into(),
            labels: classes.iter().map(label).collect(),
            covers: None,
        };
        classes.iter().map(example).collect()
    }

    fn samples(examples: &[Example]) -> Vec<Sample<'_>> {
        examples.iter().map(|example| Sample { example, hash: [0; 32], picture: (8, 8) }).collect()
    }

    #[test]
    fn views_go_before_samples_and_samples_are_balanced() {
        // Ninety samples of one class, ten of another.
        let classes: Vec<Vec<u32>> = (0..100).map(|i| vec![u32::from(i % 10 == 0)]).collect();
        let examples = examples(&classes);
        let samples = samples(&examples);
        let all: Vec<usize> = (0..100).collect();
        let plan = |capacity| Plan::new(&samples, 20, 8, capacity, 3).unwrap();
        assert_eq!(plan(820), Plan { samples: all.clone(), views: 8, holdout: 20 });
        assert_eq!(plan(420), Plan { samples: all.clone(), views: 4, holdout: 20 });
        assert_eq!(plan(819), Plan { samples: all, views: 7, holdout: 20 });
        let small = plan(40);
        assert_eq!((small.samples.len(), small.views, small.holdout), (20, 1, 20));
        let rare = small.samples.iter().filter(|&&index| index % 10 == 0).count();
        assert_eq!(rare, 10, "the rare class is half of the draw");
        assert!(plan(10).leaves_out(100, 8, 20).unwrap().contains("5 of 20 hold-out samples"));
        assert_eq!(Plan::new(&samples, 20, 8, 7, 3), None);
    }

    proptest! {
        #[test]
        fn plans_fit_and_depend_on_the_seed_alone(
            classes in prop::collection::vec(prop::collection::vec(0_u32..4, 0..3), 1..40),
            holdout in 1_usize..30, views in 1_u32..9, capacity in 8_usize..400, seed in 0_u64..9,
        ) {
            let examples = examples(&classes);
            let samples = samples(&examples);
            let plan = Plan::new(&samples, holdout, views, capacity, seed).unwrap();
            prop_assert!(plan.holdout + plan.samples.len() * plan.views as usize <= capacity);
            prop_assert!(plan.holdout >= 1 && !plan.samples.is_empty() && plan.views >= 1);
            prop_assert!(plan.samples.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(&plan, &Plan::new(&samples, holdout, views, capacity, seed).unwrap());
            let all = holdout + classes.len() * views as usize <= capacity;
            prop_assert_eq!(plan.leaves_out(classes.len(), views, holdout).is_none(), all);
        }
    }
}
