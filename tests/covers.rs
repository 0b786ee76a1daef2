//! What labels say that they cover reaches training: from a data.yaml, and through mosaics.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::{Path, PathBuf};

use graftd::dataset::{DataSet, Example};
use graftd::detect::Detector;
use graftd::runtime::{self, RuntimeChoice, RuntimeKind, SessionOptions};
use graftd::train::{Control, Rate, TrainOptions, TrainingSet, fine_tune};
use support::{classes, drawn, goldens, graftd};

fn base() -> PathBuf {
    goldens("exports").join("yolo11n.onnx")
}

/// Pictures on which nobody has labelled the third class of the base's, and its classes.
fn without_the_third(folder: &Path, train: usize, val: usize) -> (PathBuf, Vec<String>) {
    let classes = classes(&base());
    let names: Vec<&str> = classes.iter().map(String::as_str).collect();
    let yaml = drawn::data_set(folder, &names, train, val, 160);
    let mut gone = 0;
    for split in ["train", "val"] {
        for entry in std::fs::read_dir(folder.join("labels").join(split)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let kept: Vec<&str> = text.lines().filter(|row| !row.starts_with("2 ")).collect();
            gone += text.lines().count() - kept.len();
            std::fs::write(&path, kept.join("\n")).unwrap();
        }
    }
    assert!(classes.len() > 2 && gone > 0);
    (yaml, classes)
}

#[test]
fn a_class_without_a_box_is_background_where_data_yaml_covers_it() {
    let folder = tempfile::tempdir().unwrap();
    let (yaml, classes) = without_the_third(folder.path(), 5, 2);
    let text = std::fs::read_to_string(&yaml).unwrap();
    let model = |covers: Option<&[String]>, distill: &str| {
        let covers = covers.map_or(String::new(), |names| format!("covers: {names:?}\n"));
        std::fs::write(&yaml, format!("{text}{covers}")).unwrap();
        let out = folder.path().join("out.onnx");
        let mut command = graftd();
        command.arg("train").arg("--base").arg(base()).arg("--data").arg(&yaml).arg("--out").arg(&out);
        command.args(["--epochs", "2", "--views", "2", "--threads", "1", "--lr", "0.001", "--force"]);
        let output = command.args(["--distill", distill]).output().unwrap();
        assert!(out.exists(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(&out).unwrap();
        std::fs::remove_file(&out).unwrap();
        bytes
    };
    let silent = model(None, "auto");
    assert!(silent == model(Some(&classes[..2]), "auto"), "no box has it, so it was not looked for");
    let all = model(Some(&classes), "auto");
    assert!(silent != all, "looked for and not found is background");
    assert!(all == model(None, "off"), "as where all that is not labelled is background");
}

#[test]
fn mosaics_teach_what_all_of_their_pictures_cover() {
    let folder = tempfile::tempdir().unwrap();
    let (yaml, classes) = without_the_third(folder.path(), 4, 2);
    let data = DataSet::open(&yaml).unwrap();
    let runtime = runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None }).unwrap();
    // In the first epoch the first and third sample are seen plain, the others as mosaics of all four.
    let options = TrainOptions {
        epochs: 1,
        views: 2,
        mosaic: 1.0,
        lr: Rate::Fixed(0.001),
        threads: 1,
        ..TrainOptions::default()
    };
    let model = |whole: [bool; 4]| {
        let mut train = data.train.clone();
        for (example, whole) in train.iter_mut().zip(whole) {
            example.covers = Some(classes[..if whole { classes.len() } else { 2 }].to_vec());
        }
        let set = TrainingSet { classes: data.classes.clone(), train, holdout: data.val.clone() };
        let cache = folder.path().join("cache");
        let outcome =
            fine_tune(&base(), &set, &options, &*runtime, &cache, &mut |_| {}, &Control::new()).unwrap();
        graftd::train::forget_checkpoint(&cache).unwrap();
        outcome.model
    };
    let in_part = model([false; 4]);
    assert!(in_part == model([false, true, false, true]), "a mosaic covers more than one of its pictures");
    assert!(in_part != model([true; 4]));
}

#[test]
fn finds_of_what_nobody_looked_for_count_neither_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pictures = DataSet::open(&root.join("demo/treecrowns/data.yaml")).unwrap().val;
    pictures.truncate(2);
    let runtime = runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None }).unwrap();
    let options = SessionOptions { threads: 1 };
    let mut detector = Detector::open(&root.join("models/base.onnx"), None, &*runtime, &options).unwrap();
    let mut measured = |examples: &[Example]| detector.evaluate(examples, |_| {}).unwrap().map50.unwrap();
    let first = measured(&pictures[..1]);
    pictures[1].labels.clear();
    assert!(measured(&pictures) < first, "the base finds trees on it");
    pictures[1].covers = Some(Vec::new());
    assert_eq!(measured(&pictures), first);
}
