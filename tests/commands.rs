//! What an operator changes from afar: classes, settings; and what the device does for one on the side: measuring a
//! model, writing the samples out.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::{Path, PathBuf};

use graftd::dataset::DataSet;
use graftd::onnx::Model;
use graftd::yolo::export::Export;
use serde_json::{Value, json};
use support::broker::Watcher;
use support::device::{Device, ROOT, is_online};

/// A device that runs, somebody who sends commands, and somebody who hears of each kept frame.
fn device(pictures: [usize; 2], extra: &str) -> (Device, Watcher, Watcher) {
    let mut device = Device::new(pictures[0], pictures[1], extra);
    let [watcher, kept] = [0, 1].map(|_| Watcher::start(&device.broker, ROOT));
    device.start();
    watcher.wait("the daemon", is_online);
    (device, watcher, kept)
}

fn successful(watcher: &Watcher, command: &str, id: &str, arguments: Value) -> Value {
    let answer = watcher.command(ROOT, command, id, arguments);
    assert_eq!(answer["status"], "successful", "{command}: {answer}");
    answer["result"].clone()
}

fn refused(watcher: &Watcher, command: &str, id: &str, arguments: Value) -> String {
    let answer = watcher.command(ROOT, command, id, arguments);
    assert_eq!(answer["status"], "failed", "{command}: {answer}");
    answer["reason"].as_str().unwrap().to_owned()
}

/// Labels every frame as the truth has it, with these names.
fn label_all(device: &Device, watcher: &Watcher, kept: &Watcher, names: [&str; 3]) {
    for _ in 0..device.truth().len() {
        let (topic, mut payload) = device.next_label(kept);
        for labelled in payload["boxes"].as_array_mut().unwrap() {
            labelled["class"] = names[labelled["class"].as_u64().unwrap() as usize].into();
        }
        watcher.publish(&topic, payload.to_string());
        let answer = watcher.settled(&topic);
        assert_eq!(answer["status"], "successful", "{answer}");
    }
}

/// Waits until this is what the current model finds, as the broker has it.
fn model_finds(device: &Device, classes: Value) {
    let newcomer = Watcher::start(&device.broker, ROOT);
    newcomer.wait("the model's classes", |topic, model| {
        topic == format!("{ROOT}/model") && model["classes"] == classes
    });
}

/// The names in a slot's file.
fn in_file(path: &Path) -> Vec<String> {
    Export::new(Model::read(path).unwrap()).unwrap().classes
}

#[test]
fn a_class_is_added_renamed_learnt_measured_and_written_out() {
    let (mut device, watcher, kept) = device([24, 8], "");
    let classes = successful(&watcher, "class", "a", json!({"add": "hen"}));
    assert_eq!(classes["classes"], json!(["crown", "weed", "pallet", "hen"]));
    let classes = successful(&watcher, "class", "r", json!({"rename": "weed", "to": "charlock"}));
    assert_eq!(classes["classes"], json!(["crown", "charlock", "pallet", "hen"]));
    // The model knows no hen yet.
    model_finds(&device, json!(["crown", "charlock", "pallet"]));
    for (id, wrong) in [
        ("n", json!({"add": "weed"})),
        ("m", json!({"add": "hen"})),
        ("o", json!({"rename": "cow", "to": "ox"})),
    ] {
        refused(&watcher, "class", id, wrong);
    }
    label_all(&device, &watcher, &kept, ["crown", "charlock", "hen"]);

    let base = device.path("state/models/current.onnx");
    assert_eq!(in_file(&base), ["crown", "weed", "pallet"]);
    let before = successful(&watcher, "evaluate", "e0", json!({}));
    assert_eq!((&before["slot"], &before["images"]), (&json!(0), &json!(8)));
    let names: Vec<&str> = before["per_class"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["class"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"hen") && !names.contains(&"weed"), "{names:?}");

    let end =
        successful(&watcher, "train", "t", json!({"epochs": 60, "lr": 0.01, "patience": 0, "views": 4}));
    assert_eq!(end["promoted"], true, "{end}");
    assert_eq!(in_file(&base), ["crown", "charlock", "pallet", "hen"]);
    let after = successful(&watcher, "evaluate", "e1", json!({}));
    assert_eq!(after["slot"], 1);
    assert!(after["mAP50_95"].as_f64() > before["mAP50_95"].as_f64(), "{before} {after}");
    // The run measured the same file on the same pictures.
    assert_eq!(after["mAP50_95"], end["after"]["mAP50_95"]);
    assert!(refused(&watcher, "evaluate", "e2", json!({"slot": 7})).contains("0, 1"));

    // The old model is called by today's names too.
    successful(&watcher, "rollback", "b", json!({}));
    model_finds(&device, json!(["crown", "charlock", "pallet"]));

    let first = successful(&watcher, "export", "x1", json!({}));
    let set = DataSet::open(&PathBuf::from(first["folder"].as_str().unwrap()).join("data.yaml")).unwrap();
    assert_eq!(set.classes, ["crown", "charlock", "pallet", "hen"]);
    assert_eq!((set.train.len(), set.val.len(), &first["pictures"]), (24, 8, &json!(32)));
    let second = successful(&watcher, "export", "x2", json!({"format": "coco"}));
    let kept: Vec<PathBuf> =
        std::fs::read_dir(device.path("state/exports")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept, [PathBuf::from(second["folder"].as_str().unwrap())], "the newest alone");
    assert!(kept[0].join("val.json").is_file());

    // All of it is there after a kill.
    device.end("-KILL");
    let leftover = device.path("state/exports/.new-half");
    std::fs::create_dir(&leftover).unwrap();
    device.start();
    watcher.wait("the daemon", is_online);
    let (_, state) = watcher.wait("the state", |topic, _| topic == format!("{ROOT}/state"));
    assert_eq!(state["classes"], json!(["crown", "charlock", "pallet", "hen"]));
    assert!(!leftover.exists());
}

#[test]
fn what_is_set_from_afar_holds_until_it_is_given_back() {
    let (mut device, watcher, _) = device([8, 3], "epochs = 9\n");
    let set = |id: &str, keys: Value| successful(&watcher, "set", id, json!({"keys": keys}));
    let told = set("1", json!({}));
    assert_eq!((&told["changed"], &told["values"]["train.epochs"]), (&json!([]), &json!(9)));
    let told = set("2", json!({"train.epochs": 5, "select.per_hour": 12}));
    assert_eq!(told["set"], json!({"train.epochs": 5, "select.per_hour": 12}));
    assert!(told["changed"].to_string().contains("train.epochs: 9 → 5"), "{told}");

    for (id, keys, word) in [
        ("w1", json!({"train.epochs": 0}), "train.epochs"),
        ("w2", json!({"train.epochs": "many"}), "train.epochs"),
        ("w3", json!({"train.epoch": 1}), "train.epochs"),
        ("w4", json!({"camera.source": "/etc"}), "device's configuration"),
        ("w5", json!({"mqtt.commands": []}), "device's configuration"),
        // All or nothing.
        ("w6", json!({"detect.iou": 0.5, "detect.confidence": 3}), "detect.confidence"),
    ] {
        let reason = refused(&watcher, "set", id, json!({"keys": keys}));
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(set("3", json!({}))["values"]["detect.iou"], told["values"]["detect.iou"]);

    // Through a kill, over the file, and below the environment.
    device.end("-KILL");
    device.environment.push(("GRAFTD_SELECT__PER_HOUR".into(), "77".into()));
    device.start();
    watcher.wait("the daemon", is_online);
    let values = set("4", json!({}))["values"].clone();
    assert_eq!((&values["train.epochs"], &values["select.per_hour"]), (&json!(5), &json!(77)));
    let reason = refused(&watcher, "set", "f", json!({"keys": {"select.per_hour": 3}}));
    assert!(reason.contains("GRAFTD_SELECT__PER_HOUR"), "{reason}");
    let shown = support::graftd()
        .args(["config", "show", "--json", "--config"])
        .arg(device.path("graftd.toml"))
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["keys"]["train.epochs"]["value"], &shown["keys"]["train.epochs"]["from"]),
        (&json!(5), &json!("set"))
    );

    assert!(set("5", json!({"train.epochs": null}))["changed"].to_string().contains("5 → 9"));
    device.end("-TERM");

    // A damaged file keeps nobody from detecting.
    std::fs::write(device.path("state/set.json"), "{").unwrap();
    device.start();
    let (_, state) = watcher.wait("a state that says so", |topic, state| {
        topic == format!("{ROOT}/state") && state["faults"].to_string().contains("set.json")
    });
    assert_eq!(state["camera"], "on");
}

#[test]
fn who_may_not_train_may_not_schedule_either() {
    let (_device, watcher, _) = device([8, 3], "allow_remote = false\n");
    let reason = refused(&watcher, "set", "1", json!({"keys": {"train.when": "00:00-24:00"}}));
    assert!(reason.contains("train.allow_remote"), "{reason}");
    successful(&watcher, "set", "2", json!({"keys": {"detect.confidence": 0.5}}));
}
