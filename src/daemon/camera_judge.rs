//! What the daemon makes of a camera's frames says whether the camera is well: that they come does not.

use std::time::{Duration, Instant};

/// What the daemon wants of the camera, and how it found the last frame.
#[derive(Debug)]
pub(super) enum Wish {
    /// The next frame.
    Frame,
    /// The next frame; the last could not be decoded, for this reason.
    Another(String),
}

/// What the daemon said of this source's frames: single ones that can't be decoded happen, nothing else for a
/// while is a camera that must be opened again.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The daemon has something of this source's to speak of.
    pub has_given: bool,
    garbage_since: Option<Instant>,
}

/// Of the source, after what was said of a frame.
pub(super) enum Verdict {
    /// It gives frames.
    Good,
    /// It may.
    Unsure,
    /// It gives nothing that can be used, for this reason.
    Garbage(String),
}

impl Judge {
    /// What a wish says of the frame before it; nothing but garbage for `patience` is too much.
    pub fn hear(&mut self, wish: Wish, patience: Duration) -> Verdict {
        match wish {
            // It speaks of a frame that an earlier source gave, or of none.
            _ if !self.has_given => Verdict::Unsure,
            Wish::Frame => {
                self.garbage_since = None;
                Verdict::Good
            }
            Wish::Another(reason) => {
                let since = *self.garbage_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= patience { Verdict::Garbage(reason) } else { Verdict::Unsure }
            }
        }
    }
}
