//! What takes a while and is no run: measuring a model, writing the labelled samples out. One at a time, in a thread of
//! its own. An errand that a restart interrupts is answered so, and has to be sent again.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::dataset::{DatasetError, Format};
use crate::files;
use crate::mqtt::{Answer, EvaluateArguments, ExportArguments};
use crate::runtime;
use crate::store::{Sample, Store, StoreError};
use crate::train::renumber;

use super::ask::Ask;
use super::core::Core;
use super::event::Event;
use super::models::{open_detector, words};
use super::names::Names;
use super::runs::measurable;

/// An errand that goes on.
pub(super) struct Errand {
    what: &'static str,
    ask: Ask,
    /// Set when nobody waits for it any more.
    given_up: Arc<AtomicBool>,
}

/// Where exports lie.
fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("exports")
}

/// Removes what an interrupted export left.
pub(super) fn sweep(state_dir: &Path) {
    match files::sweep(&folder(state_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("what an interrupted export left can't be removed: {error}");
        }
        _ => {}
    }
}

impl Core {
    /// `cmd/evaluate`: a slot's model on the hold-out.
    pub(super) fn evaluate(&mut self, arguments: &EvaluateArguments, ask: &Ask) -> Result<(), String> {
        let slot = arguments.slot.unwrap_or(self.slot.slot);
        let slots = self.store.models().list().map_err(words)?;
        if !slots.iter().any(|known| known.slot == slot) {
            let known: Vec<String> = slots.iter().map(|slot| slot.slot.to_string()).collect();
            return Err(format!("there is no slot {slot}; there are {}", known.join(", ")));
        }
        let (_, holdout) = self.store.samples().truth().map_err(words)?;
        measurable(&holdout)?;
        let (config, store) = (self.config.clone(), Arc::clone(&self.store));
        self.send_off("evaluate", ask, move |_| {
            let guest = config.train.guest.clone();
            let measure = || {
                let runtime = runtime::open(&config.runtime.backbone()).map_err(words)?;
                let mut detector = open_detector(&config, &store, slot, &*runtime).map_err(words)?;
                // The loop alone changes the store's.
                let mut known = store.samples().class_names().map_err(words)?;
                let names = Names::of(&mut known, detector.classes());
                detector.call_classes(names.model_and_others());
                let mut holdout = holdout;
                renumber(&mut holdout, &names.labels, detector.classes()).map_err(words)?;
                let evaluation = detector.evaluate(&holdout, |_| {}).map_err(words)?;
                let mut result = serde_json::to_value(&evaluation).expect("reports can be written");
                result["slot"] = slot.into();
                Ok(result)
            };
            guest.run(config.runtime.threads, measure).map_err(words)?
        })
    }

    /// `cmd/export`: the labelled samples as a folder for other programs. It takes the place of the one before.
    pub(super) fn export(&mut self, arguments: &ExportArguments, ask: &Ask) -> Result<(), String> {
        let counts = self.store.samples().counts();
        if counts.labelled + counts.holdout == 0 {
            return Err("no sample has labels yet; there is nothing to export".into());
        }
        let (format, store, folder) =
            (arguments.format, Arc::clone(&self.store), folder(&self.config.state_dir));
        let floor = self.config.store.min_free();
        self.send_off("export", ask, move |given_up| export(&store, &folder, format, floor, given_up))
    }

    /// Has an errand done; its answer comes as an event.
    fn send_off(
        &mut self,
        what: &'static str,
        ask: &Ask,
        work: impl FnOnce(&AtomicBool) -> Result<Value, String> + Send + 'static,
    ) -> Result<(), String> {
        if let Some(errand) = &self.errand {
            return Err(format!("{} goes on; send the command again when it is answered", errand.what));
        }
        let (events, given_up) = (self.events.clone(), Arc::new(AtomicBool::new(false)));
        let heard = Arc::clone(&given_up);
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&heard)));
            let done = done
                .unwrap_or_else(|_| Err("a mistake of graftd's, please report it; its log says more".into()));
            // A daemon that has ended has answered already.
            let _ = events.send(Event::ErrandEnded(done));
        };
        let started = thread::Builder::new().name(what.into()).spawn(work);
        started.map_err(|error| format!("the system gives no thread: {error}"))?;
        self.errand = Some(Errand { what, ask: ask.clone(), given_up });
        Ok(())
    }

    pub(super) fn errand_ended(&mut self, done: Result<Value, String>) -> Result<(), StoreError> {
        let Some(errand) = self.errand.take() else { return Ok(()) };
        self.settle(&errand.ask, &done.into())
    }

    /// The daemon stops: nobody waits for the errand any more.
    pub(super) fn give_up_errand(&mut self, reason: &str) -> Result<(), StoreError> {
        let Some(errand) = self.errand.take() else { return Ok(()) };
        errand.given_up.store(true, Ordering::Relaxed);
        self.settle(&errand.ask, &Answer::failed(reason))
    }
}

/// Writes all labelled samples into a new folder, which is there whole or not at all, and removes the older ones.
fn export(
    store: &Store,
    folder: &Path,
    format: Format,
    floor: u64,
    given_up: &AtomicBool,
) -> Result<Value, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    files::sweep(folder).map_err(|error| failed(folder, error))?;
    let samples = store.samples();
    let labelled = samples.iter().filter_map(Result::ok).filter(|sample| sample.labels.is_some());
    let needs: u64 = labelled.map(|sample| sample.bytes).sum();
    if let Some(free) = files::free_space(folder).filter(|&free| free < needs + floor) {
        let [needs, free, floor] = [needs, free, floor].map(|bytes| bytes >> 20);
        return Err(format!(
            "the frames take {needs} MiB, {free} are free and {floor} must stay so (store.min_free_mb); make room"
        ));
    }
    let items = samples.iter().filter_map(|sample| {
        if given_up.load(Ordering::Relaxed) {
            return Some(Err(Halt::GivenUp));
        }
        let item = |sample: Result<Sample, StoreError>| samples.give_out(sample?);
        item(sample).map_err(Halt::Store).transpose()
    });
    let classes = samples.classes().map_err(words)?;
    let name = Uuid::now_v7().to_string();
    let (passing, place) = (folder.join(format!("{}{name}", files::PASSING)), folder.join(name));
    let pictures = format.write(&passing, &classes, items).map_err(|halt: Halt| {
        if let Err(error) = fs::remove_dir_all(&passing) {
            tracing::warn!("{}: {error}", passing.display());
        }
        halt.to_string()
    })?;
    fs::rename(&passing, &place)
        .and_then(|()| files::sync_dir(folder))
        .map_err(|error| failed(&place, error))?;
    remove_others(folder, &place).map_err(|error| failed(folder, error))?;
    Ok(json!({"folder": place, "pictures": pictures}))
}

fn remove_others(folder: &Path, newest: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path != newest {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error(transparent)]
    Data(#[from] DatasetError),
    #[error(transparent)]
    Store(StoreError),
    #[error("graftd was stopped")]
    GivenUp,
}
