//! A day of a device that nobody visits: it starts, its camera goes and comes back, frames are labelled, the night
//! comes, a run starts by itself and promotes its model, the broker is gone for an hour, the operator rolls back,
//! and the device is switched off. All of it is seen and done over MQTT.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::{Path, PathBuf};

use graftd::picture::Picture;
use serde_json::{Value, json};
use support::broker::{Watcher, wait_until};
use support::clock::Clock;
use support::device::{Device, ROOT, is_online};
use support::graftd;

fn wait_for_state(watcher: &Watcher, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    watcher.wait(what, |topic, value| topic == format!("{ROOT}/state") && wanted(value)).1
}

/// Files in a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Puts pictures before the camera, each as a whole.
fn show(device: &Device, pictures: &[PathBuf]) {
    for picture in pictures {
        let name = picture.file_name().unwrap();
        let passing = device.path("passing");
        std::fs::copy(picture, &passing).unwrap();
        std::fs::rename(passing, device.path("frames").join(name)).unwrap();
    }
}

#[test]
fn a_day() {
    let mut device = Device::new(
        24,
        8,
        "when = \"02:00-05:00\"\nnew_labels = 32\nevery_hours = 12\nepochs = 60\nlr = 0.01\npatience = 0\nviews = 4\n",
    );
    std::fs::rename(device.path("frames"), device.path("album")).unwrap();
    std::fs::create_dir(device.path("frames")).unwrap();
    let album = files(&device.path("album"));
    let clock = Clock::new(device.folder.path());
    clock.set("2026-11-25T08:00:00Z");
    device.environment = clock.environment();
    device.environment.push(("GRAFTD_CAMERA__WATCH".into(), "true".into()));
    let watcher = Watcher::start(&device.broker, ROOT);

    // Morning: it starts and says what it waits for.
    device.start();
    watcher.wait("the daemon to be online", is_online);
    let is_on = |state: &Value| state["camera"] == "on" && state["camera_gives"].is_string();
    let state = wait_for_state(&watcher, "a camera that is on", is_on);
    assert!(state["waits_for"][0].as_str().unwrap().contains("0 of 32 new labels"), "{state}");
    show(&device, &album[..16]);
    device.label_next(&watcher, 16);

    // The camera goes, and comes back.
    std::fs::rename(device.path("frames"), device.path("away")).unwrap();
    wait_for_state(&watcher, "a camera that is away", |state| state["camera"] == "away");
    assert_eq!(watcher.command(ROOT, "state", "noon", json!({}))["status"], "successful");
    std::fs::rename(device.path("away"), device.path("frames")).unwrap();
    wait_for_state(&watcher, "the camera to come back", |state| state["camera"] == "on");
    show(&device, &album[16..]);
    device.label_next(&watcher, 16);
    wait_for_state(&watcher, "all labels, and the night to be waited for", |state| {
        state["waits_for"].as_array().unwrap().len() == 1
            && state["waits_for"][0].as_str().unwrap().contains("02:00-05:00")
    });

    // Night: it trains by itself, and the better model takes over.
    let base = std::fs::read(device.path("state/models/current.onnx")).unwrap();
    clock.set("2026-11-26T02:00:10Z");
    let ends =
        |_: &str, value: &Value| matches!(value["event"].as_str(), Some("finished" | "refused" | "failed"));
    let (_, end) = watcher.wait("the run to end", ends);
    assert_eq!((&end["event"], &end["slot"]), (&json!("finished"), &json!(1)), "{end}");
    // Whoever comes later learns of it from what is retained.
    Watcher::start(&device.broker, ROOT)
        .wait("the model in slot 1", |topic, value| topic == format!("{ROOT}/model") && value["slot"] == 1);
    assert_ne!(std::fs::read(device.path("state/models/current.onnx")).unwrap(), base);
    wait_for_state(&watcher, "new labels to be waited for", |state| {
        state["waits_for"].to_string().contains("0 of 32 new labels")
    });

    // The broker is gone for an hour, and what happens meanwhile is told afterwards.
    device.broker.stop();
    wait_until("the broker is missed", || device.log().contains("trying again until it works"));
    clock.set("2026-11-26T03:00:10Z");
    let noise = (0..160 * 160 * 3).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8);
    let visitor = device.path("visitor.png");
    Picture::from_rgb(160, 160, noise.collect()).save(&visitor).unwrap();
    show(&device, &[visitor]);
    let listed = || {
        let mut list = graftd();
        list.args(["samples", "list", "--json", "--state-dir"]).arg(device.path("state"));
        String::from_utf8_lossy(&list.output().unwrap().stdout).into_owned()
    };
    wait_until("the visitor is kept", || listed().contains("visitor.png"));
    device.broker.up();
    let told = |topic: &str, value: &Value| {
        topic == format!("{ROOT}/event/sample") && value["source"].as_str().unwrap().contains("visitor.png")
    };
    watcher.wait("what happened meanwhile", told);

    // Morning: the operator does not like the new model, and the device is switched off.
    let back = watcher.command(ROOT, "rollback", "morning", json!({}));
    assert_eq!(back["result"]["slot"], 0, "{back}");
    assert_eq!(std::fs::read(device.path("state/models/current.onnx")).unwrap(), base);
    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());
    watcher.wait("offline", |topic, value| topic == format!("{ROOT}/status") && value == "offline");
}
