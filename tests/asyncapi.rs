//! docs/asyncapi.json is what the code says, and the code's schemas are true: the examples of docs/mqtt.md and all
//! that a real daemon writes in a session fit them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use support::broker::{PATIENCE, Watcher};
use support::device::{Device, ROOT, is_online};
use support::json_schema::fault;
use support::page::examples;

fn document() -> Value {
    serde_json::from_str(&graftd::mqtt::asyncapi()).unwrap()
}

fn check(document: &Value, message: &str, value: &Value) {
    let schema = &document["components"]["messages"][message]["payload"];
    assert!(schema.is_object(), "there is no message {message}");
    if let Some(fault) = fault(document, schema, value) {
        panic!("{value} is no {message}: {fault}");
    }
}

#[test]
fn the_file_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/asyncapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, graftd::mqtt::asyncapi()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == graftd::mqtt::asyncapi(),
        "docs/asyncapi.json is old: UPDATE_DOCS=1 cargo test --test asyncapi"
    );
}

#[test]
fn references_lead_somewhere_and_examples_fit() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(keys) => {
                found.extend(keys.get("$ref").map(|reference| reference.as_str().unwrap().to_owned()));
                keys.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference}");
    }
    for channel in document["channels"].as_object().unwrap().values() {
        let inner = channel["address"].as_str().unwrap().split('/');
        let named: BTreeSet<&str> =
            inner.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let known = channel["parameters"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(named, known);
    }
    for (name, message) in document["components"]["messages"].as_object().unwrap() {
        check(&document, name, &message["examples"][0]["payload"]);
    }
}

#[test]
fn a_schema_refuses_what_is_not_so() {
    let document = document();
    let state = &document["components"]["messages"]["state"];
    let (schema, good) = (&state["payload"], &state["examples"][0]["payload"]);
    for (key, bad) in
        [("slot", json!(-1)), ("camera", json!("gone")), ("faults", json!([1])), ("x", json!(1))]
    {
        let mut value = good.clone();
        value[key] = bad;
        assert!(fault(&document, schema, &value).is_some(), "{key}");
    }
    let mut less = good.clone();
    less.as_object_mut().unwrap().remove("outbox");
    assert!(fault(&document, schema, &less).unwrap().contains("outbox"));
}

#[test]
fn the_pages_examples_fit() {
    let document = document();
    for (kind, text) in examples() {
        let value: Value = serde_json::from_str(&text).unwrap();
        let name = match (kind.as_str(), kind.strip_prefix("command ")) {
            (_, Some(command)) => format!("{command}_command"),
            ("answer", _) => "state_answer".into(),
            ("event" | "end", _) => "run".into(),
            _ if value.get("uptime").is_some() => "state".into(),
            _ if value.get("sha256").is_some() => "model".into(),
            _ if value.get("sample").is_some() => "sample".into(),
            _ => "left".into(),
        };
        check(&document, &name, &value);
    }
}

/// The message of the document that this is, by its topic.
fn named(document: &Value, topic: &str, value: &Value) -> String {
    let fits = |address: &str| {
        let (address, topic): (Vec<&str>, Vec<&str>) =
            (address.split('/').collect(), topic.split('/').collect());
        let pairs = || address.iter().zip(&topic);
        address.len() == topic.len() && pairs().all(|(part, found)| part.starts_with('{') || part == found)
    };
    let channels = document["channels"].as_object().unwrap().values();
    let mut channels = channels.filter(|channel| fits(channel["address"].as_str().unwrap()));
    let channel = channels.next().unwrap_or_else(|| panic!("nobody knows {topic}"));
    assert!(channels.next().is_none(), "{topic} is two channels");
    let names: Vec<&String> = channel["messages"].as_object().unwrap().keys().collect();
    match names[..] {
        [name] => name.clone(),
        // Commands and their answers share a topic.
        _ => {
            let end = if value["status"] == "init" { "_command" } else { "_answer" };
            names.iter().find(|name| name.ends_with(end)).unwrap().to_string()
        }
    }
}

#[test]
fn all_that_a_daemon_writes_fits() {
    let train = "epochs = 60\nlr = 0.01\npatience = 0\nviews = 4\n";
    let mut device = Device::new(24, 8, train);
    let all = Watcher::start(&device.broker, ROOT);
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    device.label_all(&watcher);
    for command in ["capture", "pause", "resume", "cancel", "promote", "rollback", "label", "class"] {
        let answer = watcher.command(ROOT, command, "bad", json!({}));
        assert_eq!(answer["status"], "failed", "{answer}");
    }
    let ended = watcher.command(ROOT, "train", "t1", json!({}));
    assert_eq!(ended["result"]["promoted"], true, "{ended}");
    for (command, arguments) in [
        ("rollback", json!({})),
        ("promote", json!({"slot": 1})),
        ("evaluate", json!({"slot": 0})),
        ("class", json!({"add": "hen"})),
        ("set", json!({"keys": {"train.epochs": 7}})),
        ("export", json!({})),
        ("state", json!({})),
    ] {
        let answer = watcher.command(ROOT, command, "good", arguments);
        assert_eq!(answer["status"], "successful", "{answer}");
    }
    watcher.publish(&format!("{ROOT}/request/state"), "{}");
    watcher.wait("the reply", |topic, _| topic == format!("{ROOT}/reply/state"));
    let run = watcher.command(ROOT, "state", "last", json!({}));
    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());

    let document = document();
    let mut seen = BTreeSet::new();
    while let Some((topic, value)) = all.next(PATIENCE) {
        let name = named(&document, &topic, &value);
        // What this test sends in order to be refused.
        if !name.ends_with("_command") {
            check(&document, &name, &value);
        }
        seen.insert(name);
        if topic.ends_with("/status") && value == "offline" {
            break;
        }
    }
    assert_eq!(run["status"], "successful");
    for name in
        ["status", "state", "model", "sample", "run", "train_capability", "train_answer", "label_answer"]
    {
        assert!(seen.contains(name), "{name}");
    }
    assert!(
        seen.contains("state_reply") && seen.contains("promote_answer") && seen.contains("rollback_answer")
    );
}
