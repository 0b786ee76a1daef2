//! How many frames may be kept: never more than so many within an hour, and spread over it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

/// Five minutes' frames may be kept at once, after a time in which none was worth it …
const BURST: f64 = 1.0 / 12.0;

/// … and so many where that is less: a bucket that holds one frame is full whenever one may be kept, and says
/// nothing about the bar.
const LEAST_BURST: f64 = 4.0;

/// A bucket that fills over the hour, and a record of the last hour: a bucket alone would let through what it
/// holds and, within the hour, what it is filled with.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    per_hour: usize,
    tokens: f64,
    filled: Option<Instant>,
    /// When frames of the last hour were kept, and whether they had a class in them that counts.
    kept: VecDeque<(Instant, Vec<u32>)>,
}

impl Budget {
    pub fn new(per_hour: usize) -> Self {
        let mut budget = Budget { per_hour, tokens: 0.0, filled: None, kept: VecDeque::new() };
        budget.tokens = budget.capacity() / 2.0;
        budget
    }

    fn capacity(&self) -> f64 {
        (self.per_hour as f64 * BURST).max(LEAST_BURST)
    }

    /// Frames per second that may be kept in the long run.
    pub fn rate(&self) -> f64 {
        self.per_hour as f64 / HOUR.as_secs_f64()
    }

    /// How many times as many frames may be kept now as the budget has in the long run: as many while the bucket
    /// is half full, the fewer the emptier it is, and the more the fuller. When it is full what is due is lost,
    /// so the bar is too high, however it was found, and anything goes.
    pub fn eagerness(&self) -> f64 {
        let fill = self.tokens / self.capacity();
        fill / (1.0 - fill).max(1e-9)
    }

    /// Lets time pass.
    pub fn pass(&mut self, now: Instant) {
        let since = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.tokens = (self.tokens + self.rate() * since.as_secs_f64()).min(self.capacity());
        self.filled = Some(now);
        while self.kept.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= HOUR) {
            self.kept.pop_front();
        }
    }

    /// Whether a frame may be kept, at the time that has passed.
    pub fn allows(&self) -> bool {
        // What time has filled is not exact.
        self.tokens >= 1.0 - 1e-6 && self.kept.len() < self.per_hour
    }

    /// Takes a frame with these classes out of the budget, whether it allows one or not.
    pub fn spend(&mut self, now: Instant, classes: &[u32]) {
        self.tokens = (self.tokens - 1.0).max(0.0);
        self.kept.push_back((now, classes.to_vec()));
    }

    /// Whether frames with this class have had this share of the hour's budget.
    pub fn has_had(&self, class: u32, share: f64) -> bool {
        let with = self.kept.iter().filter(|(_, classes)| classes.contains(&class)).count();
        with as f64 >= share * self.per_hour as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_budget_in_any_window_of_an_hour(
            per_hour in 0_usize..40,
            steps in prop::collection::vec(0.0_f64..400.0, 1..400),
        ) {
            let mut budget = Budget::new(per_hour);
            let mut now = Instant::now();
            let mut kept: Vec<Instant> = Vec::new();
            for step in steps {
                now += Duration::from_secs_f64(step);
                budget.pass(now);
                if budget.allows() {
                    budget.spend(now, &[]);
                    kept.push(now);
                }
            }
            for &from in &kept {
                let within = kept.iter().filter(|&&at| at >= from && at - from < HOUR).count();
                prop_assert!(within <= per_hour, "{within} of {per_hour}");
            }
        }
    }

    #[test]
    fn the_budget_is_spread_over_the_hour() {
        let (mut budget, start) = (Budget::new(60), Instant::now());
        let mut quarters = [0; 4];
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            budget.pass(now);
            if budget.allows() {
                budget.spend(now, &[]);
                quarters[second as usize / 900] += 1;
            }
        }
        assert!(quarters.iter().all(|quarter| (10..=20).contains(quarter)), "{quarters:?}");
        assert!((58..=60).contains(&quarters.iter().sum::<i32>()), "{quarters:?}");
    }

    #[test]
    fn the_fuller_the_bucket_the_more_is_taken() {
        let (mut budget, start) = (Budget::new(120), Instant::now());
        budget.pass(start);
        assert!((budget.eagerness() - 1.0).abs() < 1e-6);
        budget.spend(start, &[]);
        assert!(budget.eagerness() < 0.7);
        budget.pass(start + HOUR);
        assert!(budget.eagerness() > 1e6);
    }

    #[test]
    fn a_clock_that_stands_still_fills_nothing() {
        let (mut budget, now) = (Budget::new(12), Instant::now());
        let mut kept = 0;
        for _ in 0..100 {
            budget.pass(now);
            if budget.allows() {
                budget.spend(now, &[3]);
                kept += 1;
            }
        }
        assert_eq!(kept, 2);
        assert!(budget.has_had(3, 0.05) && !budget.has_had(3, 0.5) && !budget.has_had(4, 0.05));
    }
}
