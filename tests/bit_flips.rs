//! A bit flips in any of the store's files: the store opens, no human label is lost, and what can't be put
//! right is named. `GRAFTD_FLIPS` says how many.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use graftd::store::{Message, Sample, SampleId, Samples, SlotRecord, Store, StoreError, verify};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::ledger;
use support::samples::{new_labels, new_sample};

type IsOne = fn(&str) -> bool;

/// Each kind of file that the store has, and how a path is told to be one.
const KINDS: [(&str, IsOne); 7] = [
    ("frame", |path| path.starts_with("blobs/") && path.ends_with(".jpg")),
    ("copy", |path| path.starts_with("blobs/") && path.ends_with(".json")),
    ("database", |path| path == "store/db"),
    ("database's other files", |path| path.starts_with("store/") && path != "store/db"),
    ("model", |path| path.ends_with("/model.onnx")),
    ("slot record", |path| path.ends_with("/slot.json")),
    ("number of the last change", |path| path == "changes"),
];

/// A state with twelve samples, half of them labelled, and two models.
fn state(dir: &Path) -> BTreeMap<SampleId, Sample> {
    let store = Store::open_within(dir, &ledger::limits()).unwrap();
    let mut samples = BTreeMap::new();
    store.samples().set_classes(&["crown".into()]).unwrap();
    for round in 0..12 {
        let frame = [&b"\xff\xd8"[..], &ledger::frame(round)].concat();
        let mut sample = store.samples().add(&frame, new_sample("camera")).unwrap();
        if round % 2 == 0 {
            sample = store.samples().label(sample.id, new_labels(None), 0.3).unwrap();
        }
        samples.insert(sample.id, sample);
        let message =
            Message { topic: round.to_string(), payload: vec![7; 50], droppable: false, correlation: None };
        store.outbox().push(&message).unwrap();
    }
    store.models().promote(&ledger::model(1), SlotRecord::default()).unwrap();
    store.models().promote(&ledger::model(2), SlotRecord::default()).unwrap();
    samples
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// What went wrong after one flip; and whether messages were lost, which have no copy.
fn after_flip(whole: &Path, samples: &BTreeMap<SampleId, Sample>, flip: u64) -> (Vec<String>, bool) {
    let mut random = ChaCha8Rng::seed_from_u64(flip);
    let folder = ledger::folder();
    let dir = folder.path().join("state");
    assert!(Command::new("cp").arg("-a").args([whole, &dir]).status().unwrap().success());
    let (kind, is_one) = KINDS[flip as usize % KINDS.len()];
    let all = files(&dir);
    let name = |path: &PathBuf| path.strip_prefix(&dir).unwrap().to_string_lossy().into_owned();
    let of_kind: Vec<&PathBuf> =
        all.iter().filter(|path| is_one(&name(path)) && fs::metadata(path).unwrap().len() > 0).collect();
    let path = of_kind[random.random_range(0..of_kind.len())];
    let mut bytes = fs::read(path).unwrap();
    let bit = random.random_range(0..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();

    let mut wrong = Vec::new();
    let mut must = |is_so: bool, what: String| {
        if !is_so {
            wrong.push(format!("flip {flip}, bit {bit} of {}: {what}", name(path)));
        }
    };
    let report = verify(&dir, |_| ()).unwrap();
    if matches!(kind, "frame" | "copy" | "model" | "slot record") {
        // A blank in JSON may become another one, which means the same.
        let still_the_same = kind == "copy" || kind == "slot record";
        let named = report.faults.iter().any(|fault| fault.path == *path);
        must(
            named || (still_the_same && report.faults.is_empty()),
            format!("not named: {:?}", report.faults),
        );
    }
    let store = match Store::open_within(&dir, &ledger::limits()) {
        Ok(store) => store,
        Err(error) => {
            must(false, format!("the store does not open: {error}"));
            return (wrong, false);
        }
    };
    // As the daemon does at its start.
    if let Err(error) = store.samples().make_whole() {
        must(false, format!("it is not made whole: {error}"));
    }
    for (id, sample) in samples {
        match store.samples().get(*id) {
            Ok(found) => must(found.labels == sample.labels, format!("the labels of {id}")),
            Err(error) => must(false, error.to_string()),
        }
    }
    if kind != "frame" {
        for sample in samples.values() {
            let bytes = fs::read(store.samples().frame_path(sample)).unwrap_or_default();
            must(Samples::frame_name(&bytes) == sample.frame, format!("the frame of {}", sample.id));
        }
    }
    match store.models().current() {
        Ok(_) => {}
        Err(StoreError::Damaged(words)) => must(kind == "slot record" && words.contains("slot.json"), words),
        Err(error) => must(false, error.to_string()),
    }
    must(store.samples().classes().unwrap() == ["crown"], "the classes".into());
    must(
        store.samples().add(b"\xff\xd8 new", new_sample("camera")).is_ok(),
        "nothing is kept any more".into(),
    );
    (wrong, store.outbox().len() < 12)
}

#[test]
fn no_label_is_lost_to_a_flipped_bit() {
    let flips = std::env::var("GRAFTD_FLIPS").map_or(70, |flips| flips.parse().unwrap());
    let folder = ledger::folder();
    let whole = folder.path().join("whole");
    fs::create_dir(&whole).unwrap();
    let samples = state(&whole);
    let (mut wrong, mut without_messages) = (Vec::new(), 0);
    for flip in 0..flips {
        let (found, lost) = after_flip(&whole, &samples, flip);
        wrong.extend(found);
        without_messages += u32::from(lost);
    }
    println!("{flips} flips: {} faults; messages were lost in {without_messages}", wrong.len());
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
