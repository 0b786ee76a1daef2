//! Boxes that somebody drew: what a sample is labelled with.

use serde::{Deserialize, Serialize};

/// One labelled object: its class and its box, normalised by the picture's width and height.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LabelBox {
    /// Index into the list of class names.
    pub class: u32,
    /// Centre, in widths of the picture, 0 to 1.
    pub cx: f32,
    /// Centre, in heights of the picture, 0 to 1.
    pub cy: f32,
    /// Width, in widths of the picture, 0 to 1.
    pub w: f32,
    /// Height, in heights of the picture, 0 to 1.
    pub h: f32,
}

impl LabelBox {
    /// The box's corners `[x1, y1, x2, y2]` in pixels of a picture of this size.
    pub fn to_pixels(&self, width: u32, height: u32) -> [f32; 4] {
        let (width, height) = (width as f32, height as f32);
        [
            (self.cx - self.w / 2.0) * width,
            (self.cy - self.h / 2.0) * height,
            (self.cx + self.w / 2.0) * width,
            (self.cy + self.h / 2.0) * height,
        ]
    }
}

/// Who says so: only human and imported labels may judge a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// A person drew or confirmed the boxes, on the page or over MQTT.
    Human,
    /// The boxes came with an imported data set.
    Import,
    /// A model proposed the boxes; nobody has confirmed them.
    Model,
}

impl Provenance {
    /// Whether labels of this provenance are truth, that is, may be learnt from and measured against.
    pub fn is_truth(self) -> bool {
        matches!(self, Provenance::Human | Provenance::Import)
    }
}
