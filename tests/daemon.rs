//! The daemon, as its users meet it: a process, a real broker, kills.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::Path;

use graftd::store::Store;
use serde_json::{Value, json};
use support::broker::{Mosquitto, Watcher, wait_until};
use support::device::{Device, ROOT, is_online};
use support::graftd;

#[test]
fn frames_are_kept_labels_taken_a_model_trained_promoted_and_rolled_back() {
    let mut device = Device::new(24, 8, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    device.label_all(&watcher);
    let before = std::fs::read(device.path("state/models/current.onnx")).unwrap();

    // What no machine has is not tried.
    let views = watcher.command(ROOT, "train", "views", json!({"views": 4_294_967_295_u32}));
    assert!(views["reason"].as_str().unwrap().contains("from 1 to 64"), "{views}");

    let train = json!({"status": "init", "epochs": 60, "lr": 0.01, "patience": 0, "views": 4});
    watcher.publish(&format!("{ROOT}/cmd/train/t1"), train.to_string());
    let mut events: Vec<String> = Vec::new();
    let mut epochs = 0;
    let (_, end) = watcher.wait("the run to end", |topic, value| {
        if topic.starts_with(&format!("{ROOT}/event/run/")) {
            let event = value["event"].as_str().unwrap();
            epochs += usize::from(event == "epoch");
            if events.last().is_none_or(|last| last != event) {
                events.push(event.to_owned());
            }
            return matches!(event, "finished" | "refused" | "failed");
        }
        false
    });
    assert_eq!(end["event"], "finished", "{end}");
    assert_eq!(events, ["chosen", "started", "features", "epoch", "trained", "finished"]);
    assert_eq!(epochs, 60);
    assert!(end["after"]["mAP50_95"].as_f64().unwrap() > end["before"]["mAP50_95"].as_f64().unwrap());
    let answer = watcher.settled(&format!("{ROOT}/cmd/train/t1"));
    assert_eq!((&answer["status"], &answer["result"]["slot"]), (&json!("successful"), &json!(1)));

    let current = || std::fs::read(device.path("state/models/current.onnx")).unwrap();
    assert_ne!(current(), before);
    // Whoever comes later learns of the new model from what is retained.
    let newcomer = Watcher::start(&device.broker, ROOT);
    newcomer
        .wait("the model in slot 1", |topic, value| topic == format!("{ROOT}/model") && value["slot"] == 1);

    let back = watcher.command(ROOT, "rollback", "r1", json!({}));
    assert_eq!(back["result"]["slot"], 0, "{back}");
    assert_eq!(current(), before);
    let promoted = watcher.command(ROOT, "promote", "p1", json!({"slot": 1}));
    assert_eq!(promoted["result"]["slot"], 1, "{promoted}");
    // The same id again is the same command, and is not done again.
    assert_eq!(watcher.command(ROOT, "rollback", "r1", json!({})), back);
    assert_ne!(current(), before);

    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());
    watcher.wait("offline", |topic, value| topic == format!("{ROOT}/status") && value == "offline");
    let rolled = graftd()
        .args(["models", "rollback", "--json", "--state-dir"])
        .arg(device.path("state"))
        .output()
        .unwrap();
    assert!(rolled.status.success(), "{}", String::from_utf8_lossy(&rolled.stderr));
    assert_eq!(std::fs::read(device.path("state/models/current.onnx")).unwrap(), before);
}

#[test]
fn commands_that_cant_be_done_are_answered_and_change_nothing() {
    let mut device = Device::new(3, 1, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let (_, sample) = watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
    let id = sample["sample"].as_str().unwrap();
    let good = json!({"class": "weed", "cx": 0.5, "cy": 0.5, "w": 0.2, "h": 0.2});
    let wrong = |change: Value| {
        let mut wrong = good.clone();
        wrong.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"sample": id, "boxes": [good, wrong]})
    };
    for (index, (command, arguments, word)) in [
        ("label", wrong(json!({"class": "cow"})), "cow"),
        ("label", wrong(json!({"class": 3})), "0 to 2"),
        ("label", wrong(json!({"cx": 1.2})), "leaves the frame"),
        ("label", wrong(json!({"w": 0.0})), "above 0"),
        ("label", json!({"sample": id, "boxes": [good], "covers": ["crown"]}), "boxes[0]: class \"weed\""),
        (
            "label",
            json!({"sample": id, "boxes": [good], "covers": ["weed", "cow"]}),
            "covers[1]: class \"cow\"",
        ),
        ("label", json!({"sample": id, "boxes": [], "covers": []}), "covers is empty"),
        ("label", json!({"sample": "x", "boxes": []}), "sample id"),
        ("label", json!({"sample": "019aa0c4-7d1e-7c3a-9f00-3b6f0e4d2a11", "boxes": []}), "no sample"),
        ("train", json!({}), "label more"),
        ("train", json!({"epochs": -1}), "epochs"),
        ("cancel", json!({}), "nothing to cancel"),
        ("promote", json!({"slot": 7}), "no slot 7"),
        ("rollback", json!({}), "nothing before"),
        ("fly", json!({}), "no command"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = watcher.command(ROOT, command, &format!("c{index}"), arguments.clone());
        assert_eq!(answer["status"], "failed", "{command} {arguments}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains(word), "{command} {arguments}: {answer}");
    }
    watcher.publish(&format!("{ROOT}/request/state"), "{}");
    let (_, state) = watcher.wait("a reply", |topic, _| topic == format!("{ROOT}/reply/state"));
    assert_eq!((&state["result"]["labelled"], &state["result"]["slot"]), (&json!(0), &json!(0)));
    let labelled = watcher.command(ROOT, "label", "ok", json!({"sample": id, "boxes": [good]}));
    assert_eq!((&labelled["status"], &labelled["result"]["covers"]), (&json!("successful"), &Value::Null));
    // What was looked for is kept with the labels, and told in the order of the classes.
    let covering = json!({"sample": id, "boxes": [good], "holdout": false, "covers": ["weed", 0]});
    let labelled = watcher.command(ROOT, "label", "covering", covering);
    assert_eq!(labelled["result"]["covers"], json!(["crown", "weed"]), "{labelled}");
    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());
    let (learn, _) = Store::open(&device.path("state")).unwrap().samples().truth().unwrap();
    assert_eq!(learn[0].covers, Some(vec!["crown".to_owned(), "weed".to_owned()]));
}

#[test]
fn a_message_too_large_to_take_in_does_not_cut_the_device_off() {
    let mut device = Device::new(1, 1, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    watcher.publish(&format!("{ROOT}/cmd/label/huge"), vec![b' '; 17 << 20]);
    watcher.wait("offline", |topic, value| topic == format!("{ROOT}/status") && value == "offline");
    watcher.wait("the daemon to be online again", is_online);
    assert_eq!(watcher.command(ROOT, "state", "alive", json!({}))["status"], "successful");
    assert!(device.log().contains("above 16777216 bytes"), "{}", device.log());
}

#[test]
fn no_report_is_lost_when_the_broker_goes_again_and_again() {
    let mut device = Device::new(120, 1, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let is_sample = |topic: &str, _: &Value| topic == format!("{ROOT}/event/sample");
    let mut seen: Vec<String> = Vec::new();
    let mut see = |watcher: &Watcher| {
        let (_, sample) = watcher.wait("a kept frame", is_sample);
        let source = sample["source"].as_str().unwrap().to_owned();
        if !seen.contains(&source) {
            seen.push(source);
        }
        seen.len()
    };
    for kill in 1..=5 {
        while see(&watcher) < kill * 15 {}
        device.broker.restart();
    }
    while see(&watcher) < 121 {}
    let mut sorted = seen.clone();
    sorted.sort();
    assert_eq!(seen, sorted, "in the order in which they were kept");
}

#[test]
fn a_run_that_a_kill_interrupted_goes_on_after_the_restart() {
    let mut device = Device::new(12, 4, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    device.label_next(&watcher, 15);
    let (late, label) = device.next_label(&watcher);
    let train = json!({"status": "init", "epochs": 100_000, "patience": 0});
    watcher.publish(&format!("{ROOT}/cmd/train/long"), train.to_string());
    watcher.wait("an epoch", |_, value| value["event"] == "epoch");
    let second = watcher.command(ROOT, "train", "second", json!({}));
    assert!(second["reason"].as_str().unwrap().contains("goes on"), "{second}");
    // Labels and classes that come while it goes on are the next run's, whether it is interrupted or not.
    let class = watcher.command(ROOT, "class", "new", json!({"add": "thistle"}));
    assert_eq!(class["status"], "successful", "{class}");
    watcher.publish(&late, label.to_string());
    watcher.wait("the label to be counted", |_, value| value["holdout"] == 4);
    device.end("-KILL");
    device.start();
    // The run is taken up where it stood, and can be paused and cancelled as before.
    watcher.wait("the run to go on", |_, value| {
        assert_ne!(value["event"], "not_resumed", "{value}");
        value["event"] == "resumed"
    });
    watcher.wait("an epoch", |_, value| value["event"] == "epoch");
    assert_eq!(watcher.command(ROOT, "pause", "p", json!({}))["status"], "successful");
    watcher.wait("a paused state", |_, value| value["paused"] == true);
    assert_eq!(watcher.command(ROOT, "resume", "r", json!({}))["status"], "successful");
    watcher.wait("an epoch", |_, value| value["event"] == "epoch");
    device.end("-TERM");
    device.start();
    watcher.wait("the run to go on", |_, value| value["event"] == "resumed");
    assert_eq!(watcher.command(ROOT, "cancel", "l", json!({}))["status"], "successful");
    let answer = watcher.settled(&format!("{ROOT}/cmd/train/long"));
    assert!(answer["reason"].as_str().unwrap().contains("cancelled"), "{answer}");
    // Nothing that was acknowledged is gone, and it goes on.
    let state = watcher.command(ROOT, "state", "s", json!({}));
    assert_eq!((&state["result"]["labelled"], &state["result"]["holdout"]), (&json!(12), &json!(4)));
    watcher.publish(&format!("{ROOT}/cmd/train/again"), train.to_string());
    watcher.wait("an epoch", |_, value| value["event"] == "epoch");
    assert_eq!(watcher.command(ROOT, "cancel", "c", json!({}))["status"], "successful");
    let answer = watcher.settled(&format!("{ROOT}/cmd/train/again"));
    assert!(answer["reason"].as_str().unwrap().contains("cancelled"), "{answer}");

    // A database that is gone, as its error advises: samples, labels and classes come back.
    device.end("-KILL");
    std::fs::remove_dir_all(device.path("state/store")).unwrap();
    device.start();
    let state = watcher.command(ROOT, "state", "restored", json!({}));
    assert_eq!((&state["result"]["labelled"], &state["result"]["holdout"]), (&json!(12), &json!(4)));
    assert_eq!(state["result"]["classes"], json!(["crown", "weed", "pallet", "thistle"]));
    watcher.publish(&format!("{ROOT}/cmd/train/restored"), train.to_string());
    watcher.wait("an epoch", |_, value| value["event"] == "epoch");
}

#[test]
fn a_second_daemon_on_the_same_state_is_turned_away() {
    let mut device = Device::new(1, 1, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    let second = graftd().arg("run").arg("--config").arg(device.path("graftd.toml")).output().unwrap();
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{message}");
    let pid = device.daemon.id().to_string();
    assert!(message.lines().last().unwrap().contains(&format!("in use by process {pid}")), "{message}");
}

#[test]
fn a_broker_that_refuses_ends_the_start_with_what_to_do() {
    let mut device = Device::new(1, 1, "");
    device.broker.down();
    device.broker = Mosquitto::with(device.folder.path(), "allow_anonymous false\n");
    device.configure("");
    let refused = graftd().arg("run").arg("--config").arg(device.path("graftd.toml")).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.lines().last().unwrap().contains("mqtt.password_file"), "{message}");
}

#[test]
fn a_broker_that_is_away_does_not_stop_the_camera() {
    let mut device = Device::new(5, 1, "");
    // Its subscription waits at the broker: the daemon may be back before anybody else is.
    let watcher = Watcher::start(&device.broker, ROOT);
    device.broker.stop();
    device.start();
    let kept = |folder: &Path| -> usize {
        let Ok(folders) = std::fs::read_dir(folder) else { return 0 };
        let files =
            folders.flatten().filter_map(|entry| std::fs::read_dir(entry.path()).ok()).flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json")).count()
    };
    wait_until("six frames are kept", || kept(&device.path("state/blobs")) == 6);
    device.broker.up();
    for _ in 0..6 {
        watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
    }
}
