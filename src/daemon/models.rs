//! Slots: the base at the first start, promotion, rollback, and the detector that follows them.

use std::fs;

use serde_json::{Value, json};

use crate::config::Config;
use crate::detect::{DetectError, Detector};
use crate::mqtt::ModelReport;
use crate::onnx::Model;
use crate::runtime::{Runtime, SessionOptions};
use crate::store::{Slot, SlotRecord, Store, StoreError};
use crate::yolo::export::{Export, ExportError};

use super::core::Core;
use super::names::Names;
use super::probation::Probation;
use super::{DaemonError, looks};

/// The current slot; at the first start the base becomes slot 0.
pub(super) fn current_slot(config: &Config, store: &Store) -> Result<Slot, DaemonError> {
    // A new store knows none, nor does one whose records came back from the copies beside the frames.
    let learn_classes = |names: &[String]| -> Result<(), StoreError> {
        let samples = store.samples();
        if samples.classes()?.is_empty() { samples.set_classes(names) } else { Ok(()) }
    };
    if let Some(slot) = store.models().current()? {
        learn_classes(&slot.record.classes)?;
        return Ok(slot);
    }
    let path = &config.model.base;
    let mut bytes = fs::read(path).map_err(|source| DaemonError::Base { path: path.clone(), source })?;
    let model = |source: ExportError| DetectError::Model { path: path.clone(), source };
    let mut read = Model::parse(&bytes).map_err(|error| model(error.into()))?;
    if read.has_external_data() {
        // A slot is one file.
        read = Model::read(path).map_err(|error| model(error.into()))?;
        bytes = read.encode();
    }
    let export = Export::new(read).map_err(model)?;
    learn_classes(&export.classes)?;
    let record = SlotRecord { classes: export.classes, ..SlotRecord::default() };
    Ok(store.models().promote(&bytes, record)?)
}

/// Loads a slot's model.
pub(super) fn open_detector(
    config: &Config,
    store: &Store,
    slot: u32,
    runtime: &dyn Runtime,
) -> Result<Detector, DetectError> {
    let options = SessionOptions { threads: config.runtime.threads };
    Detector::open(&store.models().model_path(slot), config.model.imgsz, runtime, &options)
}

/// A slot that was left at the start because its model can't be loaded.
pub(super) struct Left {
    /// Its number.
    pub slot: u32,
    /// Why.
    pub reason: String,
}

/// Loads the current slot's model; one that can't be loaded is left for the one before it, and so on.
pub(super) fn open_working(
    config: &Config,
    store: &Store,
    runtime: &dyn Runtime,
) -> Result<(Slot, Detector, Vec<Left>), DaemonError> {
    let mut slot = current_slot(config, store)?;
    let mut left = Vec::new();
    loop {
        let error = match open_detector(config, store, slot.slot, runtime) {
            Ok(detector) => return Ok((slot, detector, left)),
            Err(error) => error,
        };
        if slot.replaced.is_none() {
            return Err(error.into());
        }
        let before = store.models().rollback()?;
        tracing::error!("slot {}: {error}; slot {} is taken again", slot.slot, before.slot);
        left.push(Left { slot: slot.slot, reason: error.to_string() });
        slot = before;
    }
}

/// Loads a candidate that is not in a slot yet.
pub(super) fn candidate_detector(
    config: &Config,
    model: &[u8],
    runtime: &dyn Runtime,
) -> Result<Detector, DetectError> {
    let candidate = |source| DetectError::Model { path: "candidate".into(), source };
    let model = Model::parse(model).map_err(|error| candidate(error.into()))?;
    let export = Export::new(model).map_err(candidate)?;
    let options = SessionOptions { threads: config.runtime.threads };
    Detector::new(&export, config.model.imgsz, runtime, &options)
}

impl Core {
    /// `cmd/promote`.
    pub(super) fn promote_slot(&mut self, slot: u32) -> Result<Value, String> {
        self.no_run()?;
        let store = std::sync::Arc::clone(&self.store);
        if !store.models().list().map_err(words)?.iter().any(|known| known.slot == slot) {
            return store.models().activate(slot).map(|_| Value::Null).map_err(words);
        }
        self.switch_to(slot, || store.models().activate(slot))
    }

    /// `cmd/rollback`.
    pub(super) fn roll_back(&mut self) -> Result<Value, String> {
        self.no_run()?;
        let store = std::sync::Arc::clone(&self.store);
        let before = self.slot.replaced.ok_or(StoreError::NothingBefore(self.slot.slot)).map_err(words)?;
        self.switch_to(before, || store.models().rollback())
    }

    /// Loads a slot's model first and switches only when it works.
    fn switch_to(
        &mut self,
        slot: u32,
        switch: impl FnOnce() -> Result<Slot, StoreError>,
    ) -> Result<Value, String> {
        let detector = open_detector(&self.config, &self.store, slot, &*self.runtime).map_err(words)?;
        let names = Names::open(&self.store, detector.classes()).map_err(words)?;
        let slot = switch().map_err(words)?;
        let result = json!({"slot": slot.slot, "sha256": slot.sha256});
        self.follow(slot, detector, names);
        Ok(result)
    }

    /// From now on this slot's model detects.
    pub(super) fn follow(&mut self, slot: Slot, detector: Detector, names: Names) {
        tracing::info!("slot {} is current", slot.slot);
        self.selector.follow(&names.model);
        if detector.features_key() != self.detector.features_key() {
            // Nothing that was kept before can be compared with what it sees.
            self.looks = looks::open(&self.store, &detector, &names, &mut self.selector);
        }
        self.names = names;
        self.detector = detector;
        self.probation = Probation::default();
        self.slot = slot;
        self.publish_model();
        self.state_changed();
    }

    pub(super) fn publish_model(&mut self) {
        let report = ModelReport { classes: self.names.model.clone(), ..ModelReport::from(&self.slot) };
        let payload = serde_json::to_vec(&report).expect("reports can be written");
        self.publish_fact(&self.topics.model(), &payload);
    }

    fn no_run(&self) -> Result<(), String> {
        match &self.run {
            Some(run) => Err(format!(
                "run {} goes on and is measured against the current model; cancel it first",
                run.id
            )),
            None => Ok(()),
        }
    }
}

pub(super) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
