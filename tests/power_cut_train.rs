//! The power goes while a run trains: taken up again it goes on after the last epoch that was told, or from
//! its beginning where none was, and ends with the same bytes as if nothing had happened.
//!
//! `GRAFTD_TRAIN_CUTS` says how many cuts are tried. Needs strace.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "support/cuts.rs"]
mod cuts;
#[path = "support/disk.rs"]
mod disk;
mod support;
#[path = "support/trace.rs"]
mod trace;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use cuts::{Book, State};
use disk::{Deaf, Disk};
use serde_json::Value;
use support::{classes, drawn, goldens, graftd, ledger};
use trace::Op;

/// Cuts, unless `GRAFTD_TRAIN_CUTS` says another number.
const CUTS: usize = 9;

/// What there is to train with.
struct Task {
    base: PathBuf,
    data: PathBuf,
    /// Holds the pictures.
    _folder: tempfile::TempDir,
}

impl Task {
    fn new() -> Self {
        let folder = ledger::folder();
        let base = goldens("exports").join("yolo11n.onnx");
        let classes = classes(&base);
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        let data = drawn::data_set(&folder.path().join("data"), &classes, 8, 2, 96);
        Task { base, data, _folder: folder }
    }

    /// A run whose cache, which it makes, and model lie in a folder.
    fn run(&self, folder: &Path) -> Command {
        let mut command = graftd();
        command.arg("train").arg("--base").arg(&self.base).arg("--data").arg(&self.data);
        command.arg("--out").arg(folder.join("out.onnx")).arg("--cache").arg(folder.join("deep/cache"));
        command.args(["--json", "--force", "--views", "2", "--patience", "0", "--epochs", "6"]);
        command.args(["--threads", "1", "--batch", "4"]);
        command
    }
}

/// What a run has told.
#[derive(Clone)]
struct Told {
    task: Arc<Task>,
    undisturbed: Arc<Vec<u8>>,
    epoch: u64,
    is_over: bool,
}

impl Book for Told {
    fn note(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        if event["event"] == "epoch" {
            self.epoch = event["epoch"].as_u64().unwrap();
        }
        self.is_over |= event["promoted"].is_boolean();
    }

    fn check(&self, folder: &Path) -> Result<(), String> {
        let model = || std::fs::read(folder.join("out.onnx")).map_err(|error| format!("out.onnx: {error}"));
        if self.is_over {
            return (model()? == *self.undisturbed).then_some(()).ok_or("another model was left".into());
        }
        let output = self.task.run(folder).output().unwrap();
        let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !matches!(output.status.code(), Some(0 | 3)) {
            return Err(format!("it is not taken up: {said}"));
        }
        let events = || told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(refused) = events().find(|event| event["event"] == "not_resumed") {
            return Err(refused.to_string());
        }
        let resumed = events().find(|event| event["event"] == "resumed");
        let from = resumed.map_or(0, |event| event["epoch"].as_u64().unwrap());
        // Behind the last epoch the checkpoint goes, once the model is there.
        if from < self.epoch && !(from == 0 && folder.join("out.onnx").exists() && self.epoch == 6) {
            return Err(format!("{} epochs were told, it goes on after {from}", self.epoch));
        }
        (model()? == *self.undisturbed).then_some(()).ok_or("it ends with another model".into())
    }
}

fn recorded(deaf: Deaf) -> (State<Told>, Vec<Op>) {
    let task = Arc::new(Task::new());
    let undisturbed = ledger::folder();
    let status = task.run(undisturbed.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 3)));
    let undisturbed = Arc::new(std::fs::read(undisturbed.path().join("out.onnx")).unwrap());
    let root = ledger::folder();
    let (folder, log) = (root.path().join("run"), root.path().join("trace"));
    std::fs::create_dir(&folder).unwrap();
    // What it says is in its marks.
    let marks = root.path().join("marks");
    let mut strace = trace::recorder(&task.run(&folder), &log, None);
    let status =
        strace.stdout(std::fs::File::create(&marks).unwrap()).stderr(Stdio::null()).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    let ops: Vec<Op> = trace::read(&log, &folder, &marks).into_iter().map(|(_, op)| op).collect();
    let told = ops.iter().filter(|op| matches!(op, Op::Mark(line) if line.contains("\"epoch\","))).count();
    assert_eq!(told, 6, "epochs among the marks");
    (State { disk: Disk::new(deaf), ledger: Told { task, undisturbed, epoch: 0, is_over: false } }, ops)
}

#[test]
fn a_run_survives_that_the_power_goes() {
    let (state, ops) = recorded(Deaf::No);
    let cuts = cuts::number("GRAFTD_TRAIN_CUTS", CUTS);
    let found = cuts::faults(state, &ops, cuts, 3);
    println!("{cuts} cuts over {} operations of a run, {} faults", ops.len(), found.len());
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// The test above can fail: without the syncs of folders it does.
#[test]
fn a_sync_that_a_run_does_not_do_is_noticed() {
    let (state, ops) = recorded(Deaf::ToFolders);
    let found = cuts::faults(state, &ops, 16, 4);
    println!("{} of 16 cuts with a fault, such as: {}", found.len(), found.first().map_or("", |x| x));
    assert!(!found.is_empty(), "not noticed");
}
