//! Samples for tests of the store.

use std::time::SystemTime;

use graftd::label::{LabelBox, Provenance};
use graftd::store::{Interest, NewLabels, NewSample};

/// A frame that is small and was kept for a test.
pub fn new_sample(source: &str) -> NewSample {
    NewSample {
        width: 8,
        height: 6,
        taken: SystemTime::now(),
        source: source.into(),
        why: "test".into(),
        interest: Interest::Notable,
        found: vec![],
    }
}

/// A box in the middle.
pub fn a_box() -> LabelBox {
    LabelBox { class: 0, cx: 0.5, cy: 0.5, w: 0.2, h: 0.2 }
}

/// A person's word: that box, and nothing about what else was looked for.
pub fn new_labels(holdout: Option<bool>) -> NewLabels {
    NewLabels { boxes: vec![a_box()], covers: None, provenance: Provenance::Human, holdout }
}
