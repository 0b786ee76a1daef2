//! Which records stay when there is no room for all: as many of each class as can be, and of each
//! class as many from each run.
//!
//! The rule: while the records take more than the budget, one goes. A record counts for the rarest of
//! its classes (a picture without boxes for none of them, as a class of its own). The next to go is one
//! of the class that has most records; within it, one of the run that has most of the class; within
//! that, one of the sample with most views; and among those whichever a hash of seed and key names.
//! With one class per picture this is class-balancing reservoir sampling (Chrysakis & Moens, "Online
//! continual learning from imbalanced data", ICML 2020), with the runs balanced too.

use std::collections::{BinaryHeap, HashMap};

/// What the choice looks at.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Names of the classes that have a box on it, each once.
    pub classes: Vec<String>,
    /// The run that it came from.
    pub run: u64,
    /// The picture that it shows.
    pub sample: [u8; 32],
    /// Decides between equals.
    pub tie: [u8; 32],
    /// Bytes on the disk.
    pub size: u64,
}

/// How many records there are of each kind.
struct Counts {
    classes: Vec<u32>,
    runs: HashMap<(usize, u64), u32>,
    samples: HashMap<[u8; 32], u32>,
}

/// A claim to be the next to go; larger goes first.
type Claim = (u32, u32, u32, [u8; 32], usize);

/// Of each item whether it stays, so that those that do take no more than `budget` bytes.
pub(super) fn choose(items: &[Item], budget: u64) -> Vec<bool> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let kinds: Vec<Vec<usize>> = items
        .iter()
        .map(|item| {
            let names = item.classes.iter().map(String::as_str);
            // No class has an empty name, so it stands for pictures without boxes.
            let names = names.chain(item.classes.is_empty().then_some(""));
            names
                .map(|name| {
                    let next = numbers.len();
                    *numbers.entry(name).or_insert(next)
                })
                .collect()
        })
        .collect();
    let mut counts =
        Counts { classes: vec![0; numbers.len()], runs: HashMap::new(), samples: HashMap::new() };
    for (item, kinds) in items.iter().zip(&kinds) {
        for &class in kinds {
            counts.classes[class] += 1;
            *counts.runs.entry((class, item.run)).or_default() += 1;
        }
        *counts.samples.entry(item.sample).or_default() += 1;
    }
    let claim = |counts: &Counts, index: usize| -> Claim {
        let item = &items[index];
        let rarest = kinds[index]
            .iter()
            .map(|&class| (counts.classes[class], counts.runs[&(class, item.run)]))
            .min()
            .expect("every item has a kind");
        (rarest.0, rarest.1, counts.samples[&item.sample], item.tie, index)
    };
    let mut stays = vec![true; items.len()];
    let mut total: u64 = items.iter().map(|item| item.size).sum();
    if total <= budget {
        return stays;
    }
    let mut heap: BinaryHeap<Claim> = (0..items.len()).map(|index| claim(&counts, index)).collect();
    while total > budget
        && let Some(claimed) = heap.pop()
    {
        let index = claimed.4;
        // Counts only fall, and claims with them: one that is out of date is put back where it belongs.
        let now = claim(&counts, index);
        if now < claimed {
            heap.push(now);
            continue;
        }
        stays[index] = false;
        total -= items[index].size;
        for &class in &kinds[index] {
            counts.classes[class] -= 1;
            *counts.runs.get_mut(&(class, items[index].run)).expect("it was counted") -= 1;
        }
        *counts.samples.get_mut(&items[index].sample).expect("it was counted") -= 1;
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(number: usize, class: usize, run: u64, sample: u8) -> Item {
        let mut tie = [0; 32];
        // Scattered, as hashes are.
        tie[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Item { classes: vec![format!("c{class}")], run, sample: [sample; 32], tie, size: 10 }
    }

    fn count(items: &[Item], stays: &[bool], wanted: impl Fn(&Item) -> bool) -> usize {
        items.iter().zip(stays).filter(|(item, stays)| **stays && wanted(item)).count()
    }

    proptest! {
        #[test]
        fn classes_and_runs_are_balanced_within_the_budget(
            kinds in prop::collection::vec((0_usize..4, 0_u64..3), 1..120), room in 0_u64..130,
        ) {
            let items: Vec<Item> =
                kinds.iter().enumerate().map(|(i, &(class, run))| item(i, class, run, i as u8)).collect();
            let stays = choose(&items, 10 * room);
            let kept = count(&items, &stays, |_| true);
            prop_assert_eq!(kept, items.len().min(room as usize), "no room is wasted");
            for class in 0..4 {
                let of = |other: usize| move |item: &Item| item.classes[0] == format!("c{other}");
                let lost = items.iter().filter(|item| of(class)(item)).count() > count(&items, &stays, of(class));
                for other in 0..4 {
                    let (mine, theirs) = (count(&items, &stays, of(class)), count(&items, &stays, of(other)));
                    prop_assert!(!lost || theirs <= mine + 1, "a class of {mine} lost one beside {theirs}");
                }
                for run in 0..3 {
                    let of = |other: u64| move |item: &Item| item.classes[0] == format!("c{class}") && item.run == other;
                    let lost = items.iter().filter(|item| of(run)(item)).count() > count(&items, &stays, of(run));
                    for other in 0..3 {
                        let (mine, theirs) = (count(&items, &stays, of(run)), count(&items, &stays, of(other)));
                        prop_assert!(!lost || theirs <= mine + 1, "run {run} lost one beside {other}");
                    }
                }
            }
        }

        #[test]
        fn pictures_of_several_classes_stay_within_the_budget(
            kinds in prop::collection::vec((prop::collection::btree_set(0_usize..4, 0..4), 1_u64..30), 1..60),
            budget in 0_u64..600,
        ) {
            let items: Vec<Item> = kinds
                .iter()
                .enumerate()
                .map(|(i, (classes, size))| Item {
                    classes: classes.iter().map(|class| format!("c{class}")).collect(),
                    size: *size,
                    ..item(i, 0, 0, i as u8)
                })
                .collect();
            let stays = choose(&items, budget);
            let total: u64 = items.iter().zip(&stays).filter(|(_, s)| **s).map(|(item, _)| item.size).sum();
            prop_assert!(total <= budget);
            prop_assert_eq!(&stays, &choose(&items, budget));
        }
    }

    #[test]
    fn further_views_of_a_sample_go_before_other_samples() {
        let items: Vec<Item> = (0..12).map(|i| item(i, 0, 0, (i / 3) as u8)).collect();
        let stays = choose(&items, 40);
        for sample in 0..4 {
            assert_eq!(count(&items, &stays, |item| item.sample == [sample; 32]), 1);
        }
    }
}
