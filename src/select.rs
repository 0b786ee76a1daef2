//! Is this frame worth keeping?
//!
//! A frame is worth a label when the model is unsure of something on it, and is worth nothing when it
//! looks like one that was kept a moment ago. A few are kept by chance, so that what the model misses
//! for sure is seen too. A budget per hour bounds how much a device keeps.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::picture::Picture;
use crate::yolo::detection::Detection;

/// Side of the grey thumbnail that frames are compared by.
const SIDE: usize = 16;

/// What makes a frame worth keeping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectOptions {
    /// A detection with a confidence from here …
    pub unsure_from: f32,
    /// … up to here is one that the model is unsure of.
    pub unsure_to: f32,
    /// Share of the other frames that are kept all the same, 0 to 1.
    pub random_share: f64,
    /// Mean difference of brightness (0 to 255) from the latest kept frames below which a frame counts
    /// as one of them again.
    pub least_difference: f32,
    /// Frames that are kept within an hour, at most.
    pub per_hour: usize,
}

impl Default for SelectOptions {
    fn default() -> Self {
        SelectOptions {
            unsure_from: 0.25,
            unsure_to: 0.6,
            random_share: 0.02,
            least_difference: 6.0,
            per_hour: 60,
        }
    }
}

/// Why a frame is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// The model is unsure of a box.
    Unsure {
        /// Its confidence.
        score: f32,
    },
    /// By chance.
    Random,
    /// Somebody asked for it.
    Asked,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Unsure { score } => write!(f, "unsure: a box has confidence {score:.2}"),
            Why::Random => f.write_str("random"),
            Why::Asked => f.write_str("asked for"),
        }
    }
}

/// Decides frame by frame.
#[derive(Debug)]
pub struct Selector {
    options: SelectOptions,
    random: ChaCha8Rng,
    /// Thumbnails of the latest kept frames.
    recent: VecDeque<[u8; SIDE * SIDE]>,
    /// When frames of the last hour were kept.
    kept: VecDeque<Instant>,
}

impl Selector {
    /// A selector that has seen nothing yet. The same seed makes the same choices.
    pub fn new(options: SelectOptions, seed: u64) -> Self {
        Selector {
            options,
            random: ChaCha8Rng::seed_from_u64(seed),
            recent: VecDeque::new(),
            kept: VecDeque::new(),
        }
    }

    /// Whether to keep a frame, given what the model found on it, and why. `asked`: somebody wants it.
    pub fn decide(
        &mut self,
        picture: &Picture,
        found: &[Detection],
        asked: bool,
        now: Instant,
    ) -> Option<Why> {
        let thumbnail = thumbnail(picture);
        let why = if asked { Why::Asked } else { self.reason(&thumbnail, found, now)? };
        self.recent.push_back(thumbnail);
        if self.recent.len() > 8 {
            self.recent.pop_front();
        }
        self.kept.push_back(now);
        Some(why)
    }

    fn reason(&mut self, thumbnail: &[u8; SIDE * SIDE], found: &[Detection], now: Instant) -> Option<Why> {
        while self.kept.front().is_some_and(|&at| now.duration_since(at) >= Duration::from_secs(3600)) {
            self.kept.pop_front();
        }
        let again = |kept: &[u8; SIDE * SIDE]| difference(kept, thumbnail) < self.options.least_difference;
        if self.kept.len() >= self.options.per_hour || self.recent.iter().any(again) {
            return None;
        }
        let unsure = self.options.unsure_from..=self.options.unsure_to;
        let scores = found.iter().map(|detection| detection.score).filter(|score| unsure.contains(score));
        match scores.max_by(f32::total_cmp) {
            Some(score) => Some(Why::Unsure { score }),
            None => (self.random.random::<f64>() < self.options.random_share).then_some(Why::Random),
        }
    }
}

/// The mean brightness of each of 16 × 16 fields.
fn thumbnail(picture: &Picture) -> [u8; SIDE * SIDE] {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut fields = [0; SIDE * SIDE];
    for (index, field) in fields.iter_mut().enumerate() {
        let bounds = |i: usize, length: usize| (i * length / SIDE, ((i + 1) * length).div_ceil(SIDE));
        let (x0, x1) = bounds(index % SIDE, width);
        let (y0, y1) = bounds(index / SIDE, height);
        let rows = (y0..y1).map(|y| &picture.rgb()[(y * width + x0) * 3..(y * width + x1) * 3]);
        let sum: u64 = rows.flatten().map(|&value| u64::from(value)).sum();
        *field = (sum / ((x1 - x0) * (y1 - y0) * 3) as u64) as u8;
    }
    fields
}

fn difference(a: &[u8; SIDE * SIDE], b: &[u8; SIDE * SIDE]) -> f32 {
    let sum: u32 = a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
    sum as f32 / (SIDE * SIDE) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(value: u8) -> Picture {
        Picture::from_rgb(20, 30, vec![value; 20 * 30 * 3])
    }

    fn found(score: f32) -> Detection {
        Detection { x1: 0.0, y1: 0.0, x2: 5.0, y2: 5.0, score, class: 0 }
    }

    fn selector(change: impl FnOnce(&mut SelectOptions)) -> Selector {
        let mut options = SelectOptions { random_share: 0.0, ..SelectOptions::default() };
        change(&mut options);
        Selector::new(options, 0)
    }

    #[test]
    fn an_unsure_frame_is_kept_and_a_sure_one_is_not() {
        let (mut selector, now) = (selector(|_| {}), Instant::now());
        assert_eq!(selector.decide(&grey(10), &[found(0.95)], false, now), None);
        assert_eq!(selector.decide(&grey(10), &[], false, now), None);
        let why = selector.decide(&grey(10), &[found(0.95), found(0.4)], false, now);
        assert_eq!(why, Some(Why::Unsure { score: 0.4 }));
    }

    #[test]
    fn the_same_view_is_kept_once_unless_asked_for() {
        let (mut selector, now) = (selector(|_| {}), Instant::now());
        assert!(selector.decide(&grey(10), &[found(0.4)], false, now).is_some());
        assert_eq!(selector.decide(&grey(12), &[found(0.4)], false, now), None);
        assert!(selector.decide(&grey(200), &[found(0.4)], false, now).is_some());
        assert_eq!(selector.decide(&grey(10), &[], true, now), Some(Why::Asked));
    }

    #[test]
    fn the_hours_budget_is_not_exceeded() {
        let (mut selector, start) = (selector(|options| options.per_hour = 2), Instant::now());
        let mut keeps = |value: u8, at: u64| {
            selector.decide(&grey(value), &[found(0.4)], false, start + Duration::from_secs(at)).is_some()
        };
        assert!(keeps(0, 0) && keeps(50, 10));
        assert!(!keeps(100, 20));
        assert!(keeps(100, 3601));
    }

    #[test]
    fn chance_keeps_its_share() {
        let mut selector = selector(|options| {
            options.random_share = 0.25;
            options.least_difference = 0.0;
            options.per_hour = usize::MAX;
        });
        let now = Instant::now();
        let kept = (0..2000).filter(|_| selector.decide(&grey(0), &[], false, now).is_some()).count();
        assert!((400..600).contains(&kept), "{kept} of 2000");
    }
}
