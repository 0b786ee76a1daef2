//! Room for one more frame: who goes when the limits are reached.

use crate::files::free_space;

use super::StoreError;
use super::index::{self, State};
use super::sample::SampleId;
use super::samples::{Samples, Writer};

impl Samples {
    /// Makes room for a frame, or says why there is none.
    pub(super) fn make_room(&self, writer: &mut Writer, bytes: u64) -> Result<(), StoreError> {
        let dir = self.db.dir();
        let floor = self.limits.min_free();
        while writer.totals.samples() >= self.limits.max_samples
            || writer.totals.bytes + bytes > self.limits.max_bytes()
        {
            let Some(first) = self.first_to_go()? else {
                return Err(StoreError::LabelsFill {
                    samples: writer.totals.samples(),
                    mb: writer.totals.bytes >> 20,
                });
            };
            tracing::debug!("sample {first} makes room");
            let sample = self.get(first)?;
            self.forget(writer, &sample)?;
        }
        match free_space(dir) {
            Some(free) if free < floor + bytes => Err(StoreError::Full {
                path: dir.to_owned(),
                free_mb: free >> 20,
                floor_mb: self.limits.min_free_mb,
            }),
            _ => Ok(()),
        }
    }

    fn first_to_go(&self) -> Result<Option<SampleId>, StoreError> {
        let may_go: &[State] = match self.limits.drop_labelled {
            true => &[State::Unlabelled, State::Learn, State::Holdout],
            false => &[State::Unlabelled],
        };
        self.db.read(|trees| {
            for state in may_go {
                if let Some(entry) = trees.by_state.scan_prefix(state.prefix()).next() {
                    return index::id_in(&entry?.0).map(Some);
                }
            }
            Ok(None)
        })
    }
}
