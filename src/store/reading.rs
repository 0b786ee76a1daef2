//! The samples as they are read: one, all in turn, how many, and what is learnt from.

use std::collections::VecDeque;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::PoisonError;

use crate::dataset::Example;

use super::blobs::{Blobs, hex};
use super::classes::names_of;
use super::index::{self, State};
use super::sample::{Sample, SampleId};
use super::samples::Samples;
use super::{StoreError, envelope};

/// Records that are read at a time when all are gone through.
const PAGE: usize = 64;

/// How many samples there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub samples: u64,
    /// Labelled, to learn from.
    pub labelled: u64,
    /// Labelled, to measure on.
    pub holdout: u64,
    /// What their frames take, bytes.
    pub bytes: u64,
}

impl Samples {
    /// One sample.
    ///
    /// # Errors
    /// When there is no such sample or its record is damaged.
    pub fn get(&self, id: SampleId) -> Result<Sample, StoreError> {
        self.db.read(|trees| {
            let bytes = trees.samples.get(id.0.as_bytes())?.ok_or(StoreError::NoSample(id))?;
            envelope::open(|| id.to_string(), &bytes)
        })
    }

    /// All samples, oldest first. One that is added or changed meanwhile may or may not be seen.
    pub fn iter(&self) -> impl Iterator<Item = Result<Sample, StoreError>> + use<'_> {
        self.iter_after(None)
    }

    /// The samples that are newer than one, whether it is there or not, as [`Samples::iter`] gives them.
    pub fn iter_after(
        &self,
        after: Option<SampleId>,
    ) -> impl Iterator<Item = Result<Sample, StoreError>> + use<'_> {
        self.raw_after(after).map(|entry| {
            let (key, bytes) = entry?;
            envelope::open(|| hex(&key), &bytes)
        })
    }

    /// All records as they lie in the database, a page at a time: nobody holds a handle in between.
    pub(super) fn raw(&self) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<'_> {
        self.raw_after(None)
    }

    fn raw_after(
        &self,
        after: Option<SampleId>,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<'_> {
        let mut page: VecDeque<(sled::IVec, sled::IVec)> = VecDeque::new();
        let mut after = match after {
            Some(id) => Bound::Excluded(sled::IVec::from(id.0.as_bytes().as_slice())),
            None => Bound::Unbounded,
        };
        let mut is_end = false;
        std::iter::from_fn(move || {
            if page.is_empty() && !is_end {
                let next = self.db.read(|trees| {
                    let range = trees.samples.range::<sled::IVec, _>((after.clone(), Bound::Unbounded));
                    Ok(range.take(PAGE).collect::<Result<VecDeque<_>, _>>()?)
                });
                match next {
                    Ok(next) => page = next,
                    Err(error) => {
                        is_end = true;
                        return Some(Err(error));
                    }
                }
                is_end = page.len() < PAGE;
                if let Some((last, _)) = page.back() {
                    after = Bound::Excluded(last.clone());
                }
            }
            page.pop_front().map(Ok)
        })
    }

    /// Where a sample's frame lies.
    pub fn frame_path(&self, sample: &Sample) -> PathBuf {
        self.blobs.path(&sample.frame)
    }

    /// The name under which the store would keep a frame of these bytes ([`Sample::frame`]).
    pub fn frame_name(bytes: &[u8]) -> String {
        Blobs::name_of(bytes)
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let totals = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            samples: totals.samples(),
            labelled: totals.learn,
            holdout: totals.holdout,
            bytes: totals.bytes,
        }
    }

    /// What may be learnt from and what must be measured on, oldest first. A sample whose frame is gone is
    /// left out, and said.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn truth(&self) -> Result<(Vec<Example>, Vec<Example>), StoreError> {
        let classes = self.classes()?;
        let of = |state: State| -> Result<Vec<Example>, StoreError> {
            let keys: Vec<sled::IVec> = self.db.read(|trees| {
                Ok(trees.by_state.scan_prefix(state.prefix()).keys().collect::<Result<_, _>>()?)
            })?;
            let mut examples = Vec::with_capacity(keys.len());
            for key in keys {
                let sample = self.get(index::id_in(&key)?)?;
                let picture = self.frame_path(&sample);
                if !picture.exists() {
                    tracing::error!(
                        "sample {}: its frame {} is missing; it is left out (`graftd samples verify` tells more)",
                        sample.id,
                        picture.display()
                    );
                    continue;
                }
                let (labels, covers) =
                    sample.labels.map(|labels| (labels.boxes, labels.covers)).unwrap_or_default();
                examples.push(Example {
                    picture,
                    labels,
                    covers: covers.map(|numbers| names_of(&numbers, &classes)),
                });
            }
            Ok(examples)
        };
        Ok((of(State::Learn)?, of(State::Holdout)?))
    }
}
