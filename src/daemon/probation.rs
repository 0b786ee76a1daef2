//! A model that has just taken over: it must detect, and fast enough, or the one before it comes back.

use std::time::{Duration, Instant};

use crate::detect::DetectError;
use crate::mqtt::{ModelEvent, identified};
use crate::picture::Picture;
use crate::store::{Message, StoreError};
use crate::yolo::look::Look;

use super::core::Core;
use super::models::open_detector;
use super::names::Names;

/// The median of so many frames is held against `detect.max_latency_ms`.
const FRAMES: usize = 9;
/// So many frames in a row that it can't look at are too many.
const FAILURES: u32 = 3;
/// A detector that fails without another to go back to is opened again after so long, and doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How the current detector does.
#[derive(Debug, Default)]
pub(super) struct Probation {
    /// What the first frames took, ended when there are enough.
    times: Vec<Duration>,
    /// Frames in a row that it failed on.
    failures: u32,
    /// Not looked at before this moment, and how long the pause was.
    pause: Option<(Instant, Duration)>,
    /// Why it can't detect.
    pub trouble: Option<String>,
}

/// What comes of a frame.
#[derive(Debug, PartialEq)]
enum Verdict {
    Good,
    /// Too slow or broken, in words.
    Bad(String),
}

impl Probation {
    /// A frame took so long; `most` is the limit, ms.
    fn took(&mut self, time: Duration, most: Option<f64>) -> Verdict {
        self.failures = 0;
        let Some(most) = most.filter(|_| self.times.len() < FRAMES) else { return Verdict::Good };
        self.times.push(time);
        if self.times.len() < FRAMES {
            return Verdict::Good;
        }
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        let median = sorted[FRAMES / 2].as_secs_f64() * 1000.0;
        if median <= most {
            return Verdict::Good;
        }
        Verdict::Bad(format!("a frame takes {median:.0} ms, {most:.0} are allowed (detect.max_latency_ms)"))
    }

    fn failed(&mut self, reason: &str) -> Verdict {
        self.failures += 1;
        if self.failures < FAILURES { Verdict::Good } else { Verdict::Bad(reason.to_owned()) }
    }

    fn pause(&mut self) {
        let length = self.pause.map_or(FIRST_PAUSE, |(_, last)| (last * 2).min(LONGEST_PAUSE));
        self.pause = Some((Instant::now() + length, length));
    }
}

impl Core {
    /// Detects; a model that can't, or not fast enough, is replaced by the one before it. None when that has
    /// just been so, and while a detector that fails is given a pause.
    pub(super) fn detect(
        &mut self,
        picture: &Picture,
    ) -> Result<Option<Result<Look, DetectError>>, StoreError> {
        if let Some((until, _)) = self.probation.pause {
            if Instant::now() < until {
                return Ok(None);
            }
            if self.probation.failures >= FAILURES && !self.reopen_detector() {
                return Ok(None);
            }
        }
        let begun = Instant::now();
        let look = self.detector.look(picture, &self.config.detect.keep());
        let verdict = match &look {
            Ok(_) => {
                if self.probation.trouble.take().is_some() {
                    self.probation.pause = None;
                    self.state_changed();
                }
                self.probation.took(begun.elapsed(), self.config.detect.max_latency_ms)
            }
            Err(error) => self.probation.failed(&error.to_string()),
        };
        match verdict {
            Verdict::Good => Ok(Some(look)),
            // What it saw last is not held against what another model sees.
            Verdict::Bad(reason) => self.replace(reason).map(|()| None),
        }
    }

    /// The current model is no good: back to the one before it, if it is better than nothing.
    fn replace(&mut self, reason: String) -> Result<(), StoreError> {
        let is_broken = self.probation.failures >= FAILURES;
        let from = self.slot.slot;
        let before = self.slot.replaced.filter(|_| self.run.is_none());
        let open = |slot| open_detector(&self.config, &self.store, slot, &*self.runtime);
        match before.map(open) {
            Some(Ok(detector)) => {
                let names = Names::open(&self.store, detector.classes())?;
                let slot = self.store.models().rollback()?;
                tracing::error!("slot {from}: {reason}; slot {} is taken again", slot.slot);
                let to = slot.slot;
                self.follow(slot, detector, names);
                self.report_model(&ModelEvent { event: "rolled_back", from, to, reason })
            }
            _ if is_broken => {
                tracing::error!("slot {from}: {reason}; there is no other model to take, it is opened again");
                self.probation.trouble = Some(format!("slot {from}: {reason}"));
                self.probation.pause();
                self.state_changed();
                Ok(())
            }
            // Slow is better than nothing.
            _ => {
                tracing::warn!("slot {from}: {reason}; there is no other model to take, it stays");
                Ok(())
            }
        }
    }

    /// Whether there is a detector again.
    fn reopen_detector(&mut self) -> bool {
        match open_detector(&self.config, &self.store, self.slot.slot, &*self.runtime) {
            Ok(detector) => {
                self.detector = detector;
                self.probation.failures = FAILURES - 1;
                true
            }
            Err(error) => {
                self.probation.trouble = Some(error.to_string());
                self.probation.pause();
                false
            }
        }
    }

    pub(super) fn report_model(&mut self, event: &ModelEvent) -> Result<(), StoreError> {
        let payload = identified(event);
        self.push(&Message { topic: self.topics.event_model(), payload, droppable: false, correlation: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_first_frames_decides_and_one_slow_frame_does_not() {
        let ms = Duration::from_millis;
        let watch = |times: [u64; FRAMES], most| {
            let mut probation = Probation::default();
            times.map(|time| probation.took(ms(time), most)).into_iter().next_back()
        };
        assert_eq!(watch([900, 10, 10, 10, 10, 10, 10, 10, 10], Some(50.0)), Some(Verdict::Good));
        let Some(Verdict::Bad(reason)) = watch([60, 60, 60, 60, 60, 10, 10, 10, 10], Some(50.0)) else {
            panic!("not noticed");
        };
        assert!(reason.contains("60 ms, 50 are allowed"), "{reason}");
        assert_eq!(watch([900; FRAMES], None), Some(Verdict::Good));
    }

    #[test]
    fn one_bad_frame_is_not_the_models_fault() {
        let mut probation = Probation::default();
        for _ in 0..5 {
            assert_eq!(probation.failed("x"), Verdict::Good);
            assert_eq!(probation.failed("x"), Verdict::Good);
            assert_eq!(probation.took(Duration::ZERO, None), Verdict::Good);
        }
        let verdicts = [(); 3].map(|()| probation.failed("no memory"));
        assert_eq!(verdicts[2], Verdict::Bad("no memory".into()));
    }
}
