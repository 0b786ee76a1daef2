//! `graftd import` and `graftd export` through the real program, there and back.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graftd::label::{LabelBox, Provenance};
use graftd::store::{NewLabels, Sample, Store};
use serde_json::Value;
use support::samples::new_labels;

fn graftd(state: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graftd"));
    command.args(args).arg("--state-dir").arg(state).args(["--config", "/nowhere/graftd.toml", "--json"]);
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/treecrowns")
}

fn new_state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    dir
}

/// What of a sample must survive: frame, boxes, who says so, whether held out, what is covered, source.
type Content = (String, Vec<LabelBox>, Provenance, bool, Option<Vec<u32>>, String);

/// All of them, by frame, so that ids may differ.
fn content(state: &Path) -> Vec<Content> {
    let store = Store::open(state).unwrap();
    let all = store.samples().iter().map(Result::unwrap).map(|sample: Sample| {
        let labels = sample.labels.unwrap();
        (sample.frame, labels.boxes, labels.provenance, labels.holdout, labels.covers, sample.source)
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn the_demo_goes_in_out_and_in_again_and_twice_changes_nothing() {
    let state = new_state();
    let yaml = demo().join("data.yaml");
    let imported = json(&graftd(state.path(), &["import", yaml.to_str().unwrap()]));
    assert_eq!((&imported["added"], &imported["new_classes"][0]), (&36.into(), &"tree".into()));
    let counts = Store::open(state.path()).unwrap().samples().counts();
    assert_eq!((counts.labelled, counts.holdout), (30, 6));
    let before = content(state.path());

    let again = json(&graftd(state.path(), &["import", yaml.to_str().unwrap()]));
    assert_eq!((&again["added"], &again["unchanged"]), (&0.into(), &36.into()));
    assert_eq!(content(state.path()), before);

    // A person's word, and what it covers, go along.
    {
        let store = Store::open(state.path()).unwrap();
        let first = store.samples().iter().next().unwrap().unwrap();
        let said = NewLabels { covers: Some(vec![0]), ..new_labels(None) };
        store.samples().label(first.id, said, 0.0).unwrap();
    }
    let before = content(state.path());
    for format in ["yolo", "coco"] {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("new");
        let output = graftd(state.path(), &["export", folder.to_str().unwrap(), "--format", format]);
        assert_eq!(json(&output)["pictures"], 36, "{format}");
        let other = new_state();
        let files = match format {
            "yolo" => vec!["data.yaml"],
            _ => vec!["train.json", "val.json"],
        };
        for file in &files {
            let output = graftd(other.path(), &["import", folder.join(file).to_str().unwrap()]);
            assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
            // The same into the store that it came from changes nothing.
            let back = json(&graftd(state.path(), &["import", folder.join(file).to_str().unwrap()]));
            assert_eq!((&back["added"], &back["labelled"]), (&0.into(), &0.into()), "{format}");
        }
        assert_eq!(content(state.path()), before, "{format}");
        let there = content(other.path());
        assert_eq!(there.len(), before.len());
        for (a, b) in there.iter().zip(&before) {
            assert_eq!((&a.0, a.2, a.3, &a.4, &a.5), (&b.0, b.2, b.3, &b.4, &b.5), "{format}");
            let near = |a: &LabelBox, b: &LabelBox| {
                let pairs = [(a.cx, b.cx), (a.cy, b.cy), (a.w, b.w), (a.h, b.h)];
                a.class == b.class && pairs.iter().all(|(a, b)| (a - b).abs() <= 1e-6)
            };
            assert!(a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| near(a, b)), "{format}");
        }
    }
}

#[test]
fn what_cant_be_read_is_listed_with_its_file_and_the_rest_goes_in() {
    let state = new_state();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for kind in ["images", "labels"] {
        fs::create_dir(root.join(kind)).unwrap();
    }
    let tile = fs::read_dir(demo().join("images/train")).unwrap().flatten().next().unwrap().path();
    fs::copy(&tile, root.join("images/whole.jpg")).unwrap();
    let half = fs::read(&tile).unwrap();
    fs::write(root.join("images/half.jpg"), &half[..half.len() / 3]).unwrap();
    fs::write(root.join("images/none.png"), b"").unwrap();
    fs::write(root.join("images/wrong.jpg"), [&half[..], b"x"].concat()).unwrap();
    fs::write(root.join("labels/whole.txt"), "0 0.5 0.5 0.1 0.1\n").unwrap();
    fs::write(root.join("labels/wrong.txt"), "0 0.5 0.5 0.1 0.1\n\n5 0.5 0.5 0.1 0.1\n").unwrap();
    fs::write(root.join("data.yaml"), "train: images\nnames: [hen]\n").unwrap();
    let output = graftd(state.path(), &["import", root.join("data.yaml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let imported = json(&output);
    assert_eq!(imported["added"], 1);
    let faults = imported["faults"].as_array().unwrap();
    let fault = |name: &str| {
        faults
            .iter()
            .find(|fault| fault["path"].as_str().unwrap().ends_with(name))
            .unwrap_or_else(|| panic!("{name} is not among {faults:?}"))
    };
    fault("half.jpg");
    fault("none.png");
    assert_eq!(fault("wrong.txt")["line"], 3);
    assert_eq!(graftd(state.path(), &["import", "/nowhere/data.yaml"]).status.code(), Some(2));
}

#[test]
fn a_persons_labels_stay_as_they_are() {
    let state = new_state();
    let yaml = demo().join("data.yaml");
    graftd(state.path(), &["import", yaml.to_str().unwrap()]);
    let store = Store::open(state.path()).unwrap();
    let first = store.samples().iter().next().unwrap().unwrap();
    let said = store.samples().label(first.id, new_labels(None), 0.0).unwrap();
    drop(store);
    let again = json(&graftd(state.path(), &["import", yaml.to_str().unwrap()]));
    assert_eq!((&again["kept"], &again["unchanged"]), (&1.into(), &35.into()));
    let store = Store::open(state.path()).unwrap();
    assert_eq!(store.samples().get(first.id).unwrap(), said);
}
