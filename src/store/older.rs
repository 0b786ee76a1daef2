//! Records as earlier versions wrote them: one type for each version, and how it becomes the next.
//!
//! A record is read in whatever version it lies in and written in the newest, so old ones stay as they are
//! until they change. Types here never change; one that they hold and that does is copied here first.

use serde::Deserialize;

use crate::label::{LabelBox, Provenance};

use super::sample::{FoundBox, Labels, Sample, SampleId};

/// Before labels said which classes they cover.
#[derive(Deserialize)]
pub(super) struct SampleV1 {
    id: SampleId,
    frame: String,
    width: u32,
    height: u32,
    taken_ms: u64,
    source: String,
    why: String,
    found: Vec<FoundBox>,
    labels: Option<LabelsV1>,
}

#[derive(Deserialize)]
struct LabelsV1 {
    boxes: Vec<LabelBox>,
    provenance: Provenance,
    holdout: bool,
    at_ms: u64,
}

impl From<SampleV1> for Sample {
    fn from(old: SampleV1) -> Self {
        let SampleV1 { id, frame, width, height, taken_ms, source, why, found, labels } = old;
        let labels = labels.map(|LabelsV1 { boxes, provenance, holdout, at_ms }| Labels {
            boxes,
            provenance,
            holdout,
            at_ms,
            covers: None,
        });
        Sample { id, frame, width, height, taken_ms, source, why, found, labels }
    }
}
