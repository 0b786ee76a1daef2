//! How much room the store may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MB: u64 = 1024 * 1024;

/// How much room the store may take, and what goes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Kept frames take at most so much, MiB; then the oldest of the least notable without labels make room.
    pub max_mb: u64,
    /// At most so many samples are kept; as for `max_mb`.
    pub max_samples: u64,
    /// No frame is kept while less than this is free on the disk, MiB: it is not graftd's alone.
    pub min_free_mb: u64,
    /// So much is held back for the moment when others have filled the disk, MiB: labels and answers are
    /// written then, and the rest goes on when there is room.
    pub ballast_mb: u64,
    /// Whether labelled samples may make room too when there are no others: first the oldest to learn from,
    /// then the oldest of the hold-out.
    pub drop_labelled: bool,
    /// So long the database may take for one thing, seconds; then graftd ends, so that it is started again. A
    /// slow card may take some.
    pub patience_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_mb: 4096,
            max_samples: 100_000,
            min_free_mb: 256,
            ballast_mb: 16,
            drop_labelled: false,
            patience_s: 120,
        }
    }
}

impl Limits {
    /// [`Limits::max_mb`] in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.max_mb.saturating_mul(MB)
    }

    /// [`Limits::min_free_mb`] in bytes.
    pub fn min_free(&self) -> u64 {
        self.min_free_mb.saturating_mul(MB)
    }

    /// [`Limits::patience_s`].
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }

    /// [`Limits::ballast_mb`] in bytes.
    pub fn ballast(&self) -> u64 {
        self.ballast_mb.saturating_mul(MB)
    }
}
