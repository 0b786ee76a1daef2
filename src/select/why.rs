//! Why a frame is kept, in words for people.

use std::fmt;

/// Where a box that flickers is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// On the frame before this one, and not on this one.
    Before,
    /// On this one, and not on the frame before.
    Now,
}

/// Why a frame is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// The model is unsure of a box.
    Unsure {
        /// Its likeliest class.
        class: String,
        /// How likely that is.
        score: f32,
        /// The class that comes second, where it comes near.
        rival: Option<(String, f32)>,
    },
    /// A box is of a class that few kept frames show.
    Rare {
        /// The class.
        class: String,
        /// Its confidence.
        score: f32,
    },
    /// The frame is unlike those that are kept.
    New {
        /// How many it was compared with.
        kept: usize,
        /// Its distance from the nearest.
        distance: f32,
        /// How far frames usually are.
        usual: f32,
    },
    /// A box is on one of two neighbouring frames alone.
    Flicker {
        /// Its class.
        class: String,
        /// Its confidence.
        score: f32,
        /// On which.
        seen: Seen,
    },
    /// By chance.
    Random,
    /// Somebody asked for it.
    Asked,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Unsure { class, score, rival: None } => write!(f, "unsure: {class} {score:.2}"),
            Why::Unsure { class, score, rival: Some((other, second)) } => {
                write!(f, "unsure: {class} {score:.2} or {other} {second:.2}")
            }
            Why::Rare { class, score } => write!(f, "rare: {class} {score:.2}, which few kept frames show"),
            Why::New { kept: 0, .. } => f.write_str("new: none was kept before"),
            Why::New { kept, distance, usual } => {
                write!(f, "new: unlike the {kept} kept (distance {distance:.2}, usual {usual:.2})")
            }
            Why::Flicker { class, score, seen: Seen::Before } => {
                write!(f, "flicker: {class} {score:.2} on the frame before, not on this one")
            }
            Why::Flicker { class, score, seen: Seen::Now } => {
                write!(f, "flicker: {class} {score:.2} on this frame, not on the one before")
            }
            Why::Random => f.write_str("random"),
            Why::Asked => f.write_str("asked for"),
        }
    }
}
