//! How fast commands are taken. What is too fast waits in the connection, and so at the broker: nothing is
//! dropped, and nothing piles up on the device.

use std::time::{Duration, Instant};

/// While the outbox is crowded a command has to wait so long.
const CROWDED: Duration = Duration::from_secs(1);

/// Lets so many through in a second; a second's worth may come at once.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    /// How many may come at once now; below none while the last ones are still to be waited for.
    credit: f64,
    at: Instant,
}

impl Pace {
    pub fn new(per_second: u32, now: Instant) -> Self {
        Pace { per_second: per_second.into(), credit: per_second.into(), at: now }
    }

    /// One came: how long to wait before the next is looked at.
    pub fn count(&mut self, now: Instant, is_crowded: bool) -> Duration {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.credit = (self.credit + gained).min(self.per_second) - 1.0;
        self.at = now;
        let owed = Duration::from_secs_f64((-self.credit).max(0.0) / self.per_second);
        if is_crowded { owed.max(CROWDED) } else { owed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_comes_at_once_and_the_rest_waits() {
        let mut now = Instant::now();
        let mut pace = Pace::new(10, now);
        for _ in 0..10 {
            assert_eq!(pace.count(now, false), Duration::ZERO);
        }
        let began = now;
        for _ in 0..100 {
            now += pace.count(now, false);
        }
        let seconds = (now - began).as_secs_f64();
        assert!((9.9..10.1).contains(&seconds), "{seconds} s for 100 at 10 a second");
        assert_eq!(pace.count(now + Duration::from_secs(60), true), CROWDED);
    }
}
