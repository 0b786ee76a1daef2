//! docs/mqtt.md tells the truth: its commands are read as the daemon reads them, its reports have the
//! keys that the daemon writes.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;

use graftd::mqtt::{Arguments, COMMANDS, Payload, RunOutcome, StateReport, capability, parse};
use graftd::train::TrainEvent;
use serde_json::Value;
use support::page::examples;

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn every_command_has_an_example_that_the_daemon_reads() {
    let examples = examples();
    for command in COMMANDS {
        let kind = format!("command {command}");
        let mut given = BTreeSet::new();
        for (_, text) in examples.iter().filter(|(found, _)| *found == kind) {
            match parse(command, Some("1"), text.as_bytes()) {
                Payload::Init(Arguments::Label(arguments)) => {
                    arguments.resolve(&["tree".to_owned()]).unwrap_or_else(|error| panic!("{text}: {error}"));
                }
                Payload::Init(_) => {}
                other => panic!("{text}: {other:?}"),
            }
            given.extend(keys(&serde_json::from_str(text).expect("JSON")));
        }
        // Each argument that the daemon announces is in one of them.
        let mut known = keys(&capability(command)["properties"]);
        known.insert("status".into());
        assert_eq!(given, known, "{command}");
    }
}

#[test]
fn every_example_of_a_report_is_what_the_daemon_writes() {
    for (kind, text) in examples() {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        match kind.as_str() {
            "event" => {
                let event: TrainEvent = serde_json::from_value(value.clone()).expect("an event");
                let mut written = keys(&serde_json::to_value(event).expect("JSON"));
                written.extend(["id", "run"].map(String::from));
                assert_eq!(keys(&value), written);
            }
            "end" => {
                let outcome: RunOutcome = serde_json::from_value(value.clone()).expect("an outcome");
                let mut written = keys(&serde_json::to_value(outcome).expect("JSON"));
                written.extend(["id", "run", "event", "reason"].map(String::from));
                assert_eq!(keys(&value), written);
            }
            "" if value.get("uptime").is_some() => {
                let state = StateReport {
                    version: "",
                    uptime: 0,
                    slot: 0,
                    classes: vec![],
                    samples: 0,
                    labelled: 0,
                    holdout: 0,
                    frames: 0,
                    bad_frames: 0,
                    camera: "on",
                    camera_gives: None,
                    camera_trouble: None,
                    runtime: "ort",
                    run: None,
                    paused: false,
                    progress: None,
                    outbox: 0,
                    set_aside: 0,
                    storage: "ok",
                    frames_mb: 14,
                    disk_free_mb: None,
                    temperature: None,
                    waits_for: vec![],
                    faults: vec![],
                };
                assert_eq!(keys(&value), keys(&serde_json::to_value(state).expect("JSON")));
            }
            _ => {}
        }
    }
}
