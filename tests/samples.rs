//! `graftd samples` through the real program: what is damaged is named, and put right where it can be.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graftd::store::{Message, Sample, SlotRecord, Store, verify};
use serde_json::Value;
use support::samples::{new_labels, new_sample};

/// A state directory with three samples, the first labelled, a message and a model.
fn state() -> (tempfile::TempDir, Vec<Sample>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.samples().set_classes(&["crown".into(), "weed, tall".into()]).unwrap();
    let mut samples: Vec<Sample> = [&b"\xff\xd8 one"[..], b"\xff\xd8 two", b"\xff\xd8 three"]
        .iter()
        .map(|frame| store.samples().add(frame, new_sample("a.jpg")).unwrap())
        .collect();
    samples[0] = store.samples().label(samples[0].id, new_labels(Some(true)), 0.0).unwrap();
    store
        .outbox()
        .push(&Message { topic: "t".into(), payload: vec![1], droppable: false, correlation: None })
        .unwrap();
    store.models().promote(b"a model", SlotRecord::default()).unwrap();
    (dir, samples)
}

fn graftd(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graftd"));
    command.arg("samples").args(args).arg("--state-dir").arg(dir);
    command.args(["--config", "/nowhere/graftd.toml"]).output().unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn frame(dir: &Path, sample: &Sample) -> PathBuf {
    dir.join("blobs").join(&sample.frame[..2]).join(&sample.frame)
}

fn copy(dir: &Path, sample: &Sample) -> PathBuf {
    frame(dir, sample).with_extension(format!("{}.json", sample.id))
}

#[test]
fn samples_are_listed_labelled_and_deleted() {
    let (dir, samples) = state();
    let list = json_lines(&graftd(dir.path(), &["list", "--json"]));
    assert_eq!(list.len(), 3);
    assert_eq!(list[1]["id"], samples[1].id.to_string());
    assert!(Path::new(list[1]["path"].as_str().unwrap()).exists());

    let id = samples[1].id.to_string();
    let said = ["label", &id, "--box", "weed, tall,0.5,0.25,0.1,0.2", "--box", "0,0.5,0.5,0.5,0.5"];
    let output = graftd(dir.path(), &[&said[..], &["--holdout", "false", "--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let labels = &json_lines(&output)[0]["labels"];
    assert_eq!((&labels["boxes"][0]["class"], &labels["boxes"][1]["class"]), (&1.into(), &0.into()));
    assert_eq!(labels["provenance"], "human");
    assert_eq!(json_lines(&graftd(dir.path(), &["list", "--only", "learn", "--json"])).len(), 1);
    assert_eq!(json_lines(&graftd(dir.path(), &["list", "--only", "holdout", "--json"])).len(), 1);

    for (wrong, word) in [
        (&["label", &id, "--box", "pallet,0.5,0.5,0.1,0.1"][..], "weed, tall"),
        (&["label", &id, "--box", "crown,0.99,0.5,0.1,0.1"], "leaves the frame"),
        (&["label", &id, "--box", "crown,0.99"], "CLASS,CX,CY,W,H"),
        (&["label", "7", "--nothing"], "sample id"),
        (&["delete", &id, "01a21161-c1ff-754c-a541-fa7292274f75"], "there is no sample"),
    ] {
        let output = graftd(dir.path(), wrong);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {words}");
        assert!(words.contains(word), "{wrong:?}: {words}");
    }
    assert!(graftd(dir.path(), &["delete", &id]).status.success());
    assert_eq!(json_lines(&graftd(dir.path(), &["list", "--json"])).len(), 2);
    assert!(!frame(dir.path(), &samples[1]).exists());
}

#[test]
fn a_whole_store_has_no_faults() {
    let (dir, _) = state();
    let output = graftd(dir.path(), &["verify", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = &json_lines(&output)[0];
    assert_eq!((&report["samples"], &report["frames"], &report["models"]), (&3.into(), &3.into(), &1.into()));
    assert_eq!(graftd(dir.path().parent().unwrap(), &["verify"]).status.code(), Some(2));
}

#[test]
fn each_kind_of_damage_is_named_by_its_file() {
    type Harm = fn(&Path, &[Sample]) -> PathBuf;
    let harms: [(&str, &str, Harm); 8] = [
        ("a frame's flipped bit", "damaged", |dir, samples| flip(&frame(dir, &samples[1]), 3)),
        ("a copy's flipped bit", "damaged", |dir, samples| flip(&copy(dir, &samples[0]), 200)),
        ("a model's flipped bit", "damaged", |dir, _| flip(&dir.join("models/0000/model.onnx"), 2)),
        ("a slot record's flipped bit", "damaged", |dir, _| flip(&dir.join("models/0000/slot.json"), 30)),
        ("a frame that is gone", "missing", |dir, samples| remove(&frame(dir, &samples[1]))),
        ("a copy that is gone", "missing", |dir, samples| remove(&copy(dir, &samples[1]))),
        ("a frame that nothing names", "orphaned", |dir, _| {
            let name = graftd::store::Samples::frame_name(b"\xff\xd8 four");
            put(&dir.join("blobs").join(&name[..2]).join(name), b"\xff\xd8 four")
        }),
        ("a strange file", "orphaned", |dir, _| put(&dir.join("blobs/00/notes.txt"), b"?")),
    ];
    for (name, kind, harm) in harms {
        let (dir, samples) = state();
        let path = harm(dir.path(), &samples);
        let output = graftd(dir.path(), &["verify", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let report = &json_lines(&output)[0];
        let faults = report["faults"].as_array().unwrap();
        let named = faults
            .iter()
            .any(|fault| Path::new(fault["path"].as_str().unwrap()) == path && fault["kind"] == kind);
        assert!(named, "{name}: {faults:?}");
    }
}

fn flip(path: &Path, bit: usize) -> PathBuf {
    let mut bytes = fs::read(path).unwrap();
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
    path.to_owned()
}

fn remove(path: &Path) -> PathBuf {
    fs::remove_file(path).unwrap();
    path.to_owned()
}

fn put(path: &Path, bytes: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    path.to_owned()
}

#[test]
fn a_database_that_cant_be_opened_is_moved_aside_and_made_anew() {
    for harm in ["db", "conf"] {
        let (dir, samples) = state();
        let harmed = dir.path().join("store").join(harm);
        fs::write(&harmed, [0xa5u8; 4096]).unwrap();

        let output = graftd(dir.path(), &["verify", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{harm}: {}", String::from_utf8_lossy(&output.stderr));

        let output = graftd(dir.path(), &["rebuild", "--json"]);
        assert!(output.status.success(), "{harm}: {}", String::from_utf8_lossy(&output.stderr));
        let rebuilt = &json_lines(&output)[0];
        assert_eq!((&rebuilt["samples"], &rebuilt["holdout"]), (&3.into(), &1.into()));
        let aside = PathBuf::from(rebuilt["aside"].as_str().unwrap());
        assert_eq!(fs::read(aside.join(harm)).unwrap()[..4], [0xa5; 4], "the old one is not as it was");

        assert_eq!(verify(dir.path(), |_| ()).unwrap().faults, []);
        let store = Store::open(dir.path()).unwrap();
        let found: HashSet<_> = store.samples().iter().map(|sample| sample.unwrap().id).collect();
        assert_eq!(found, samples.iter().map(|sample| sample.id).collect());
        assert_eq!(store.samples().classes().unwrap(), ["crown", "weed, tall"]);
    }
}

#[test]
fn the_store_opens_by_itself_where_the_database_does_not() {
    let (dir, samples) = state();
    fs::write(dir.path().join("store/conf"), [0xa5u8; 64]).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.samples().get(samples[0].id).unwrap().labels, samples[0].labels);
    assert_eq!(store.samples().counts().samples, 3);
    let aside = fs::read_dir(dir.path()).unwrap().flatten();
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("store.aside-"));
    assert_eq!(aside.count(), 1);
}

#[test]
fn rebuilding_keeps_messages_and_puts_damaged_copies_right() {
    let (dir, samples) = state();
    flip(&copy(dir.path(), &samples[0]), 500);
    remove(&copy(dir.path(), &samples[2]));
    assert!(graftd(dir.path(), &["rebuild"]).status.success());
    assert_eq!(verify(dir.path(), |_| ()).unwrap().faults, []);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.outbox().len(), 1);
    assert_eq!(store.samples().get(samples[0].id).unwrap().labels, samples[0].labels);
}
