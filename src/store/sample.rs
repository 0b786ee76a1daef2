//! A kept frame and what is known about it.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::label::{LabelBox, Provenance};

use super::envelope::{self, Record};
use super::older::{SampleV1, SampleV2};
use super::sealed;

/// Names a sample; ids of later samples are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SampleId(pub(super) Uuid);

impl SampleId {
    /// A new id, greater than `last` whatever the clock says: one that was years ahead once must not make all
    /// later samples older than those of that day.
    pub(super) fn after(last: Option<SampleId>) -> Self {
        let new = Uuid::now_v7();
        let Some(SampleId(last)) = last.filter(|last| last.0 >= new) else { return SampleId(new) };
        // A UUIDv7 begins with 48 bits of milliseconds; what is random in it stays so.
        let (last, mut bytes) = (last.as_u128() >> 80, *new.as_bytes());
        bytes[..6].copy_from_slice(&(last + 1).to_be_bytes()[10..]);
        SampleId(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no sample's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no sample id; one looks like 019aa0c4-7d1e-7c3a-9f00-3b6f0e4d2a11")]
pub struct UnknownSampleId(String);

impl FromStr for SampleId {
    type Err = UnknownSampleId;

    fn from_str(text: &str) -> Result<Self, UnknownSampleId> {
        Uuid::try_parse(text).map(SampleId).map_err(|_| UnknownSampleId(text.chars().take(60).collect()))
    }
}

/// A box that a model found on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FoundBox {
    /// Class and place.
    pub label: LabelBox,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// The truth about a frame, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// Every object on it, or of the classes in `covers`; classes count in the store's class list.
    pub boxes: Vec<LabelBox>,
    /// Who says so.
    pub provenance: Provenance,
    /// Whether the sample is measured on rather than learnt from.
    pub holdout: bool,
    /// When it was said, milliseconds since 1970.
    pub at_ms: u64,
    /// The classes that were looked for, ascending; none where nobody has said so. Numbers in the store's
    /// class list as those of the boxes are: so the two can't come to mean different classes, whatever
    /// becomes of the names. Copies from before there was such a field lack it.
    #[serde(default)]
    pub covers: Option<Vec<u32>>,
}

/// What is said of a frame when it is labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLabels {
    /// Every object on it, or of the classes in `covers`; classes count in the store's class list.
    pub boxes: Vec<LabelBox>,
    /// The classes that were looked for; none says nothing about that.
    pub covers: Option<Vec<u32>>,
    /// Who says so.
    pub provenance: Provenance,
    /// Whether the sample is measured on rather than learnt from; none leaves it as it is, or to a share.
    pub holdout: Option<bool>,
}

/// How much an unlabelled frame is worth its room: what is ordinary goes first when the store is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interest {
    /// Kept by chance, to know what is usual.
    #[default]
    Ordinary,
    /// The model has something to learn from it.
    Notable,
    /// Somebody wanted it.
    Asked,
}

/// What is known of a frame when it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSample {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// When the frame was taken.
    pub taken: SystemTime,
    /// Where it came from; of a folder, the file's name.
    pub source: String,
    /// Why it was kept.
    pub why: String,
    /// How much it is worth its room while it has no labels.
    pub interest: Interest,
    /// What the model found on it.
    pub found: Vec<FoundBox>,
}

/// A kept frame and its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its name.
    pub id: SampleId,
    /// Name of its frame's file.
    pub frame: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// When the frame was taken, milliseconds since 1970.
    pub taken_ms: u64,
    /// Where it came from.
    pub source: String,
    /// Why it was kept.
    pub why: String,
    /// What the model found on it.
    pub found: Vec<FoundBox>,
    /// The truth, once somebody has told it.
    pub labels: Option<Labels>,
    /// How much it is worth its room while it has no labels. Copies from before there was such a field lack
    /// it, as they do the next two.
    #[serde(default)]
    pub interest: Interest,
    /// Size of its frame's file.
    #[serde(default)]
    pub bytes: u64,
    /// The number of the change that made the record what it is: of two that differ the greater counts.
    #[serde(default)]
    pub change: u64,
}

impl Sample {
    /// The record in bytes of the database, of any version; none when they are no whole record.
    pub fn from_record(bytes: &[u8]) -> Option<Sample> {
        envelope::open(String::new, bytes).ok()
    }

    /// The record in the bytes of the copy beside its frame.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_copy(bytes: &[u8]) -> Result<Sample, String> {
        sealed::read(bytes)
    }

    /// The bytes of the copy beside its frame.
    pub fn to_copy(&self) -> Vec<u8> {
        sealed::write(self)
    }
}

impl Record for Sample {
    const VERSION: u8 = 3;

    fn read_older(version: u8, body: &[u8]) -> Option<Self> {
        match version {
            1 => postcard::from_bytes::<SampleV1>(body).ok().map(|old| SampleV2::from(old).into()),
            2 => postcard::from_bytes::<SampleV2>(body).ok().map(Sample::from),
            _ => None,
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ids_are_greater_whatever_the_clock_says() {
        let first = SampleId::after(None);
        let tomorrow = SampleId(Uuid::from_u128(first.0.as_u128() + (86_400_000 << 80)));
        let mut last = tomorrow;
        for _ in 0..100 {
            let next = SampleId::after(Some(last));
            assert!(next > last && next.0.get_version_num() == 7);
            last = next;
        }
        assert!(SampleId::after(Some(first)) < tomorrow, "the clock is right again");
    }
}
