//! What may be said about which frames are kept.

use crate::picture::ALIKE;
use serde::{Deserialize, Serialize};

/// What makes a frame worth keeping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectOptions {
    /// A detection with a confidence from here …
    pub unsure_from: f32,
    /// … up to here is one that the model is unsure of, most of all in the middle.
    pub unsure_to: f32,
    /// Share of all frames that are kept by chance, whatever is on them, 0 to 1. They have a quarter of the
    /// hour's budget, or this share of it where that is more.
    pub random_share: f64,
    /// Difference of brightness (0 to 255), in the part of the picture that differs most, below which a frame
    /// shows the view of a kept one again. Light that changes everywhere is no difference.
    pub least_difference: f32,
    /// Frames that are kept within any hour, at most. Those that somebody asks for are kept beyond it.
    pub per_hour: usize,
    /// Share of the hour's budget that frames with one class may take before they must be worth more than
    /// others, 0 to 1.
    pub class_share: f64,
    /// Frames with no more than so many seconds between them are neighbours, on which the same is to be seen.
    pub neighbour_seconds: f64,
}

impl Default for SelectOptions {
    fn default() -> Self {
        SelectOptions {
            unsure_from: 0.1,
            unsure_to: 0.6,
            random_share: 0.02,
            least_difference: ALIKE,
            per_hour: 60,
            class_share: 0.5,
            neighbour_seconds: 2.0,
        }
    }
}

impl SelectOptions {
    /// Checks ranges: the key that is wrong, and what to write.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let shares = [
            ("select.unsure_from", f64::from(self.unsure_from)),
            ("select.unsure_to", f64::from(self.unsure_to)),
            ("select.random_share", self.random_share),
            ("select.class_share", self.class_share),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err((key, format!("{value} is out of range; 0 to 1")));
            }
        }
        if self.unsure_from > self.unsure_to {
            let words = format!("{} is above unsure_to, {}; exchange them", self.unsure_from, self.unsure_to);
            return Err(("select.unsure_from", words));
        }
        if !(0.0..=255.0).contains(&self.least_difference) {
            let words = format!("{} is no difference of brightness; 0 to 255", self.least_difference);
            return Err(("select.least_difference", words));
        }
        if !(0.0..=3600.0).contains(&self.neighbour_seconds) {
            let words = format!("{} is out of range; 0 (off) to 3600", self.neighbour_seconds);
            return Err(("select.neighbour_seconds", words));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named() {
        let default = SelectOptions::default;
        assert_eq!(default().check(), Ok(()));
        for (key, options) in [
            ("select.unsure_to", SelectOptions { unsure_to: 1.5, ..default() }),
            ("select.unsure_from", SelectOptions { unsure_from: 0.9, ..default() }),
            ("select.class_share", SelectOptions { class_share: f64::NAN, ..default() }),
            ("select.least_difference", SelectOptions { least_difference: -1.0, ..default() }),
            ("select.neighbour_seconds", SelectOptions { neighbour_seconds: f64::INFINITY, ..default() }),
        ] {
            assert_eq!(options.check().unwrap_err().0, key);
        }
    }
}
