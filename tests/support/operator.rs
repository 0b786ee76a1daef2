//! An operator beside a device with a real daemon and a real broker: labels what is kept, has models promoted
//! and frames taken, keeps what was acknowledged, and looks whether the store still holds it.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use graftd::dataset::DataSet;
use graftd::store::{Remembered, Samples, SlotRecord, Store};
use serde_json::{Value, json};

use super::broker::{Mosquitto, PATIENCE, Watcher};
use super::ledger::folder;
use super::{drawn, goldens, graftd};

pub const ROOT: &str = "graftd/test";

/// A device with two models in its slots and pictures before its camera, and its broker.
pub struct Device {
    pub folder: tempfile::TempDir,
    pub broker: Mosquitto,
}

impl Device {
    /// The camera takes `fps` pictures a second, again and again.
    pub fn new(pictures: usize, fps: f64) -> Self {
        let folder = folder();
        let broker = Mosquitto::start(folder.path());
        let classes = ["crown", "weed", "pallet"];
        let yaml = drawn::data_set(&folder.path().join("data"), &classes, pictures, 1, 96);
        let frames = folder.path().join("frames");
        std::fs::create_dir(&frames).unwrap();
        for (index, example) in DataSet::open(&yaml).unwrap().train.iter().enumerate() {
            std::fs::copy(&example.picture, frames.join(format!("{index:03}.png"))).unwrap();
        }
        let base = goldens("exports").join("yolo11n.onnx");
        let text = format!(
            "device = \"test\"\nstate_dir = \"state\"\n[model]\nbase = {base:?}\n[mqtt]\nbroker = {:?}\n\
             [camera]\nfolder = \"frames\"\nfps = {fps:?}\nrepeat = true\n\
             [store]\nballast_mb = 1\nmin_free_mb = 1\n\
             [select]\nrandom_share = 1.0\nleast_difference = 0.0\nper_hour = 1000000\n\
             [train]\nidle = false\nmin_samples = 2\n",
            broker.url()
        );
        std::fs::write(folder.path().join("graftd.toml"), text).unwrap();
        let device = Device { folder, broker };
        let store = device.store().unwrap();
        let record = || SlotRecord { classes: classes.map(str::to_owned).into(), ..SlotRecord::default() };
        store.samples().set_classes(&record().classes).unwrap();
        let model = std::fs::read(&base).unwrap();
        for _ in 0..2 {
            store.models().promote(&model, record()).unwrap();
        }
        drop(store);
        device
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn store(&self) -> Result<Store, graftd::store::StoreError> {
        Store::open_within(&self.state(), &super::ledger::limits())
    }

    /// The daemon, not started yet.
    pub fn daemon(&self) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let mut command = graftd();
        command.arg("run").arg("--config").arg(self.folder.path().join("graftd.toml"));
        command.stderr(log.unwrap()).stdout(Stdio::null());
        command
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The operator's side.
pub struct Operator {
    watcher: Watcher,
    pub heard: Heard,
    /// Lines for [`Heard::note`], and when each was true, seconds since 1970.
    pub notes: Vec<(f64, String)>,
    sent: u32,
    /// The command that switches the model, and to which slot.
    switch: Option<(String, u32)>,
    run: Option<String>,
    labelled: Vec<String>,
}

impl Operator {
    pub fn new(broker: &Mosquitto) -> Self {
        let mut operator = Operator {
            watcher: Watcher::start(broker, ROOT),
            heard: Heard::default(),
            notes: vec![],
            sent: 0,
            switch: None,
            run: None,
            labelled: vec![],
        };
        operator.note("done model all 1".into());
        operator
    }

    fn note(&mut self, line: String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        self.heard.note(&line);
        self.notes.push((now, line));
    }

    fn send(&mut self, command: &str, id: &str, mut arguments: Value) {
        arguments["status"] = "init".into();
        self.note(format!("sent {command}/{id}"));
        self.watcher.publish(&format!("{ROOT}/cmd/{command}/{id}"), arguments.to_string());
    }

    /// Works with the device for a time, or until `is_enough`.
    pub fn work(&mut self, time: Duration, mut is_enough: impl FnMut(&Heard) -> bool) {
        let end = Instant::now() + time;
        while Instant::now() < end && !is_enough(&self.heard) {
            let left = end.saturating_duration_since(Instant::now());
            if let Some((topic, value)) = self.watcher.next(left.min(Duration::from_millis(200))) {
                self.hear(&topic, &value);
            }
        }
    }

    /// Waits until every command that was sent has been answered.
    pub fn wait_for_answers(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.heard.unanswered().is_empty() {
            assert!(Instant::now() < end, "no answer to {:?}", self.heard.unanswered());
            if let Some((topic, value)) = self.watcher.next(Duration::from_millis(200)) {
                self.take(&topic, &value);
            }
        }
    }

    fn hear(&mut self, topic: &str, value: &Value) {
        let is_sample = topic == format!("{ROOT}/event/sample");
        self.take(topic, value);
        if !is_sample {
            return;
        }
        let id = value["sample"].as_str().unwrap().to_owned();
        self.sent += 1;
        let version = self.sent;
        // This one, or one that has labels already.
        let id = match self.labelled.get(version as usize / 2) {
            Some(old) if version.is_multiple_of(4) => old.clone(),
            _ => id,
        };
        self.labelled.push(id.clone());
        self.note(format!("will label {id} {version}"));
        let boxes =
            json!([{"class": 0, "cx": f64::from(version) / 4096.0, "cy": 0.5, "w": 0.0001, "h": 0.2}]);
        let held = version.is_multiple_of(5);
        self.send(
            "label",
            &format!("{id}:{version}"),
            json!({"sample": id, "boxes": boxes, "holdout": held}),
        );
        if version % 3 == 1 {
            self.send("capture", &version.to_string(), json!({}));
        }
        if version % 4 == 2 && self.switch.is_none() && self.run.is_none() {
            let slot = version / 4 % 2;
            self.note(format!("will model all {slot}"));
            self.switch = Some((version.to_string(), slot));
            self.send("promote", &version.to_string(), json!({"slot": slot}));
        }
        if version % 16 == 12 && self.run.is_none() && self.switch.is_none() {
            self.run = Some(version.to_string());
            // A small one, whose candidate is not better.
            self.send("train", &version.to_string(), json!({"epochs": 2, "views": 1, "lr": 1e-9}));
        }
    }

    /// Takes note of what a message acknowledges.
    fn take(&mut self, topic: &str, value: &Value) {
        if topic == format!("{ROOT}/event/sample") {
            self.note(format!("sample {}", value["sample"].as_str().unwrap()));
        }
        if topic == format!("{ROOT}/model")
            && let Some((_, slot)) = self.switch
            && value["slot"] == slot
        {
            self.note(format!("done model all {slot}"));
        }
        let Some(name) = topic.strip_prefix(&format!("{ROOT}/cmd/")) else { return };
        let Some((command, id)) = name.split_once('/') else { return };
        match value["status"].as_str() {
            Some("executing") => self.note(format!("executing {name}")),
            // After a kill the last ones come twice.
            Some("successful" | "failed") if self.heard.settled.contains_key(name) => {}
            Some(status @ ("successful" | "failed")) => {
                self.note(format!("settled {name} {value}"));
                if status == "successful" {
                    match command {
                        "label" => {
                            let (id, version) = id.split_once(':').unwrap();
                            self.note(format!("done label {id} {version}"));
                        }
                        "promote" => {
                            self.note(format!("done model all {}", value["result"]["slot"]));
                        }
                        "capture" => {
                            self.note(format!("sample {}", value["result"]["sample"].as_str().unwrap()));
                        }
                        _ => {}
                    }
                }
                if self.switch.as_ref().is_some_and(|(switch, _)| command == "promote" && switch == id) {
                    self.switch = None;
                }
                if self.run.as_ref().is_some_and(|run| command == "train" && run == id) {
                    self.run = None;
                }
            }
            _ => {}
        }
    }
}

/// What a device has acknowledged.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    pub samples: BTreeSet<String>,
    sent: BTreeSet<String>,
    executing: BTreeSet<String>,
    pub settled: BTreeMap<String, Value>,
    /// Whether something was acknowledged, and what may be there.
    values: BTreeMap<String, (bool, Vec<u32>)>,
    /// Answers that were on their way to the operator: heard at some time.
    to_come: BTreeSet<String>,
}

impl Heard {
    /// Nothing yet, and the answers that are known to come.
    pub fn to_come(&self) -> Self {
        Heard { to_come: self.settled.keys().cloned().collect(), ..Heard::default() }
    }

    pub fn note(&mut self, line: &str) {
        let (what, rest) = line.split_once(' ').unwrap();
        match what {
            "sample" => {
                self.samples.insert(rest.into());
            }
            "sent" => {
                self.sent.insert(rest.into());
            }
            "executing" => {
                self.executing.insert(rest.into());
            }
            "settled" => {
                let (name, answer) = rest.split_once(' ').unwrap();
                self.settled.insert(name.into(), serde_json::from_str(answer).unwrap());
            }
            "will" | "done" => {
                let (name, value) = rest.rsplit_once(' ').unwrap();
                let (is_sure, may_be) = self.values.entry(name.into()).or_default();
                let value = value.parse().unwrap();
                if what == "done" {
                    // Answers come in the order in which things were done.
                    let at = may_be.iter().position(|&may| may == value).unwrap_or(may_be.len());
                    may_be.drain(..at.min(may_be.len()));
                    *is_sure = true;
                }
                if !may_be.contains(&value) {
                    may_be.push(value);
                }
            }
            _ => panic!("{line:?} is no note"),
        }
    }

    fn unanswered(&self) -> Vec<&String> {
        self.sent.iter().filter(|name| !self.settled.contains_key(*name)).collect()
    }

    /// Whether the store in `dir` holds all of it; otherwise what it lacks.
    pub fn check(&self, dir: &Path) -> Result<(), String> {
        let store = Store::open_within(dir, &super::ledger::limits())
            .map_err(|error| format!("it does not open: {error}"))?;
        let samples = store.samples();
        for id in &self.samples {
            let sample = samples.get(id.parse().unwrap()).map_err(|error| format!("sample {id}: {error}"))?;
            let frame =
                std::fs::read(samples.frame_path(&sample)).map_err(|error| format!("{id}: {error}"))?;
            if Samples::frame_name(&frame) != sample.frame {
                return Err(format!("the frame of sample {id} is not what was kept"));
            }
        }
        for (name, (is_sure, may_be)) in &self.values {
            let found = value(&store, name)?;
            if !found.map_or(!is_sure, |found| may_be.contains(&found)) {
                return Err(format!("{name}: there is {found:?}, and it should be one of {may_be:?}"));
            }
        }
        let waiting = waiting(&store)?;
        for name in &self.sent {
            let (command, id) = name.split_once('/').unwrap();
            let remembered = store.commands().get(command, id).map_err(|error| format!("{name}: {error}"))?;
            let told = self.settled.get(name);
            match (remembered, told) {
                (Some(Remembered::Settled(answer)), Some(told))
                    if serde_json::from_slice::<Value>(&answer).unwrap() != *told =>
                {
                    return Err(format!("{name}: another answer than was told"));
                }
                (Some(Remembered::Settled(_)), Some(_)) => {}
                (found, Some(_)) => return Err(format!("{name}: was answered, and there is {found:?}")),
                (Some(Remembered::Settled(_)), None)
                    if !self.to_come.contains(name) && !waiting.contains(name) =>
                {
                    return Err(format!("{name}: it is settled, and nobody will hear of it"));
                }
                (None, None) if self.executing.contains(name) => {
                    return Err(format!("{name}: it was taken on, and is forgotten"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn value(store: &Store, name: &str) -> Result<Option<u32>, String> {
    let text = |error: graftd::store::StoreError| format!("{name}: {error}");
    if name == "model all" {
        let Some(slot) = store.models().current().map_err(text)? else { return Ok(None) };
        let bytes = std::fs::read(store.models().current_path()).map_err(|error| error.to_string())?;
        let base = std::fs::read(goldens("exports").join("yolo11n.onnx")).unwrap();
        if slot.slot < 2 && bytes != base {
            return Err("current.onnx is not the model that was promoted".into());
        }
        return Ok(Some(slot.slot));
    }
    let id = name.strip_prefix("label ").unwrap();
    match store.samples().get(id.parse().unwrap()) {
        Ok(sample) => {
            let labels = sample.labels.and_then(|labels| labels.boxes.first().copied());
            Ok(labels.map(|a_box| (a_box.cx * 4096.0).round() as u32))
        }
        Err(graftd::store::StoreError::NoSample(_)) => Ok(None),
        Err(error) => Err(text(error)),
    }
}

/// Commands whose last answer waits for the broker.
fn waiting(store: &Store) -> Result<BTreeSet<String>, String> {
    let (mut waiting, mut after) = (BTreeSet::new(), None);
    while let Some((number, message)) = store.outbox().next(after).map_err(|error| error.to_string())? {
        after = Some(number);
        if let Some(name) = message.topic.strip_prefix(&format!("{ROOT}/cmd/"))
            && serde_json::from_slice::<Value>(&message.payload).unwrap()["status"] != "executing"
        {
            waiting.insert(name.to_owned());
        }
    }
    Ok(waiting)
}
