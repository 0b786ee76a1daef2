//! Bad input through the real program: exit code 2, one line that says what to do, nothing left behind.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use graftd::onnx::Model;
use graftd::onnx::proto::NodeProto;
use support::{drawn, goldens, graftd};

const CLASSES: [&str; 3] = ["crown", "weed", "pallet"];

/// Runs the command: code 2, and a last line of stderr that holds all these words.
#[track_caller]
fn refused(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{command:?}: {message}");
    let line = message.lines().last().unwrap_or_default();
    assert!(line.starts_with("graftd: "), "{message}");
    for word in words {
        assert!(line.contains(word), "{command:?}: no {word:?} in {line:?}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

fn export(name: &str) -> String {
    goldens("exports").join(name).to_string_lossy().into_owned()
}

fn train(data: &Path, out: &Path) -> Command {
    let mut command = graftd();
    command
        .args(["train", "--epochs", "1", "--base", &export("yolo11n.onnx"), "--data"])
        .arg(data)
        .arg("--out")
        .arg(out);
    command
}

/// Every command that takes a model refuses the file, and `train` writes nothing.
#[track_caller]
fn no_model(file: &Path, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(folder.path(), &CLASSES, 2, 1, 160);
    let out = folder.path().join("out.onnx");
    refused(graftd().args(["eval", "--model"]).arg(file).arg("--data").arg(&data), words);
    refused(
        graftd().args(["detect", "--model"]).arg(file).arg(folder.path().join("images/val/000.png")),
        words,
    );
    refused(
        graftd().arg("train").arg("--base").arg(file).arg("--data").arg(&data).arg("--out").arg(&out),
        words,
    );
    assert!(!out.exists());
}

#[test]
fn what_is_no_onnx_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    for bytes in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", &[0xff; 5000]] {
        fs::write(&file, bytes).unwrap();
        no_model(&file, &["model.onnx", "ONNX"]);
    }
    no_model(&folder.path().join("missing.onnx"), &["missing.onnx"]);
    no_model(folder.path(), &[]);
}

#[test]
fn a_truncated_onnx_file() {
    let whole = fs::read(export("yolo11n.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    for length in [10, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        refused(graftd().arg("inspect").arg(&file), &["model.onnx", "ONNX"]);
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    no_model(&file, &["model.onnx", "ONNX"]);
}

#[test]
fn exports_that_are_no_detector() {
    for (name, word) in [
        ("not-a-yolo.onnx", "YOLO"),
        ("yolo11n-seg.onnx", "seg"),
        ("yolo11n-pose.onnx", "pose"),
        ("yolo11n-cls.onnx", "class"),
        ("yolo11n-obb.onnx", "obb"),
    ] {
        no_model(Path::new(&export(name)), &[name, word]);
        // `inspect` answers what the file is; that it can't be trained is the answer.
        let output = graftd().args(["inspect", "--json"]).arg(export(name)).output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["supported"], false, "{name}");
        assert!(!value["reason"].as_str().unwrap().is_empty(), "{name}");
    }
}

/// A copy of an export, changed, in a folder.
fn changed(folder: &Path, change: impl FnOnce(&mut Model)) -> PathBuf {
    let mut model = Model::read(Path::new(&export("yolo11n.onnx"))).unwrap();
    change(&mut model);
    let path = folder.join("changed.onnx");
    fs::write(&path, model.encode()).unwrap();
    path
}

/// Index of a head's convolution whose kernel has this name.
fn head_conv(model: &Model, kernel: &str) -> usize {
    let reads = |node: &NodeProto| node.op_type() == "Conv" && node.input[1].contains(kernel);
    model.graph().node.iter().position(reads).unwrap()
}

#[test]
fn exports_that_contradict_themselves() {
    let folder = tempfile::tempdir().unwrap();
    for stride in ["0", "3", "2"] {
        no_model(&changed(folder.path(), |model| model.set_metadata("stride", stride)), &["stride"]);
    }
    // A stride that could be, and is not.
    let wrong = changed(folder.path(), |model| model.set_metadata("stride", "16"));
    no_model(&wrong, &["stride 16", "[8, 16, 32]", "metadata"]);
    // A level that no head has is none of the head's, and nothing is made room for.
    let far = changed(folder.path(), |model| {
        let node = head_conv(model, "cv2.0.0");
        let name = model.graph().node[node].input[1].clone();
        let huge = name.replace("cv2.0.", "cv2.1000000000000.");
        let graph = model.graph_mut();
        graph.node[node].input[1].clone_from(&huge);
        let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name() == name).unwrap();
        tensor.name = Some(huge);
    });
    let output = graftd().args(["inspect", "--json"]).arg(far).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["head"]["levels"].as_array().map(Vec::len), Some(3));
    no_model(
        &changed(folder.path(), |model| {
            let node = head_conv(model, "cv2.0.0");
            let graph = model.graph_mut();
            graph.node[node].input[2] = String::new();
            let silent = NodeProto {
                op_type: Some("Identity".into()),
                input: vec![String::new()],
                output: vec![String::new()],
                ..NodeProto::default()
            };
            graph.node.insert(0, silent);
            graph.node[node + 1].output.clear();
        }),
        &["changed.onnx"],
    );
    no_model(
        &changed(folder.path(), |model| {
            let input = model.graph_mut().input[0].r#type.as_mut().unwrap();
            input.tensor_type.as_mut().unwrap().shape.as_mut().unwrap().dim[2].dim_value = Some(1 << 20);
        }),
        &["1048576"],
    );
}

#[test]
fn labels_that_are_wrong_are_named_with_file_and_line() {
    for (row, word) in [
        ("3 0.5 0.5 0.1 0.1", "class 3"),
        ("-1 0.5 0.5 0.1 0.1", "class"),
        ("0 NaN 0.5 0.1 0.1", "NaN"),
        ("0 -0.5 0.5 0.1 0.1", "-0.5"),
        ("0 0.5 1.5 0.1 0.1", "1.5"),
        ("0 0.5 0.5 0.1", "4"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6"),
        ("0 0.5 0.5 0 0.1", "0"),
        ("tree 0.5 0.5 0.1 0.1", "tree"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = drawn::data_set(folder.path(), &CLASSES, 3, 1, 160);
        fs::write(folder.path().join("labels/train/001.txt"), format!("0 0.5 0.5 0.1 0.1\n{row}\n")).unwrap();
        let out = folder.path().join("out.onnx");
        refused(&mut train(&data, &out), &["001.txt:2", word]);
        assert!(!out.exists());
    }
}

#[test]
fn a_picture_that_does_not_decode() {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(folder.path(), &CLASSES, 3, 1, 160);
    let picture = folder.path().join("images/train/001.png");
    let whole = fs::read(&picture).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"no picture", b""] {
        fs::write(&picture, bytes).unwrap();
        let out = folder.path().join("out.onnx");
        refused(&mut train(&data, &out), &["001.png", "picture"]);
        refused(graftd().args(["detect", "--model", &export("yolo11n.onnx")]).arg(&picture), &["001.png"]);
        assert!(!out.exists());
    }
}

#[test]
fn data_sets_without_anything_to_learn_or_to_measure() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx");
    let data = drawn::data_set(&folder.path().join("empty"), &CLASSES, 0, 0, 160);
    refused(&mut train(&data, &out), &["data.yaml"]);
    let data = drawn::data_set(&folder.path().join("no-boxes"), &CLASSES, 2, 2, 160);
    for index in 0..2 {
        fs::write(folder.path().join(format!("no-boxes/labels/val/{index:03}.txt")), "").unwrap();
    }
    refused(&mut train(&data, &out), &["data.yaml", "box"]);
    refused(graftd().args(["eval", "--model", &export("yolo11n.onnx"), "--data"]).arg(&data), &["box"]);
    refused(&mut train(&folder.path().join("missing.yaml"), &out), &["missing.yaml"]);
    fs::write(folder.path().join("bad.yaml"), "names: [a\n").unwrap();
    refused(&mut train(&folder.path().join("bad.yaml"), &out), &["bad.yaml"]);
    fs::write(folder.path().join("bad.yaml"), "names: [a]\ncovers: [b]\n").unwrap();
    refused(&mut train(&folder.path().join("bad.yaml"), &out), &["bad.yaml", "covers has \"b\""]);
    assert!(!out.exists());
}

#[test]
fn places_that_cant_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(folder.path(), &CLASSES, 2, 1, 160);
    refused(&mut train(&data, &folder.path().join("no/such/folder/out.onnx")), &["no/such/folder", "--out"]);
    refused(&mut train(&data, folder.path()), &["folder", "file"]);
    // Where a file stands no state directory can be made; root may write everywhere else.
    let config = folder.path().join("graftd.toml");
    let base = export("yolo11n.onnx");
    for state in ["data.yaml/state", "/proc/state"] {
        fs::write(&config, format!("state_dir = {state:?}\n[model]\nbase = {base:?}\n")).unwrap();
        refused(graftd().arg("run").arg("--config").arg(&config), &["state", "--state-dir"]);
    }
}

#[test]
fn configurations_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("graftd.toml");
    for (text, words) in [
        ("device = 7", &["graftd.toml:1:"][..]),
        ("device = \"a/b\"", &["device"]),
        ("\n[mqtt]\nbrokre = \"mqtt://x\"", &["graftd.toml:3:", "brokre"]),
        ("[mqtt]\nbroker = \"http://x\"", &["graftd.toml:2:", "mqtt://"]),
        ("[camera]\nsource = \"ftp://cam\"", &["graftd.toml:", "ftp://cam", "/dev/video0"]),
        ("[camera]\nsource = \"test\"\nfolder = \"x\"", &["camera.folder", "remove this"]),
        ("[camera]\nfps = 0", &["camera.fps"]),
        ("[model]\nbase = \"nowhere.onnx\"", &["nowhere.onnx"]),
        ("[mqtt]\npassword_file = \"nowhere\"", &["nowhere", "password"]),
        ("[runtime]\nlibrary = \"nowhere.so\"", &["nowhere.so"]),
    ] {
        let base = export("yolo11n.onnx");
        let mut text = text.to_owned();
        if !text.contains("[model]") {
            text += &format!("\n[model]\nbase = {base:?}\n");
        }
        // A key of the root must stand before the tables.
        let text = format!("state_dir = \"state\"\n{text}");
        let text = if text.contains("device") || text.contains("\n\n") {
            text.replacen("state_dir = \"state\"\n", "", 1)
        } else {
            text
        };
        fs::write(&config, text).unwrap();
        let mut words = words.to_vec();
        if fs::read_to_string(&config).unwrap().starts_with("state_dir") {
            words.retain(|word| !word.ends_with(':'));
        }
        let state = folder.path().join("state");
        refused(graftd().arg("run").arg("--config").arg(&config).arg("--state-dir").arg(&state), &words);
        assert!(!state.join("models/current.onnx").exists(), "{words:?}");
    }
    refused(
        graftd().args(["run", "--config"]).arg(folder.path().join("missing.toml")),
        &["missing.toml", "--config"],
    );
}

#[test]
fn usage_that_is_wrong() {
    for arguments in
        [&["fly"][..], &["train"], &["eval", "--model", "x"], &["detect", "--conf", "2", "--model", "x", "y"]]
    {
        assert_eq!(graftd().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(folder.path(), &CLASSES, 2, 1, 160);
    let out = folder.path().join("out.onnx");
    for (option, value) in [
        ("--epochs", "0"),
        ("--batch", "0"),
        ("--lr", "-1"),
        ("--lr", "nan"),
        ("--views", "0"),
        ("--views", "65"),
        ("--batch", "257"),
        ("--imgsz", "33"),
        ("--scope", "neck"),
    ] {
        let output = train(&data, &out).args([option, value]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        // `--epochs` is there already: clap says that it can't be given twice.
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {message}");
    }
    assert!(!out.exists());
}

#[test]
fn a_missing_onnx_runtime_is_said_and_gone_without() {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn::data_set(folder.path(), &CLASSES, 1, 2, 160);
    let program = folder.path().join("graftd");
    fs::copy(env!("CARGO_BIN_EXE_graftd"), &program).unwrap();
    let eval = |runtime: &str| {
        let mut command = graftd();
        // Away from the checkout's lib/, so that there is none to be found.
        command.current_dir(folder.path()).args([
            "eval",
            "--json",
            "--runtime",
            runtime,
            "--model",
            &export("yolo11n.onnx"),
            "--data",
        ]);
        let mut moved = Command::new(&program);
        moved.current_dir(folder.path()).args(command.get_args()).arg(&data);
        moved.env_remove("GRAFTD_ORT_LIB").env_remove("ORT_DYLIB_PATH");
        moved
    };
    // Another test that is just starting a process may still have the copy open.
    let output = loop {
        match eval("auto").output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.unwrap(),
        }
    };
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    assert!(message.contains("libonnxruntime") && message.contains("tract"), "{message}");
    refused(&mut eval("ort"), &["libonnxruntime"]);
    refused(
        graftd()
            .args(["eval", "--ort-lib", "nowhere.so", "--model", &export("yolo11n.onnx"), "--data"])
            .arg(&data),
        &["nowhere.so"],
    );
}
