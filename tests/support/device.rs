//! A device as its users meet it: a process, a real broker, pictures of which the truth is known.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Output;

use graftd::dataset::{DataSet, Example};
use serde_json::{Value, json};

use super::api::Socket;
use super::broker::{Mosquitto, Watcher, wait_until};
use super::service::Service;
use super::{drawn, graftd};

/// What its topics begin with.
pub const ROOT: &str = "graftd/test";

/// A device: its folder, its pictures, its broker.
pub struct Device {
    // Dropped first: it writes into the folder.
    pub daemon: Service,
    pub broker: Mosquitto,
    pub socket: Socket,
    pub data: DataSet,
    pub folder: tempfile::TempDir,
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
        let daemon = Service::new(folder.path());
        let socket = Socket::of(folder.path());
        let device = Device { daemon, broker, socket, data, folder, environment: Vec::new() };
        device.configure(extra);
        device
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, extra: &str) {
        self.daemon.configure(&format!("broker = {:?}", self.broker.url()), extra);
    }

    pub fn start(&mut self) {
        let environment = self.environment.clone();
        self.daemon.start_with(|command| command.envs(environment));
    }

    /// Starts it and waits until it answers.
    pub fn start_up(&mut self) {
        self.start();
        wait_until("the socket answers", || self.socket.is_there());
    }

    pub fn end(&mut self, signal: &str) -> Option<i32> {
        self.daemon.end(signal)
    }

    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// What the program does with this device's configuration.
    pub fn run(&self, arguments: &[&str]) -> Output {
        graftd().args(arguments).arg("--config").arg(self.path("graftd.toml")).output().unwrap()
    }

    /// What the program prints; it must succeed.
    pub fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until so many frames are kept; their ids.
    pub fn kept(&self, count: usize) -> Vec<String> {
        let mut listed = Vec::new();
        wait_until("the frames are kept", || {
            // There may be no room for one more client at the moment.
            let answer = self.socket.get("/samples?limit=1000").json();
            listed = answer["samples"].as_array().cloned().unwrap_or_default();
            listed.len() == count
        });
        listed.iter().map(|sample| sample["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Labels these samples over the API, all alike: a quarter of them, at least one, is held out.
    pub fn label_each(&self, samples: &[String]) {
        for (index, sample) in samples.iter().enumerate() {
            let boxes = json!([{"class": "weed", "cx": 0.5, "cy": 0.5, "w": 0.3, "h": 0.3}]);
            let said = json!({"sample": sample, "boxes": boxes, "holdout": index % 4 == 0});
            let answer = self.socket.post("/cmd/label", &said.to_string());
            assert_eq!(answer.status, 200, "{answer:?}");
        }
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
        let frames = self.truth().len();
        self.label_next(watcher, frames);
        let counted = |topic: &str, state: &Value| {
            topic == format!("{ROOT}/state")
                && state["labelled"].as_u64().unwrap() + state["holdout"].as_u64().unwrap() == frames as u64
        };
        watcher.wait("all labels to be counted", counted);
    }

    /// Waits for so many frames to be kept and labels them.
    pub fn label_next(&self, watcher: &Watcher, frames: usize) {
        for _ in 0..frames {
            let (topic, payload) = self.next_label(watcher);
            watcher.publish(&topic, payload.to_string());
        }
    }

    /// Waits for a frame to be kept; the command that labels it.
    pub fn next_label(&self, watcher: &Watcher) -> (String, Value) {
        let (_, sample) = watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
        let id = sample["sample"].as_str().unwrap();
        let (boxes, holdout) = &self.truth()[sample["source"].as_str().unwrap()];
        let payload = json!({"status": "init", "sample": id, "boxes": boxes, "holdout": holdout});
        (format!("{ROOT}/cmd/label/{id}"), payload)
    }
}

fn frame_name(split: &str, example: &Example) -> String {
    format!("{split}-{}", example.picture.file_name().unwrap().to_string_lossy())
}

/// Whether a message says that the daemon is there.
pub fn is_online(topic: &str, value: &Value) -> bool {
    topic == format!("{ROOT}/status") && value == "online"
}
