//! In which order samples are found, and how many there are of each kind.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::envelope::Record;
use super::sample::{Interest, Sample, SampleId};

/// What a sample is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has told the truth about it.
    Unlabelled = b'u' as isize,
    /// Labelled, to learn from.
    Learn = b'l' as isize,
    /// Labelled, to measure on.
    Holdout = b'h' as isize,
}

impl State {
    /// Of a sample.
    pub fn of(sample: &Sample) -> Self {
        match &sample.labels {
            Some(labels) if labels.provenance.is_truth() && labels.holdout => State::Holdout,
            Some(labels) if labels.provenance.is_truth() => State::Learn,
            _ => State::Unlabelled,
        }
    }

    /// What every key of this state begins with.
    pub(super) fn prefix(self) -> [u8; 1] {
        [self as u8]
    }
}

/// A sample's key in the index: its state, how notable it is while it has no labels, its id. So the first
/// key of a state is the sample that goes first.
pub(super) fn key(sample: &Sample) -> [u8; 18] {
    let state = State::of(sample);
    let interest = match (state, sample.interest) {
        (State::Learn | State::Holdout, _) | (_, Interest::Ordinary) => 0,
        (_, Interest::Notable) => 1,
        (_, Interest::Asked) => 2,
    };
    let mut key = [0; 18];
    key[0] = state as u8;
    key[1] = interest;
    key[2..].copy_from_slice(sample.id.0.as_bytes());
    key
}

/// The sample that a key of the index speaks of.
pub(super) fn id_in(key: &[u8]) -> Result<SampleId, StoreError> {
    let id = key.get(2..).and_then(|id| uuid::Uuid::from_slice(id).ok());
    id.map(SampleId).ok_or_else(|| StoreError::Damaged("of an index".into()))
}

/// How many samples there are, and how large their frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    pub unlabelled: u64,
    pub learn: u64,
    pub holdout: u64,
    /// A frame that two samples share counts twice.
    pub bytes: u64,
}

impl Record for Totals {}

impl Totals {
    pub fn samples(&self) -> u64 {
        self.unlabelled + self.learn + self.holdout
    }

    pub fn add(&mut self, sample: &Sample) {
        *self.of(sample) += 1;
        self.bytes += sample.bytes;
    }

    pub fn remove(&mut self, sample: &Sample) {
        let count = self.of(sample);
        *count = count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(sample.bytes);
    }

    fn of(&mut self, sample: &Sample) -> &mut u64 {
        match State::of(sample) {
            State::Unlabelled => &mut self.unlabelled,
            State::Learn => &mut self.learn,
            State::Holdout => &mut self.holdout,
        }
    }
}
