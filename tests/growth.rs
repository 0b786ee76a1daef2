//! Classes added, renamed and dropped: every family and form keeps what it knew, and a class that the
//! base never had is learnt, through the real program.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graftd::onnx::Model;
use graftd::runtime::SessionOptions;
use graftd::tensor::Tensor;
use graftd::yolo::export::Export;
use graftd::yolo::grow::{ClassPlan, PlannedClass, verify, with_classes};
use serde_json::Value;
use support::{drawn, found, goldens, graftd, index, python, relative_difference, runtimes, stock};

/// Exports that can be trained, by name; `GRAFTD_MORE_EXPORTS` names a folder with further ones.
fn exports() -> Vec<(String, Export)> {
    let files = index("exports")["files"].as_array().unwrap().clone();
    let mut paths: Vec<PathBuf> =
        files.iter().map(|file| goldens("exports").join(file["file"].as_str().unwrap())).collect();
    if let Some(folder) = std::env::var_os("GRAFTD_MORE_EXPORTS") {
        let more = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(more.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")));
    }
    let read = |path: PathBuf| {
        Some((path.file_stem().unwrap().to_string_lossy().into_owned(), Export::read(&path).ok()?))
    };
    let exports: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(exports.len() >= 12, "only {} exports", exports.len());
    exports
}

fn plan(export: &Export, kept: &[usize], new: usize) -> ClassPlan {
    let old = kept.iter().map(|&from| PlannedClass { name: export.classes[from].clone(), from: Some(from) });
    let new = (0..new).map(|i| PlannedClass { name: format!("new \"{i}\", it's"), from: None });
    ClassPlan::new(old.chain(new).collect(), export.classes.len()).unwrap()
}

fn size(export: &Export) -> (usize, usize) {
    export.input.fixed.unwrap_or((96, 96))
}

/// The file's first output for a picture of noise.
fn run(model: &Model, export: &Export) -> (Vec<usize>, Vec<f32>) {
    let (height, width) = size(export);
    let shape = [export.input.batch.unwrap_or(1), 3, height, width];
    let picture = (0..shape.iter().product()).map(|i: usize| (i * 2_654_435_761 % 1009) as f32 / 1009.0);
    let mut session = runtimes()[0].load(&model.encode(), &SessionOptions { threads: 1 }).unwrap();
    let outputs = session.run(&[&Tensor::new(shape, picture.collect()).into()]).unwrap();
    (outputs[0].shape(), outputs[0].data().to_vec())
}

/// What a new class scores everywhere: sigmoid(ln(5 / classes / cells)).
fn prior(export: &Export, n_classes: usize, anchor: usize) -> f32 {
    let (height, width) = size(export);
    let mut first = 0;
    for level in &export.levels {
        let cells = (height / level.stride) * (width / level.stride);
        if anchor < first + cells {
            let odds = (5.0 / n_classes as f64 / cells as f64).min(0.5);
            return (odds / (1.0 + odds)) as f32;
        }
        first += cells;
    }
    panic!("no anchor {anchor}");
}

/// Compares outputs `[batch, 4 + classes, anchors]`.
fn compare_channels(name: &str, base: &Export, plan: &ClassPlan, old: &[f32], new: &[f32], anchors: usize) {
    let (n_old, n_new) = (base.classes.len(), plan.classes().len());
    let row = |data: &[f32], picture: usize, n: usize, row: usize| {
        data[(picture * (4 + n) + row) * anchors..][..anchors].to_vec()
    };
    for picture in 0..old.len() / (4 + n_old) / anchors {
        for side in 0..4 {
            let (was, is) = (row(old, picture, n_old, side), row(new, picture, n_new, side));
            assert!(relative_difference(&is, &was) < 1e-6, "{name}: boxes differ");
        }
        for (to, class) in plan.classes().iter().enumerate() {
            let is = row(new, picture, n_new, 4 + to);
            match class.from {
                Some(from) => {
                    let was = row(old, picture, n_old, 4 + from);
                    assert!(
                        relative_difference(&is, &was) < 1e-6,
                        "{name}: class {from} is scored otherwise"
                    );
                }
                None => {
                    let tolerance = if base.half { 1e-3 } else { 1e-6 };
                    for (anchor, score) in is.iter().enumerate() {
                        let expected = prior(base, n_new, anchor);
                        assert!((score - expected).abs() < tolerance, "{name}: {score}, not {expected}");
                    }
                }
            }
        }
    }
}

/// Compares rows x1 y1 x2 y2 score class: each sure row of a class that stays must be there again, and
/// nothing else. A row is sure when its score is above every prior, so that no new class is in its way.
fn compare_rows(name: &str, base: &Export, plan: &ClassPlan, old: &[f32], new: &[f32]) {
    let n_new = plan.classes().len();
    let sure = prior(base, n_new, 0).max(prior(base, n_new, last(base))) + 1e-3;
    let rows = |data: &[f32]| -> Vec<[f32; 6]> {
        data.as_chunks::<6>().0.iter().copied().filter(|row| row[4] > sure).collect()
    };
    let (was, mut left) = (rows(old), rows(new));
    assert_eq!(was.len(), left.len(), "{name}");
    for row in was {
        let class = plan.classes().iter().position(|class| class.from == Some(row[5] as usize)).unwrap();
        let same = |other: &[f32; 6]| {
            other[5] as usize == class
                && (other[4] - row[4]).abs() < 1e-3
                && (0..4).all(|side| (other[side] - row[side]).abs() < 0.05)
        };
        let found = left.iter().position(same).unwrap_or_else(|| panic!("{name}: {row:?} is lost"));
        left.swap_remove(found);
    }
}

/// The last anchor, which is of the coarsest level.
fn last(export: &Export) -> usize {
    let (height, width) = size(export);
    export.levels.iter().map(|level| (height / level.stride) * (width / level.stride)).sum::<usize>() - 1
}

#[test]
fn what_stays_is_scored_as_before_in_every_family_and_form() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = &runtimes()[0];
    let options = SessionOptions { threads: 1 };
    for (name, export) in exports() {
        let n = export.classes.len();
        let (before_shape, before) = run(export.model(), &export);
        let all: Vec<usize> = (0..n).collect();
        let turned: Vec<usize> = all.iter().rev().copied().collect();
        let mut cases =
            vec![("grown", all.as_slice(), 2), ("turned", turned.as_slice(), 0), ("both", &turned, 1)];
        if n > 1 {
            cases.extend([("dropped", &all[1..], 0), ("exchanged", &all[1..], 1), ("one", &all[..1], 0)]);
        }
        for (what, kept, new) in cases {
            let name = format!("{name} {what}");
            let plan = plan(&export, kept, new);
            let grown = with_classes(&export, &plan, size(&export)).unwrap_or_else(|e| panic!("{name}: {e}"));
            verify(&export, &grown, &plan, size(&export), &**runtime, &options)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            // The bytes are read as anybody would read them.
            let bytes = grown.model().encode();
            std::fs::write(folder.path().join(format!("{name}.onnx")), &bytes).unwrap();
            let read = Export::new(Model::parse(&bytes).unwrap()).unwrap();
            assert_eq!(read.classes, plan.names(), "{name}");
            let n_new = plan.classes().len();
            let (shape, after) = run(read.model(), &export);
            if before_shape[1] == 4 + n {
                assert_eq!(shape, [before_shape[0], 4 + n_new, before_shape[2]], "{name}");
                compare_channels(&name, &export, &plan, &before, &after, shape[2]);
            } else {
                assert_eq!(shape, before_shape, "{name}");
                // Suppression sees what a dropped class no longer hides; and it holds classes apart by
                // shifting boxes by their number, which boxes that reach out of the picture feel.
                if kept == all {
                    compare_rows(&name, &export, &plan, &before, &after);
                }
            }
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_onnx.py");
    let output = Command::new(python()).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn export(name: &str) -> PathBuf {
    goldens("exports").join(name)
}

fn train(base: &Path, data: &Path, out: &Path, arguments: &[&str]) -> Output {
    let mut command = graftd();
    command.arg("train").arg("--base").arg(base).arg("--data").arg(data).arg("--out").arg(out);
    command.args(["--json", "--verbose"]).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What stock onnxruntime says of a model and a picture; names are read with Python's `literal_eval`.
#[test]
fn a_class_that_the_base_never_had_is_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let (base, out) = (export("yolo12n.onnx"), folder.path().join("new.onnx"));
    let known = Export::read(&base).unwrap().classes;
    // The order of the data is its own; the last class is new.
    let data = drawn::data_set(folder.path(), &[&known[1], "hen's egg", &known[0]], 24, 8, 160);
    // The weights of this export are random: the layers before the last have as much to learn.
    let arguments = ["--epochs", "60", "--lr", "0.01", "--lr-before-last", "1", "--patience", "0"];
    let output = train(&base, &data, &out, &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(outcome["promoted"], true);
    let of_class = |when: &str| {
        let classes = outcome[when]["per_class"].as_array().unwrap();
        classes.iter().find(|class| class["class"] == "hen's egg").unwrap()["AP50"].as_f64().unwrap()
    };
    let (before, after) = (of_class("before"), of_class("after"));
    println!("AP50 of the new class: {before} to {after}");
    assert!(before < 0.05 && after > before + 0.15, "{before} to {after}");

    let read = Export::read(&out).unwrap();
    assert_eq!(read.classes[..3], known[..], "known classes keep their places");
    assert_eq!(read.classes[3..], ["hen's egg"]);

    // Stock onnxruntime finds the same boxes of the same classes in it.
    let picture = folder.path().join("images/val/000.png");
    let theirs = stock(&out, &picture);
    let rows = theirs["rows"].as_array().unwrap();
    let own = found(&out, &picture);
    assert!(!own.is_empty() && own.len() == rows.len(), "{} and {} boxes", own.len(), rows.len());
    for (own, row) in own.iter().zip(rows) {
        assert_eq!(own["class"], row[5]);
        assert!((own["score"].as_f64().unwrap() - row[4].as_f64().unwrap()).abs() < 1e-4);
    }
    let all = |value: &Value| value["outputs"][0][1].clone();
    assert_eq!(all(&theirs), serde_json::json!([1, 8, 525]));
}

#[test]
fn classes_are_renamed_dropped_and_added_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(folder.path(), &["dandelion", "hen"], 5, 2, 96);
    for (base, scope) in
        [("yolo11n-nms.onnx", "head"), ("yolo11n-fp16.onnx", "cls"), ("yolo11n-dynamic.onnx", "last")]
    {
        let (base, out) = (export(base), folder.path().join("new.onnx"));
        let mut arguments = vec!["--rename", "weed=dandelion", "--drop", "crown", "--force", "--epochs", "2"];
        arguments.extend(["--views", "2", "--scope", scope]);
        if scope == "last" {
            arguments.extend(["--imgsz", "96"]);
        }
        let output = train(&base, &data, &out, &arguments);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
        assert_eq!(Export::read(&out).unwrap().classes, ["dandelion", "pallet", "hen"]);
    }
}

#[test]
fn a_change_that_makes_no_sense_stops_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolo11n.onnx");
    for (classes, arguments, word) in [
        (["crown", "Weed"], vec![], "did you mean \"weed\""),
        (["crown", "weed"], vec!["--drop", "weed"], "boxes are of it"),
        (["crown", "weed"], vec!["--rename", "wood=tree"], "has no class \"wood\""),
        (["crown", "weed"], vec!["--rename", "wood"], "OLD=NEW"),
        (["crown", "weed"], vec!["--new-class", "hen"], "no label is of that class"),
    ] {
        let data = drawn::data_set(&folder.path().join(arguments.join("")), &classes, 4, 2, 160);
        let out = folder.path().join("new.onnx");
        let output = train(&base, &data, &out, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && !out.exists(), "{arguments:?}");
    }
}
