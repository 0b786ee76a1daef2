//! A device as its users meet it: a process, a real broker, pictures of which the truth is known.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use graftd::dataset::{DataSet, Example};
use serde_json::{Value, json};

use super::broker::{Mosquitto, Watcher};
use super::{drawn, goldens, graftd};

/// What its topics begin with.
pub const ROOT: &str = "graftd/test";

/// A device: its folder, its pictures, its broker.
pub struct Device {
    pub folder: tempfile::TempDir,
    pub broker: Mosquitto,
    pub data: DataSet,
    pub daemon: Option<Child>,
    /// Set for the daemon when it is started.
    pub environment: Vec<(String, String)>,
}

impl Device {
    /// `extra` goes into the configuration.
    pub fn new(pictures: usize, holdout: usize, extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path());
        let yaml = drawn::data_set(
            &folder.path().join("data"),
            &["crown", "weed", "pallet"],
            pictures,
            holdout,
            160,
        );
        let data = DataSet::open(&yaml).unwrap();
        let frames = folder.path().join("frames");
        std::fs::create_dir(&frames).unwrap();
        for (split, examples) in [("train", &data.train), ("val", &data.val)] {
            for example in examples {
                std::fs::copy(&example.picture, frames.join(frame_name(split, example))).unwrap();
            }
        }
        let device = Device { folder, broker, data, daemon: None, environment: Vec::new() };
        device.configure(extra);
        device
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, extra: &str) {
        let base = goldens("exports").join("yolo12n.onnx");
        let text = format!(
            "device = \"test\"\nstate_dir = \"state\"\n[model]\nbase = {base:?}\n[mqtt]\nbroker = {:?}\n\
             [camera]\nfolder = \"frames\"\nfps = 100.0\n\
             [select]\nrandom_share = 1.0\nleast_difference = 0.0\nper_hour = 100000\n\
             [train]\nidle = false\n{extra}",
            self.broker.url()
        );
        std::fs::write(self.path("graftd.toml"), text).unwrap();
    }

    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = graftd();
        command.envs(self.environment.iter().cloned());
        command.arg("run").arg("--config").arg(self.path("graftd.toml")).stderr(log).stdout(Stdio::null());
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Sends a signal and waits for the end; the exit code, if it ended by itself.
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let kill = Command::new("kill").args([signal, &daemon.id().to_string()]).status().unwrap();
        assert!(kill.success());
        daemon.wait().unwrap().code()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Labels of each frame by its name, and whether it is held out.
    pub fn truth(&self) -> HashMap<String, (Value, bool)> {
        let split = |split: &'static str, examples: &[Example]| -> Vec<(String, (Value, bool))> {
            let boxes = |example: &Example| -> Value {
                let each = example.labels.iter();
                each.map(|l| json!({"class": l.class, "cx": l.cx, "cy": l.cy, "w": l.w, "h": l.h})).collect()
            };
            examples.iter().map(|e| (frame_name(split, e), (boxes(e), split == "val"))).collect()
        };
        split("train", &self.data.train).into_iter().chain(split("val", &self.data.val)).collect()
    }

    /// Waits for every frame to be kept and labels it.
    pub fn label_all(&self, watcher: &Watcher) {
        let truth = self.truth();
        for _ in 0..truth.len() {
            let (_, sample) =
                watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
            let id = sample["sample"].as_str().unwrap();
            let (boxes, holdout) = &truth[sample["source"].as_str().unwrap()];
            let payload = json!({"status": "init", "sample": id, "boxes": boxes, "holdout": holdout});
            watcher.publish(&format!("{ROOT}/cmd/label/{id}"), payload.to_string());
        }
        let counted = |topic: &str, state: &Value| {
            topic == format!("{ROOT}/state")
                && state["labelled"].as_u64().unwrap() + state["holdout"].as_u64().unwrap()
                    == truth.len() as u64
        };
        watcher.wait("all labels to be counted", counted);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

fn frame_name(split: &str, example: &Example) -> String {
    format!("{split}-{}", example.picture.file_name().unwrap().to_string_lossy())
}

/// Whether a message says that the daemon is there.
pub fn is_online(topic: &str, value: &Value) -> bool {
    topic == format!("{ROOT}/status") && value == "online"
}
