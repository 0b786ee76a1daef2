//! The decision, frame by frame.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::picture::{Levelled, Picture, Thumbnail};
use crate::yolo::look::Look;

use super::balance::Balance;
use super::budget::Budget;
use super::flicker::{Before, Flicker, View};
use super::kept::{Kept, KeptLook};
use super::novelty::{Novelty, Scale};
use super::options::SelectOptions;
use super::threshold::Worths;
use super::uncertainty::{Doubt, doubt};
use super::why::Why;

/// Frames by chance have at least this share of the budget.
const RANDOM_BUDGET: f64 = 0.25;

/// What novelty and flicker count beside doubt, each as a multiple of its own amount, and at most how much.
fn env(n: &str, d: f32) -> f32 {
    std::env::var(n).ok().and_then(|v| v.parse().ok()).unwrap_or(d)
}
const MOST: f32 = 2.0;

/// A frame whose classes have all had their share must be worth so many times what others must.
const HAD_ITS_SHARE: f32 = 1.5;

/// A bucket that is half full takes as many frames as fill it; a full one takes twice as many of the best.
const EAGERNESS: f64 = 2.0;

/// Decides frame by frame.
#[derive(Debug)]
pub struct Selector {
    options: SelectOptions,
    random: ChaCha8Rng,
    classes: Vec<String>,
    balance: Balance,
    kept: Kept,
    scale: Scale,
    before: Option<Before>,
    worths: Worths,
    /// For frames that are worth it, and for those that chance takes.
    chosen: Budget,
    by_chance: Budget,
    /// The mean time between two frames, seconds.
    pace: Option<f64>,
    last_frame: Option<Instant>,
}

/// What a frame is worth, and for what.
struct Worth {
    doubt: Doubt,
    novelty: Novelty,
    flicker: Option<Flicker>,
}

impl Selector {
    /// A selector that has seen nothing yet, for a model with these classes. The same seed makes the same
    /// choices.
    pub fn new(options: SelectOptions, classes: &[String], seed: u64) -> Self {
        let by_chance = match options.random_share {
            share if share > 0.0 => (options.per_hour as f64 * share.max(RANDOM_BUDGET)).round() as usize,
            _ => 0,
        };
        Selector {
            chosen: Budget::new(options.per_hour - by_chance.min(options.per_hour)),
            by_chance: Budget::new(by_chance.min(options.per_hour)),
            options,
            random: ChaCha8Rng::seed_from_u64(seed),
            classes: classes.to_vec(),
            balance: Balance::default().with_classes(classes.len()),
            kept: Kept::default(),
            scale: Scale::default(),
            before: None,
            worths: Worths::default(),
            pace: None,
            last_frame: None,
        }
    }

    /// From now on frames are seen by a model with these classes. What its scores are worth must be learnt
    /// anew.
    pub fn follow(&mut self, classes: &[String]) {
        self.balance = std::mem::take(&mut self.balance).with_classes(classes.len());
        self.classes = classes.to_vec();
        self.worths = Worths::default();
        self.before = None;
    }

    /// Remembers a frame that was kept before this selector was made, with the classes found on it.
    pub fn remember(&mut self, look: KeptLook, classes: &[u32]) {
        self.balance.add(classes);
        self.kept.add(look, &mut self.random);
    }

    /// Whether to keep a frame, given what the model saw on it, and why. `asked`: somebody wants it.
    pub fn decide(
        &mut self,
        picture: &Picture,
        look: &Look,
        asked: bool,
        now: Instant,
    ) -> Option<(Why, KeptLook)> {
        self.pass(now);
        // Chance is asked first and every time: what is on the frame must not tell.
        let is_drawn = self.random.random::<f64>() < self.options.random_share;
        let thumbnail = Thumbnail::of(picture);
        let size = (picture.width(), picture.height());
        let view = View { size, levelled: Levelled::of(&thumbnail) };
        let worth = self.worth(&view, look, now);
        let mut classes: Vec<u32> = look.found.iter().map(|found| found.class).collect();
        classes.sort_unstable();
        classes.dedup();
        let why = if asked {
            self.chosen.spend(now, &classes);
            Why::Asked
        } else if is_drawn && self.by_chance.allows() {
            self.by_chance.spend(now, &classes);
            Why::Random
        } else {
            let why = self.chosen_for(&view.levelled, &worth, &classes)?;
            self.chosen.spend(now, &classes);
            why
        };
        let kept = KeptLook { thumbnail, features: look.features.clone() };
        self.remember(kept.clone(), &classes);
        Some((why, kept))
    }

    fn pass(&mut self, now: Instant) {
        self.chosen.pass(now);
        self.by_chance.pass(now);
        if let Some(last) = self.last_frame.replace(now) {
            let step = now.saturating_duration_since(last).as_secs_f64();
            let pace = self.pace.get_or_insert(step);
            // A night without frames is no pace.
            *pace += 0.05 * (step.min(10.0 * *pace + 1.0) - *pace);
        }
    }

    fn worth(&mut self, view: &View, look: &Look, now: Instant) -> Worth {
        let neighbours = Duration::from_secs_f64(self.options.neighbour_seconds);
        let before = self.before.replace(Before::new(now, view.clone(), &look.sightings));
        let worth = Worth {
            doubt: doubt(&look.sightings, &self.options, |class| self.balance.weight(class)),
            novelty: self.scale.look(&look.features, &self.kept),
            flicker: before.and_then(|before| before.disagreement(now, view, &look.sightings, neighbours)),
        };
        self.worths.add(worth.total());
        worth
    }

    /// Why the frame is kept for what it is worth, if it is.
    fn chosen_for(&self, view: &Levelled, worth: &Worth, classes: &[u32]) -> Option<Why> {
        if !self.chosen.allows() || worth.total() <= 0.0 {
            return None;
        }
        let share = self.chosen.rate() * self.pace.unwrap_or(0.0);
        let mut bar = self.worths.bar(share * EAGERNESS * self.chosen.fill());
        let had = |&class: &u32| self.chosen.has_had(class, self.options.class_share);
        if self.classes.len() > 1 && !classes.is_empty() && classes.iter().all(had) {
            bar *= HAD_ITS_SHARE;
        }
        if worth.total() < bar {
            return None;
        }
        // Last, because it takes longest.
        let limit = self.options.least_difference;
        if self.kept.iter().any(|(_, kept)| kept.is_alike(view, limit)) {
            return None;
        }
        Some(worth.why(&self.classes, self.kept.len()))
    }
}

impl Worth {
    fn parts(&self) -> [f32; 3] {
        let flicker = self.flicker.map_or(0.0, |flicker| flicker.amount);
        [
            self.doubt.amount,
            (env("NOVELTY", 1.0) * self.novelty.amount()).min(MOST),
            (env("FLICKER", 1.0) * flicker).min(MOST),
        ]
    }

    fn total(&self) -> f32 {
        self.parts().iter().sum()
    }

    /// What it is worth most for.
    fn why(&self, classes: &[String], kept: usize) -> Why {
        let name = |class: u32| classes.get(class as usize).cloned().unwrap_or_default();
        let [doubt, novelty, flicker] = self.parts();
        match (self.doubt.sighting, self.flicker) {
            (Some(sighting), _) if doubt >= novelty && doubt >= flicker => Why::Unsure {
                class: name(sighting.detection.class),
                score: sighting.detection.score,
                rival: sighting.rival.map(|(class, score)| (name(class), score)),
            },
            (_, Some(found)) if flicker >= novelty => {
                Why::Flicker { class: name(found.class), score: found.score, seen: found.seen }
            }
            _ => Why::New {
                kept: if self.novelty.distance.is_some() { kept } else { 0 },
                distance: self.novelty.distance.unwrap_or(0.0),
                usual: self.novelty.usual,
            },
        }
    }
}
