//! How much a class counts: more when few kept frames show it.

use crate::yolo::detection::Detection;

/// Of what was counted so much is left when another frame is kept: about the last two hundred tell.
const FADES: f32 = 0.995;

/// No class counts more than so many times, or less than the same part of, what kept ones do on average.
const MOST: f32 = 4.0;

/// What a frame is worth for the rarest class on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rarity {
    /// 0 where no class on it is rarer than the mean.
    pub amount: f32,
    /// The box of that class.
    pub found: Option<Detection>,
}

/// Kept frames per class.
#[derive(Debug, Clone, Default)]
pub(super) struct Balance {
    counts: Vec<f32>,
}

impl Balance {
    /// For a model with so many classes; what is known of earlier ones stays.
    pub fn with_classes(mut self, classes: usize) -> Self {
        self.counts.resize(classes, 0.0);
        self
    }

    /// A frame with these classes, each named once, is kept.
    pub fn add(&mut self, classes: &[u32]) {
        self.counts.iter_mut().for_each(|count| *count *= FADES);
        for &class in classes {
            if let Some(count) = self.counts.get_mut(class as usize) {
                *count += 1.0;
            }
        }
    }

    /// What finds of a class count: the less the more of them are kept, and 1 on average over what is kept. So
    /// what a frame is worth does not fall with each that is kept, only with each that is like it.
    pub fn weight(&self, class: u32) -> f32 {
        let Some(&count) = self.counts.get(class as usize) else { return 1.0 };
        let all = self.counts.iter().sum::<f32>();
        if all == 0.0 {
            return 1.0;
        }
        let mean = self.counts.iter().map(|&count| count * plain(count)).sum::<f32>() / all;
        (plain(count) / mean).clamp(1.0 / MOST, MOST)
    }

    /// What a frame with these finds is worth because few kept frames show their classes: even one that the
    /// model is sure of teaches something then.
    pub fn rarity(&self, found: &[Detection]) -> Rarity {
        let of = |found: &Detection| (self.weight(found.class) - 1.0).max(0.0) * found.score;
        let mut rarity = Rarity { amount: 0.0, found: None };
        for found in found {
            if of(found) > rarity.amount {
                rarity = Rarity { amount: of(found), found: Some(*found) };
            }
        }
        rarity
    }
}

/// A class with half as many counts twice. One more of each, so that the first frames don't decide everything.
fn plain(count: f32) -> f32 {
    1.0 / (count + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rare_counts_more() {
        let mut balance = Balance::default().with_classes(3);
        assert_eq!(balance.weight(0), 1.0);
        for _ in 0..50 {
            balance.add(&[0]);
        }
        balance.add(&[1]);
        let [often, seldom, never] = [0, 1, 2].map(|class| balance.weight(class));
        assert!(often < 0.7 && seldom > 2.0 && never >= seldom, "{often} {seldom} {never}");
        let found = |class: u32, score: f32| Detection { x1: 0.0, y1: 0.0, x2: 9.0, y2: 9.0, score, class };
        assert_eq!(balance.rarity(&[found(0, 0.9)]), Rarity { amount: 0.0, found: None });
        let rarity = balance.rarity(&[found(0, 0.9), found(2, 0.8), found(1, 0.3)]);
        assert!(rarity.amount > 0.5 && rarity.found == Some(found(2, 0.8)), "{rarity:?}");
        // All is forgotten in time.
        for _ in 0..2000 {
            balance.add(&[]);
        }
        assert!((balance.weight(0) - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_class_that_the_model_does_not_have_changes_nothing() {
        let mut balance = Balance::default().with_classes(1);
        balance.add(&[7]);
        assert_eq!((balance.weight(0), balance.weight(7)), (1.0, 1.0));
    }
}
