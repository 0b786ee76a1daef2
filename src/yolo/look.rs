//! What a detector saw on a frame, beyond what it says is there.

use super::detection::Detection;

/// A box, however unsure, and what else it might be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// The box with its best class.
    pub detection: Detection,
    /// The class that comes second at the same place and its score; none where the model has one class.
    pub rival: Option<(u32, f32)>,
}

/// What a detector saw on a frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// What it says is there, surest first: what counts as found.
    pub found: Vec<Detection>,
    /// The same and the boxes below the threshold, surest first, each with its rival.
    pub sightings: Vec<Sighting>,
    /// The backbone's features, pooled over the picture: per channel of each level the mean and then the
    /// maximum. Alike on alike pictures, whatever the head has learnt.
    pub features: Vec<f32>,
}
