//! Whom a sample shares its mosaics with: consistent hashing.
//!
//! Samples stand on a ring of hashes, each at several points; a mosaic hashes (sample, view, seed, k)
//! to a point of the ring for each partner k and takes the sample that comes next (Karger et al.,
//! "Consistent Hashing and Random Trees", STOC 1997). So a new sample takes part in its share of the
//! old mosaics and leaves the others, and their cached features, as they were.

use super::super::cache::{FeatureKey, hash};
use super::ViewKey;
use super::mosaic::TILES;

/// Points of each sample: with but one, the widest gap would be taken many times as often as the
/// narrowest.
const POINTS: u8 = 16;

/// The samples that may be partners.
#[derive(Debug, Clone, Default)]
pub(in crate::train) struct Ring {
    /// Point, hash of the picture, and its number among those that the ring was made of.
    points: Vec<(FeatureKey, [u8; 32], usize)>,
}

impl Ring {
    /// Of the pictures with these hashes. Of equal ones the first stands for all.
    pub fn new(samples: &[[u8; 32]]) -> Self {
        let numbered = samples.iter().enumerate();
        let mut points: Vec<_> = numbered
            .flat_map(|(number, sample)| {
                (0..POINTS).map(move |point| (hash(&[b"ring", sample, &[point]]), *sample, number))
            })
            .collect();
        points.sort_unstable();
        points.dedup_by_key(|&mut (point, ..)| point);
        Ring { points }
    }

    /// The pictures beside the sample's own in a mosaic, by number: each another one as long as there
    /// are others, or else the sample itself, which must be on the ring.
    ///
    /// # Panics
    /// When the ring is empty.
    pub fn partners(&self, key: ViewKey) -> [usize; TILES - 1] {
        let mut taken = vec![*key.sample];
        std::array::from_fn(|number| {
            let (view, seed) = (key.view.to_le_bytes(), key.seed.to_le_bytes());
            let point = hash(&[b"partner", key.sample, &view, &seed, &[number as u8]]);
            let start = self.points.partition_point(|(other, ..)| *other < point);
            let (after, before) = (&self.points[start..], &self.points[..start]);
            let mut around = after.iter().chain(before);
            let other = around.clone().find(|(_, sample, _)| !taken.contains(sample));
            let &(_, sample, chosen) =
                other.or_else(|| around.next()).expect("there is a mosaic only where there is a sample");
            taken.push(sample);
            chosen
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Turns;

    fn samples(count: u32) -> Vec<[u8; 32]> {
        (0..count).map(|number| hash(&[&number.to_le_bytes()])).collect()
    }

    fn partners(ring: &Ring, samples: &[[u8; 32]], sample: &[u8; 32], view: u32) -> Vec<[u8; 32]> {
        let key = ViewKey { sample, view, seed: 1, turns: Turns::Mirror };
        ring.partners(key).iter().map(|&number| samples[number]).collect()
    }

    #[test]
    fn partners_are_others_each_once() {
        let all = samples(9);
        let ring = Ring::new(&all);
        for sample in &all {
            for view in 1..20 {
                let mut four = partners(&ring, &all, sample, view);
                four.push(*sample);
                four.sort();
                four.dedup();
                assert_eq!(four.len(), 4);
            }
        }
        // With too few, some come again, and it still is one answer.
        for count in 1..4 {
            let few = samples(count);
            let found = partners(&Ring::new(&few), &few, &few[0], 1);
            let others = few.iter().filter(|other| **other != few[0]);
            assert!(others.clone().all(|other| found.contains(other)), "{count}");
        }
    }

    #[test]
    fn a_new_sample_changes_few_mosaics_and_their_order_none() {
        let all = samples(101);
        let (old, new) = (&all[..100], Ring::new(&all));
        let ring = Ring::new(old);
        let changed = old
            .iter()
            .flat_map(|sample| (1..9).map(move |view| (sample, view)))
            .filter(|&(sample, view)| {
                let (before, after) =
                    (partners(&ring, old, sample, view), partners(&new, &all, sample, view));
                // Only the new one comes in.
                assert!(after.iter().all(|other| before.contains(other) || *other == all[100]));
                before != after
            })
            .count();
        // A share of 3/101 of 800 is expected, 24; a plain modulo would change nearly all.
        assert!((4..60).contains(&changed), "{changed} of 800 mosaics changed");

        let backwards: Vec<[u8; 32]> = old.iter().rev().copied().collect();
        assert_eq!(
            partners(&ring, old, &old[3], 5),
            partners(&Ring::new(&backwards), &backwards, &old[3], 5)
        );
    }

    #[test]
    fn every_sample_gets_its_turn() {
        let all = samples(30);
        let ring = Ring::new(&all);
        let mut times = vec![0; all.len()];
        for sample in &all {
            for view in 1..41 {
                let key = ViewKey { sample, view, seed: 0, turns: Turns::None };
                ring.partners(key).iter().for_each(|&number| times[number] += 1);
            }
        }
        // 120 times on average.
        assert!(times.iter().all(|times| (40..260).contains(times)), "{times:?}");
    }
}
