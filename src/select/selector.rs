//! The decision, frame by frame.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::picture::{Levelled, Picture, Thumbnail};
use crate::yolo::look::Look;

use super::balance::{Balance, Rarity};
use super::budget::Budget;
use super::flicker::{Before, Flicker, View};
use super::kept::{Kept, KeptLook};
use super::novelty::{Novelty, Scale};
use super::options::SelectOptions;
use super::threshold::Worths;
use super::uncertainty::{Doubt, doubt};
use super::why::Why;

/// Frames by chance have at least this share of the budget: enough to tell what is usual.
const RANDOM_BUDGET: f64 = 0.1;

/// What is new, rare or flickers counts at most so much: as two boxes that are wholly in doubt.
const MOST: f32 = 2.0;

/// A frame whose classes have all had their share must be worth so many times as much as another to be before it.
const HAD_ITS_SHARE: f32 = 1.5;

/// Decides frame by frame.
#[derive(Debug)]
pub struct Selector {
    options: SelectOptions,
    random: ChaCha8Rng,
    classes: Vec<String>,
    balance: Balance,
    kept: Kept,
    /// The part of the view in which the frame before differed from a kept one.
    differs_at: usize,
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
    rarity: Rarity,
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
            differs_at: 0,
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

    /// The model's classes are called otherwise, and are the same.
    pub fn rename(&mut self, classes: &[String]) {
        self.classes = classes.to_vec();
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
        let mut classes: Vec<u32> = look.found.iter().map(|found| found.class).collect();
        classes.sort_unstable();
        classes.dedup();
        let thumbnail = Thumbnail::of(picture);
        let size = (picture.width(), picture.height());
        let view = View { size, levelled: Levelled::of(&thumbnail) };
        let worth = self.worth(&view, look, now);
        let limit = self.options.least_difference;
        let differs_at = &mut self.differs_at;
        let is_again =
            self.kept.iter().any(|(_, kept)| kept.is_alike_from(&view.levelled, limit, differs_at));
        let had = |&class: &u32| self.chosen.has_had(class, self.options.class_share);
        let have_had = self.classes.len() > 1 && !classes.is_empty() && classes.iter().all(had);
        let total = match (is_again, have_had) {
            (true, _) => 0.0,
            // Others come first. Where there are no others the bar comes down with it.
            (false, true) => worth.total() / HAD_ITS_SHARE,
            (false, false) => worth.total(),
        };
        self.worths.add(total);
        let why = if asked {
            self.chosen.spend(now, &classes);
            Why::Asked
        } else if is_drawn && self.by_chance.allows() {
            self.by_chance.spend(now, &classes);
            Why::Random
        } else {
            let why = self.chosen_for(&worth, total)?;
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
        Worth {
            doubt: doubt(&look.sightings, &self.options, |class| self.balance.weight(class)),
            rarity: self.balance.rarity(&look.found),
            novelty: self.scale.look(&look.features, &self.kept),
            flicker: before.and_then(|before| before.disagreement(now, view, &look.sightings, neighbours)),
        }
    }

    /// Why the frame is kept for what it is worth, `total`, if it is.
    fn chosen_for(&self, worth: &Worth, total: f32) -> Option<Why> {
        if !self.chosen.allows() || total <= 0.0 {
            return None;
        }
        // Of the first frame nobody knows how many there will be.
        let share = self.pace.map_or(1.0, |pace| pace * self.chosen.rate());
        let bar = self.worths.bar(share * self.chosen.eagerness());
        (total >= bar).then(|| worth.why(&self.classes, self.kept.len()))
    }
}

impl Worth {
    fn parts(&self) -> [f32; 4] {
        let flicker = self.flicker.map_or(0.0, |flicker| flicker.amount);
        [self.doubt.amount, self.rarity.amount.min(MOST), self.novelty.amount().min(MOST), flicker.min(MOST)]
    }

    fn total(&self) -> f32 {
        self.parts().iter().sum()
    }

    /// What it is worth most for.
    fn why(&self, classes: &[String], kept: usize) -> Why {
        let name = |class: u32| classes.get(class as usize).cloned().unwrap_or_default();
        let parts = self.parts();
        let most = parts.iter().copied().fold(0.0, f32::max);
        let [doubt, rarity, _, flicker] = parts.map(|part| part == most);
        match (self.doubt.sighting, self.rarity.found, self.flicker) {
            (Some(sighting), ..) if doubt => Why::Unsure {
                class: name(sighting.detection.class),
                score: sighting.detection.score,
                rival: sighting.rival.map(|(class, score)| (name(class), score)),
            },
            (_, Some(found), _) if rarity => Why::Rare { class: name(found.class), score: found.score },
            (.., Some(found)) if flicker => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yolo::detection::Detection;
    use crate::yolo::look::Sighting;
    use rand::Rng;

    const NAMES: [&str; 3] = ["weed", "thistle", "crown"];

    fn selector(change: impl FnOnce(&mut SelectOptions), seed: u64) -> Selector {
        let mut options = SelectOptions { random_share: 0.0, ..SelectOptions::default() };
        change(&mut options);
        Selector::new(options, &NAMES.map(str::to_owned), seed)
    }

    /// A picture of its own for each number.
    fn picture(number: u64) -> Picture {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let mut picture = Picture::filled(64, 64, [90; 3]);
        for _ in 0..4 {
            let [x, y] = [0, 1].map(|_| random.random_range(0.0_f32..40.0));
            let colour = [0; 3].map(|_| (random.next_u32() % 256) as u8);
            picture.draw_box([x, y, x + 22.0, y + 22.0], 11, colour);
        }
        picture
    }

    /// Class, score and rival of a box.
    type Box = (u32, f32, Option<(u32, f32)>);

    fn seen(sightings: &[Box]) -> Look {
        let sightings: Vec<Sighting> = sightings
            .iter()
            .enumerate()
            .map(|(place, &(class, score, rival))| {
                let x1 = 10.0 + 15.0 * place as f32;
                let detection = Detection { x1, y1: 20.0, x2: x1 + 10.0, y2: 30.0, score, class };
                Sighting { detection, rival }
            })
            .collect();
        let found = sightings.iter().map(|sighting| sighting.detection).filter(|found| found.score > 0.25);
        Look { found: found.collect(), sightings, features: vec![1.0, 2.0] }
    }

    /// What is decided over a day of frames at one a second, the looks as given.
    fn day(selector: &mut Selector, frames: u64, look: impl Fn(u64) -> Look) -> Vec<(u64, Why)> {
        let start = Instant::now();
        let decide = |second: u64| {
            let now = start + Duration::from_secs(second);
            let (why, _) = selector.decide(&picture(second), &look(second), false, now)?;
            Some((second, why))
        };
        (0..frames).filter_map(decide).collect()
    }

    #[test]
    fn what_the_model_is_most_unsure_of_is_kept_whatever_its_scores_are() {
        for scale in [1.0, 0.4] {
            let mut selector = selector(|options| options.per_hour = 60, 0);
            // One frame of twenty is more in doubt than all others.
            let look = |second: u64| match second % 20 {
                7 => seen(&[(0, 0.35 * scale, Some((1, 0.33 * scale)))]),
                _ => seen(&[(0, 0.9, Some((1, 0.02 + 0.1 * scale)))]),
            };
            let kept = day(&mut selector, 7200, look);
            let doubtful = kept.iter().filter(|(second, _)| second % 20 == 7).count();
            assert!((90..=125).contains(&kept.len()), "{} kept", kept.len());
            assert!(doubtful * 10 >= kept.len() * 9, "{doubtful} of {}", kept.len());
            let words = kept.last().unwrap().1.to_string();
            let expected =
                if scale == 1.0 { "unsure: weed 0.35 or thistle 0.33" } else { "unsure: weed 0.14" };
            assert_eq!(words, expected);
        }
    }

    #[test]
    fn never_more_than_the_hours_budget_with_chance_and_choice_together() {
        let mut selector = selector(
            |options| {
                options.per_hour = 20;
                options.random_share = 0.5;
            },
            3,
        );
        let kept =
            day(&mut selector, 3 * 3600, |second| seen(&[(0, 0.3 + (second % 7) as f32 / 100.0, None)]));
        for &(from, _) in &kept {
            let within = kept.iter().filter(|(at, _)| (from..from + 3600).contains(at)).count();
            assert!(within <= 20, "{within}");
        }
        let by_chance = kept.iter().filter(|(_, why)| *why == Why::Random).count();
        assert!((24..=30).contains(&by_chance), "{by_chance} by chance");
        assert!(kept.len() >= 55, "{} kept where 60 are due", kept.len());
    }

    #[test]
    fn what_chance_takes_does_not_depend_on_what_is_on_the_frames() {
        let drawn = |look: &dyn Fn(u64) -> Look| -> Vec<u64> {
            let mut selector = selector(|options| options.random_share = 0.01, 5);
            let kept = day(&mut selector, 5000, look);
            kept.into_iter().filter(|(_, why)| *why == Why::Random).map(|(second, _)| second).collect()
        };
        let dull = drawn(&|_| Look::default());
        let busy = drawn(&|second| seen(&[(2, 0.3 + (second % 5) as f32 / 20.0, Some((1, 0.3)))]));
        assert_eq!(dull, busy);
        assert!(dull.len() >= 6, "{dull:?}");
        let firsts = dull.iter().filter(|&&second| second < 2500).count();
        assert!(firsts > 0 && firsts < dull.len(), "over all the time: {dull:?}");
    }

    #[test]
    fn the_same_view_is_kept_once_unless_asked_for() {
        let (mut selector, start) = (selector(|options| options.per_hour = 3600, 0), Instant::now());
        let look = seen(&[(0, 0.35, None)]);
        let mut decide = |number: u64, second: u64, asked: bool| {
            let now = start + Duration::from_secs(second);
            selector.decide(&picture(number), &look, asked, now).map(|(why, _)| why)
        };
        assert!(decide(1, 0, false).is_some());
        assert_eq!(decide(1, 10, false), None);
        assert!(decide(2, 20, false).is_some());
        assert_eq!(decide(1, 30, false), None);
        assert_eq!(decide(1, 40, true), Some(Why::Asked));
    }

    #[test]
    fn what_was_kept_before_a_restart_is_not_kept_again() {
        let start = Instant::now();
        let look = seen(&[(0, 0.35, None)]);
        let mut before = selector(|_| {}, 0);
        let (_, kept) = before.decide(&picture(1), &look, false, start).unwrap();
        let mut after = selector(|_| {}, 0);
        after.remember(KeptLook::from_bytes(&kept.to_bytes()).unwrap(), &[0]);
        assert_eq!(after.decide(&picture(1), &look, false, start), None);
        assert!(after.decide(&picture(2), &look, false, start + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn a_rare_class_is_kept_before_a_common_one() {
        let mut selector = selector(|options| options.per_hour = 60, 0);
        let look = |second: u64| match second % 40 {
            11 => seen(&[(2, 0.85, None)]),
            _ => seen(&[(0, 0.85, None), (1, 0.5, None)]),
        };
        let kept = day(&mut selector, 3600, look);
        let rare = kept.iter().filter(|(second, _)| second % 40 == 11).count();
        // It is on one frame of forty.
        assert!(kept.len() >= 50, "{} kept where 60 are due", kept.len());
        assert!(rare * 3 >= kept.len(), "{rare} of {}", kept.len());
        assert!(kept.iter().any(|(_, why)| why.to_string().starts_with("rare: crown 0.85")));
    }

    #[test]
    fn a_flicker_is_kept_and_says_so() {
        let mut selector = selector(|options| options.per_hour = 60, 0);
        let sure = seen(&[(2, 0.9, None)]);
        let start = Instant::now();
        let mut kept = Vec::new();
        for frame in 0..600 {
            // One view in which little moves.
            let mut view = picture(1);
            let x = (frame % 40) as f32;
            view.draw_box([x, 50.0, x + 6.0, 56.0], 6, [250, 240, 20]);
            let look = if frame % 200 == 150 {
                Look { features: sure.features.clone(), ..Look::default() }
            } else {
                sure.clone()
            };
            let now = start + Duration::from_secs(frame);
            if let Some((why, _)) = selector.decide(&view, &look, false, now) {
                kept.push((frame, why.to_string()));
            }
        }
        let flickers: Vec<u64> = kept
            .iter()
            .filter(|(_, why)| why.starts_with("flicker: crown 0.90"))
            .map(|&(frame, _)| frame)
            .collect();
        assert!(flickers.contains(&150) || flickers.contains(&151), "{kept:?}");
    }
}
