//! What a frame must be worth: more than all but the best of the latest frames.

use std::collections::VecDeque;

/// Frames that are looked back on.
const WINDOW: usize = 1024;

/// What the latest frames were worth.
#[derive(Debug, Clone, Default)]
pub(super) struct Worths {
    latest: VecDeque<f32>,
}

impl Worths {
    /// Another frame was worth this.
    pub fn add(&mut self, worth: f32) {
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(worth);
    }

    /// What the best `share` of the latest frames were worth at least.
    pub fn bar(&self, share: f64) -> f32 {
        let mut sorted: Vec<f32> = self.latest.iter().copied().collect();
        let best = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        match best {
            0 => f32::INFINITY,
            best => {
                let (_, bar, _) = sorted.select_nth_unstable_by(best - 1, |a, b| b.total_cmp(a));
                *bar
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_follows_what_frames_are_worth() {
        let mut worths = Worths::default();
        assert_eq!(worths.bar(0.5), f32::INFINITY);
        for i in 0..100 {
            worths.add(i as f32);
        }
        assert_eq!(worths.bar(0.1), 90.0);
        assert_eq!(worths.bar(1.0), 0.0);
        assert_eq!(worths.bar(0.0), f32::INFINITY);
        // Another model is surer of everything.
        for i in 0..WINDOW {
            worths.add((i % 100) as f32 / 100.0);
        }
        assert!((worths.bar(0.1) - 0.9).abs() < 0.02);
    }
}
