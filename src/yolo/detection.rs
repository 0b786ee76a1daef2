//! One object that a model found.

use serde::{Deserialize, Serialize};

/// A box in pixels of the picture (or of the network's input, where a function says so), its class
/// and how sure the model is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Left edge, pixels.
    pub x1: f32,
    /// Top edge, pixels.
    pub y1: f32,
    /// Right edge, pixels.
    pub x2: f32,
    /// Bottom edge, pixels.
    pub y2: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Index into the model's class names.
    pub class: u32,
}

impl Detection {
    /// Corners `[x1, y1, x2, y2]` in pixels.
    pub fn corners(&self) -> [f32; 4] {
        [self.x1, self.y1, self.x2, self.y2]
    }

    /// The same find with these corners `[x1, y1, x2, y2]`, in pixels.
    pub fn move_to(&mut self, [x1, y1, x2, y2]: [f32; 4]) {
        *self = Detection { x1, y1, x2, y2, ..*self };
    }
}
