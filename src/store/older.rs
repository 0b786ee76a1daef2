//! Records as earlier versions wrote them: one type for each version, and how it becomes the next.
//!
//! A record is read in whatever version it lies in and written in the newest, so old ones stay as they are
//! until they change. Types here never change; one that they hold and that does is copied here first.

use serde::Deserialize;

use crate::label::{LabelBox, Provenance};

use super::outbox::Message;
use super::sample::{FoundBox, Interest, Labels, Sample, SampleId};

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

impl From<SampleV1> for SampleV2 {
    fn from(old: SampleV1) -> Self {
        let SampleV1 { id, frame, width, height, taken_ms, source, why, found, labels } = old;
        let labels = labels.map(|LabelsV1 { boxes, provenance, holdout, at_ms }| Labels {
            boxes,
            provenance,
            holdout,
            at_ms,
            covers: None,
        });
        SampleV2 { id, frame, width, height, taken_ms, source, why, found, labels }
    }
}

/// Before samples said how notable and how large they are.
#[derive(Deserialize)]
pub(super) struct SampleV2 {
    id: SampleId,
    frame: String,
    width: u32,
    height: u32,
    taken_ms: u64,
    source: String,
    why: String,
    found: Vec<FoundBox>,
    labels: Option<Labels>,
}

impl From<SampleV2> for Sample {
    fn from(old: SampleV2) -> Self {
        let SampleV2 { id, frame, width, height, taken_ms, source, why, found, labels } = old;
        let interest = interest_of(&why);
        // The size is looked up, and the change counted, when the store is brought to this version.
        Sample {
            id,
            frame,
            width,
            height,
            taken_ms,
            source,
            why,
            found,
            labels,
            interest,
            bytes: 0,
            change: 0,
        }
    }
}

/// Before messages answered requests of MQTT 5.
#[derive(Deserialize)]
pub(super) struct MessageV1 {
    topic: String,
    payload: Vec<u8>,
    droppable: bool,
}

impl From<MessageV1> for Message {
    fn from(old: MessageV1) -> Self {
        let MessageV1 { topic, payload, droppable } = old;
        Message { topic, payload, droppable, correlation: None }
    }
}

/// What the words of versions 1 and 2 say.
pub(super) fn interest_of(why: &str) -> Interest {
    match why {
        "random" => Interest::Ordinary,
        "asked for" => Interest::Asked,
        _ => Interest::Notable,
    }
}
