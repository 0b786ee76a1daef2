//! A part of the process that goes on says so, now and then; whoever looks after it sees when it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Says that there is nothing to beat for.
const RESTS: u64 = u64::MAX;

/// A pulse. Clones are of the same part.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    born: Instant,
    /// The last beat, milliseconds after birth.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse(Arc::new(Inner { born: Instant::now(), last: AtomicU64::new(0) }))
    }
}

impl Pulse {
    /// The part goes on.
    pub fn beat(&self) {
        self.0.last.store(self.0.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The part has come to its end in good order: it need not beat any more.
    pub fn rest(&self) {
        self.0.last.store(RESTS, Ordering::Relaxed);
    }

    /// How long ago the last beat was; nothing for a part that rests.
    pub fn age(&self) -> Duration {
        match self.0.last.load(Ordering::Relaxed) {
            RESTS => Duration::ZERO,
            last => self.0.born.elapsed().saturating_sub(Duration::from_millis(last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_ages_until_it_beats_or_rests() {
        let pulse = Pulse::default();
        let same = pulse.clone();
        std::thread::sleep(Duration::from_millis(20));
        let old = pulse.age();
        assert!(old >= Duration::from_millis(19));
        std::thread::sleep(Duration::from_millis(20));
        assert!(pulse.age() > old);
        let before_the_beat = pulse.0.born.elapsed();
        same.beat();
        assert!(pulse.age() <= pulse.0.born.elapsed() - before_the_beat + Duration::from_millis(1));
        same.rest();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(pulse.age(), Duration::ZERO);
    }
}
