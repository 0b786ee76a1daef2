//! `graftd train` through the real program: exports of every family that the project never trained,
//! both runtimes, and a drop-in that stock onnxruntime agrees with.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::{classes, drawn, found, goldens, graftd, stock};

fn train(base: &Path, data: &Path, out: &Path, arguments: &[&str]) -> Output {
    let mut command = graftd();
    command.arg("train").arg("--base").arg(base).arg("--data").arg(data).arg("--out").arg(out);
    command.args(["--json", "--verbose"]).args(arguments).output().unwrap()
}

/// The last line of stdout.
fn last(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(line).unwrap()
}

fn export(name: &str) -> PathBuf {
    goldens("exports").join(name)
}

fn data_for(base: &Path, folder: &Path, train: usize, val: usize) -> PathBuf {
    let classes = classes(base);
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    drawn::data_set(folder, &classes, train, val, 160)
}

#[test]
fn a_strangers_export_learns_a_strangers_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let (base, out) = (export("yolo12n.onnx"), folder.path().join("new.onnx"));
    let data = data_for(&base, folder.path(), 24, 8);
    // The weights of this export are random: the layers before the last have as much to learn.
    let arguments = ["--epochs", "60", "--lr", "0.01", "--lr-before-last", "1", "--patience", "0"];
    let output = train(&base, &data, &out, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome = last(&output);
    assert_eq!(outcome["promoted"], true);
    // The export's weights are random and its backbone stays so: its head alone can't see everything.
    let figure = |when: &str| outcome[when]["mAP50"].as_f64().unwrap();
    assert!(figure("after") > figure("before") + 0.1, "{} to {}", figure("before"), figure("after"));

    // The file says of itself what the run said of it.
    let eval =
        graftd().args(["eval", "--json", "--model"]).arg(&out).arg("--data").arg(&data).output().unwrap();
    let eval: Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert!((eval["mAP50"].as_f64().unwrap() - figure("after")).abs() < 0.02, "{eval}");

    // Stock onnxruntime finds the same boxes in it, and it looks like the base from outside.
    let picture = folder.path().join("images/val/000.png");
    let (theirs, theirs_base) = (stock(&out, &picture), stock(&base, &picture));
    for key in ["inputs", "outputs", "metadata"] {
        assert_eq!(theirs[key], theirs_base[key], "{key}");
    }
    let own = found(&out, &picture);
    let stock = theirs["rows"].as_array().unwrap();
    assert!(!own.is_empty() && own.len() == stock.len(), "{} and {} boxes", own.len(), stock.len());
    for (own, stock) in own.iter().zip(stock) {
        assert_eq!(own["class"], stock[5]);
        for (index, key) in ["x1", "y1", "x2", "y2", "score"].into_iter().enumerate() {
            // graftd clips to the picture.
            let stock = stock[index].as_f64().unwrap();
            let stock = if index < 4 { stock.clamp(0.0, 160.0) } else { stock };
            let away = (own[key].as_f64().unwrap() - stock).abs();
            assert!(away < if index < 4 { 0.02 } else { 1e-4 }, "{key}: {own} and {stock}");
        }
    }
}

#[test]
fn every_supported_family_and_form_trains_in_every_scope() {
    for (name, scope) in [
        ("yolov5nu.onnx", "head"),
        ("yolov8n.onnx", "cls"),
        ("yolov9t.onnx", "head"),
        ("yolo11n-batch4.onnx", "last"),
        ("yolo11n-dynamic.onnx", "head"),
        ("yolo11n-fp16.onnx", "head"),
        ("yolo11n-nms.onnx", "head"),
        ("yolo11n-nosimplify.onnx", "cls"),
        ("yolo11n-opset17.onnx", "last"),
        ("yolov10n.onnx", "cls"),
        ("yolo26n.onnx", "head"),
        ("yolo12n.onnx", "head"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (base, out) = (export(name), folder.path().join("new.onnx"));
        let data = data_for(&base, folder.path(), 5, 2);
        let mut arguments = vec!["--epochs", "2", "--views", "2", "--scope", scope, "--force"];
        if name.contains("dynamic") {
            arguments.extend(["--imgsz", "96"]);
        }
        let output = train(&base, &data, &out, &arguments);
        let code = output.status.code();
        assert!(code == Some(0) || code == Some(3), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let outcome = last(&output);
        assert_eq!(outcome["epochs"], 2, "{name}");
        let read = |path: &Path| std::fs::read(path).unwrap();
        assert_ne!(read(&out), read(&base), "{name}: nothing was trained");
        assert_eq!(classes(&out), classes(&base), "{name}");
    }
}

#[test]
fn tract_trains_to_what_onnx_runtime_trains_to() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 6, 2);
    let losses = |runtime: &str| -> Vec<f64> {
        let out = folder.path().join(runtime);
        let arguments = ["--epochs", "4", "--views", "2", "--force", "--runtime", runtime];
        let output = train(&base, &data, &out, &arguments);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let epochs = events.filter(|event| event["event"] == "epoch");
        epochs
            .map(|epoch| ["box", "cls", "dfl"].map(|part| epoch["loss"][part].as_f64().unwrap()).iter().sum())
            .collect()
    };
    let (ort, tract) = (losses("ort"), losses("tract"));
    assert_eq!((ort.len(), tract.len()), (4, 4));
    for (ort, tract) in ort.iter().zip(&tract) {
        assert!((ort / tract - 1.0).abs() < 2e-3, "{ort} and {tract}");
    }
}

#[test]
fn the_gate_refuses_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 4, 2);
    let out = folder.path().join("out/new.onnx");
    std::fs::create_dir(folder.path().join("out")).unwrap();
    // A rate this small changes nothing that the hold-out sees.
    let output = train(&base, &data, &out, &["--epochs", "1", "--views", "1", "--lr", "1e-12"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(last(&output)["promoted"], false);
    assert_eq!(std::fs::read_dir(out.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn the_same_seed_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolov8n.onnx");
    let data = data_for(&base, folder.path(), 5, 2);
    let model = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        train(
            &base,
            &data,
            &out,
            &["--epochs", "2", "--views", "2", "--force", "--threads", "1", "--seed", seed],
        );
        std::fs::read(out).unwrap()
    };
    let first = model("a.onnx", "3");
    assert_eq!(first, model("b.onnx", "3"));
    assert_ne!(first, model("c.onnx", "4"));
}

#[test]
fn what_is_measured_on_is_not_learnt_from() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolo12n.onnx");
    let data = data_for(&base, folder.path(), 6, 2);
    // Two of the six are in the hold-out too, under another name.
    for index in 0..2 {
        for (kind, ending) in [("images", "png"), ("labels", "txt")] {
            let file =
                |split: &str, name: &str| folder.path().join(format!("{kind}/{split}/{name}.{ending}"));
            std::fs::copy(file("val", &format!("00{index}")), file("train", &format!("00{index}"))).unwrap();
        }
    }
    let out = folder.path().join("new.onnx");
    let output = train(&base, &data, &out, &["--epochs", "1", "--force"]);
    let events = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        events.lines().any(|line| line.contains("started") && line.contains(r#""samples":4"#)),
        "{events}"
    );
    assert!(
        events.contains("2 training pictures are in the hold-out as well; they are not learnt from"),
        "{events}"
    );

    let text = std::fs::read_to_string(&data).unwrap().replace("images/train", "images/val");
    std::fs::write(&data, text).unwrap();
    let output = train(&base, &data, &out, &["--epochs", "1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("keep the two apart"));
}

#[test]
fn a_reader_that_leaves_changes_neither_the_model_nor_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 4, 2);
    let out = folder.path().join("new.onnx");
    let mut command = graftd();
    command.args(["train", "--json", "--force", "--epochs", "1", "--lr", "1e-12", "--base"]).arg(&base);
    command.arg("--data").arg(&data).arg("--out").arg(&out);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(out.is_file());
}

/// The events of a run that say what it chose: what, value, reason.
fn chosen(output: &Output) -> Vec<[String; 3]> {
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let chosen = events.filter(|event| event["event"] == "chosen");
    chosen
        .map(|event| ["what", "value", "reason"].map(|key| event[key].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn auto_chooses_by_labels_time_and_memory_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let base = export("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 12, 2);
    let few = data_for(&base, &folder.path().join("few"), 2, 2);
    let out = folder.path().join("out.onnx");
    let run = |data: &Path, arguments: &[&str]| {
        let common = ["--scope", "auto", "--epochs", "2", "--views", "2", "--force"];
        train(&base, data, &out, &[&common, arguments].concat())
    };
    for (data, arguments, scope, word) in [
        (&data, &[][..], "head", "learns the most"),
        (&few, &[], "last", "boxes are labelled"),
        (&data, &["--max-minutes", "0.00001"], "last", "max_minutes"),
        (&data, &["--max-memory-mb", "100000"], "head", "learns the most"),
    ] {
        let output = run(data, arguments);
        let chosen = chosen(&output);
        assert_eq!(chosen.len(), 1, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let [what, value, reason] = &chosen[0];
        assert_eq!((what.as_str(), value.as_str()), ("scope", scope), "{reason}");
        assert!(reason.contains(word), "{reason}");
        let started = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(started.contains(&format!("\"scope\":\"{scope}\"")), "{started}");
    }
    let output = run(&data, &["--max-memory-mb", "5"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("even scope last") && message.contains("max_memory_mb is 5"), "{message}");
}

#[test]
fn a_learning_rate_is_tried_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (base, out) = (export("yolo11n.onnx"), folder.path().join("out.onnx"));
    let data = data_for(&base, folder.path(), 24, 2);
    let common = ["--lr", "auto", "--scope", "head", "--epochs", "3", "--views", "2", "--force"];
    let output = train(&base, &data, &out, &common);
    let [[what, value, reason]] = &chosen(&output)[..] else {
        panic!("{}", String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(what, "lr");
    // Each candidate's loss is told, and the one with the lowest is taken.
    let (_, losses) = reason.split_once("steps: ").unwrap();
    let mut losses: Vec<(f64, &str)> = losses
        .split(", ")
        .map(|entry| entry.split_once(": ").unwrap())
        .map(|(rate, loss)| (loss.parse().unwrap(), rate))
        .collect();
    assert_eq!(losses.len(), 5, "{reason}");
    losses.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(losses[0].1, value, "{reason}");
    assert!(losses[0].0 < losses[4].0, "{reason}");
}
