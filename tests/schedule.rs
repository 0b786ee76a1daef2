//! Runs that start by themselves: in their hours, when there is something new to learn from, and not twice; a
//! model that is no good goes by itself.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use graftd::store::{SlotRecord, Store};
use serde_json::{Value, json};
use support::broker::Watcher;
use support::clock::Clock;
use support::device::{Device, ROOT, is_online};
use support::goldens;

/// Waits until the state says what the next run waits for: these words and no others.
fn waits_for(watcher: &Watcher, words: &[&str]) -> Value {
    let fits = |topic: &str, state: &Value| {
        topic == format!("{ROOT}/state") && {
            let reasons = state["waits_for"].as_array().unwrap();
            reasons.len() == words.len()
                && reasons.iter().zip(words).all(|(reason, word)| reason.as_str().unwrap().contains(word))
        }
    };
    watcher.wait(&format!("a state that waits for {words:?}"), fits).1
}

fn is_event(name: &'static str) -> impl Fn(&str, &Value) -> bool {
    move |topic, value| topic.starts_with(&format!("{ROOT}/event/run/")) && value["event"] == name
}

#[test]
fn a_run_starts_in_its_hours_waits_out_the_day_and_goes_on() {
    let mut device = Device::new(
        12,
        4,
        "when = \"02:00-05:00\"\nnew_labels = 16\nevery_hours = 1\nepochs = 100000\npatience = 0\n",
    );
    let clock = Clock::new(device.folder.path());
    clock.set("2026-11-25T01:00:00Z");
    device.environment = clock.environment();
    let [watcher, labeller] = [(); 2].map(|()| Watcher::start(&device.broker, ROOT));
    device.start();
    waits_for(&watcher, &["0 of 16 new labels", "02:00-05:00, which opens in"]);
    device.label_all(&labeller);
    waits_for(&watcher, &["02:00-05:00, which opens in"]);

    clock.set("2026-11-25T02:30:00Z");
    watcher.wait("the run to start", is_event("started"));
    watcher.wait("an epoch", is_event("epoch"));
    // Morning: the run waits where it stands, and nobody but the schedule lets it go on.
    clock.set("2026-11-25T05:10:00Z");
    let state = waits_for(&watcher, &["02:00-05:00, which opens in 20 h"]);
    assert_eq!(state["paused"], true, "{state}");
    let resume = watcher.command(ROOT, "resume", "r1", json!({}));
    assert!(resume["reason"].as_str().unwrap().contains("scheduled run"), "{resume}");
    // A restart in between takes it up, and it waits again.
    assert_eq!(device.end("-TERM"), Some(0));
    device.start();
    watcher.wait("the daemon to be online", is_online);
    let waiting = |topic: &str, state: &Value| {
        topic == format!("{ROOT}/state") && state["run"].is_string() && state["paused"] == true
    };
    watcher.wait("the run to wait again", waiting);
    // The next night.
    clock.set("2026-11-26T02:00:30Z");
    watcher.wait("the run to go on", |topic, state| {
        topic == format!("{ROOT}/state") && state["run"].is_string() && state["paused"] == false
    });
    watcher.wait("an epoch", is_event("epoch"));
    assert_eq!(watcher.command(ROOT, "cancel", "c1", json!({}))["status"], "successful");
    watcher.wait("the run to end", is_event("failed"));
    // The clock is turned back by years: the last run lies in the future and counts as long ago.
    waits_for(&watcher, &["0 of 16 new labels"]);
    clock.set("2019-11-26T02:00:30Z");
    waits_for(&watcher, &["0 of 16 new labels"]);
}

#[test]
fn without_hours_nothing_starts_by_itself_and_the_state_says_so() {
    let mut device = Device::new(1, 1, "new_labels = 0\nevery_hours = 0\nmin_samples = 1\n");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    device.label_all(&watcher);
    waits_for(&watcher, &["a train command"]);
}

#[test]
fn a_run_that_cant_start_says_why() {
    let mut device =
        Device::new(1, 1, "when = \"00:00-24:00\"\nnew_labels = 0\nevery_hours = 0\nmin_samples = 7\n");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    device.label_all(&watcher);
    waits_for(&watcher, &["1 samples are labelled to learn from, 7 are needed"]);
}

/// A device of which slot 1 holds `model`; the base is in slot 0.
fn with_slot_1(model: &[u8], extra: &str) -> Device {
    let device = Device::new(12, 1, extra);
    let store = Store::open(&device.path("state")).unwrap();
    let base = std::fs::read(goldens("exports").join("yolo12n.onnx")).unwrap();
    store.models().promote(&base, SlotRecord::default()).unwrap();
    store.models().promote(model, SlotRecord::default()).unwrap();
    device
}

#[test]
fn a_model_that_cant_be_loaded_is_left_for_the_one_before_it() {
    let mut device = with_slot_1(b"no model", "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let (_, event) = watcher.wait("the report", |topic, _| topic == format!("{ROOT}/event/model"));
    assert_eq!(
        (&event["event"], &event["from"], &event["to"]),
        (&json!("rolled_back"), &json!(1), &json!(0))
    );
    let state = watcher.command(ROOT, "state", "s1", json!({}));
    assert_eq!(state["result"]["slot"], 0, "{state}");
    watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
}

#[test]
fn a_model_that_is_too_slow_is_left_for_the_one_before_it_and_the_base_stays() {
    let base = std::fs::read(goldens("exports").join("yolo12n.onnx")).unwrap();
    // No machine is so fast.
    let mut device = with_slot_1(&base, "[detect]\nmax_latency_ms = 0.0001\n");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let (_, event) = watcher.wait("the report", |topic, _| topic == format!("{ROOT}/event/model"));
    assert_eq!((&event["from"], &event["to"]), (&json!(1), &json!(0)));
    assert!(event["reason"].as_str().unwrap().contains("detect.max_latency_ms"), "{event}");
    Watcher::start(&device.broker, ROOT)
        .wait("the model of slot 0", |topic, value| topic == format!("{ROOT}/model") && value["slot"] == 0);
    let state = watcher.command(ROOT, "state", "s1", json!({}));
    assert_eq!((&state["result"]["slot"], &state["result"]["faults"]), (&json!(0), &json!([])), "{state}");
}
