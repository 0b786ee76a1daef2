//! `docs/asyncapi.json`: every topic, who writes it, and what, as an AsyncAPI 3 document of the device.
//!
//! `send` is what the daemon writes, `receive` what it reads (AsyncAPI 3.0.0, "Operation Object"; the bindings are
//! those of MQTT, version 0.2.0).

use serde_json::{Map, Value, json};

use crate::config::COMMANDS;

use super::command::capability;
use super::schema;

const JSON: &str = "application/json";

/// A topic with one kind of message.
struct Topic {
    /// What the document calls it.
    name: String,
    /// `{device}` stands for the device's name.
    address: String,
    /// Whether the daemon writes it.
    sends: bool,
    retain: bool,
    content: &'static str,
    about: &'static str,
    payload: Value,
    example: Value,
}

/// The document. Its text ends with a line's end.
pub fn asyncapi() -> String {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for topic in topics() {
        let parameters = parameters(&topic.address);
        let name = topic.name;
        // Topics that both sides write are one channel.
        let channel = channel_of(&topic.address);
        let entry = channels
            .entry(channel.clone())
            .or_insert_with(|| json!({"address": topic.address, "parameters": parameters, "messages": {}}));
        entry["messages"][&name] = json!({"$ref": format!("#/components/messages/{name}")});
        operations.insert(
            name.clone(),
            json!({
                "action": if topic.sends { "send" } else { "receive" },
                "channel": {"$ref": format!("#/channels/{channel}")},
                "messages": [{"$ref": format!("#/channels/{channel}/messages/{name}")}],
                "bindings": {"mqtt": {"qos": 1, "retain": topic.retain, "bindingVersion": "0.2.0"}},
            }),
        );
        messages.insert(
            name,
            json!({
                "summary": topic.about, "contentType": topic.content, "payload": topic.payload,
                "examples": [{"payload": topic.example}],
            }),
        );
    }
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "graftd over MQTT",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a device writes (send) and reads (receive). `graftd/{device}` is another where \
                            `mqtt.root` says so. docs/mqtt.md explains it.",
        },
        "defaultContentType": JSON,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schema::shared()},
    });
    let text = serde_json::to_string_pretty(&document).expect("plain objects can be written");
    text + "\n"
}

fn channel_of(address: &str) -> String {
    let parts = address.split('/').map(|part| part.trim_matches(['{', '}']));
    parts.collect::<Vec<_>>().join("_")
}

fn parameters(address: &str) -> Value {
    let mut parameters = Map::new();
    for name in address.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let about = match name {
            "device" => "the device's name",
            "run" => "the run's id",
            "id" => "the command's id, which the operator chooses",
            "prefix" => "homeassistant.prefix",
            _ => "the device's client id, a point as _dot_",
        };
        parameters.insert(name.into(), json!({"description": about}));
    }
    parameters.into()
}

fn topics() -> Vec<Topic> {
    let id = "019aa0c6-1c3f-7d55-8e21-5a0c7be8b001";
    let sample = "019aa0c4-7d1e-7c3a-9f00-3b6f0e4d2a11";
    let run = "019aa0c5-0000-7000-8000-000000000001";
    let told = |name: &str, below: &str, retain, about, payload, example| Topic {
        name: name.into(),
        address: format!("graftd/{{device}}/{below}"),
        sends: true,
        retain,
        content: JSON,
        about,
        payload,
        example,
    };
    let state = json!({
        "version": "0.1.0", "uptime": 61, "slot": 0, "classes": ["tree"], "samples": 36, "labelled": 30,
        "holdout": 6, "frames": 36, "bad_frames": 0, "camera": "on", "camera_gives": null,
        "camera_trouble": null, "runtime": "ort", "run": null, "paused": false, "progress": null, "outbox": 0,
        "set_aside": 0, "storage": "ok", "frames_mb": 14, "disk_free_mb": 20480, "temperature": 48.2,
        "waits_for": ["12 of 20 new labels"], "faults": [],
    });
    let mut topics = vec![
        Topic {
            content: "text/plain",
            ..told(
                "status",
                "status",
                true,
                "whether the device is there; the last will says offline",
                json!({"enum": ["online", "offline"]}),
                json!("online"),
            )
        },
        told("state", "state", true, "what goes on", schema::reference("state"), state),
        told(
            "model",
            "model",
            true,
            "the current model",
            schema::model(),
            json!({
                "slot": 0, "sha256": "d2c1", "classes": ["tree"], "time": 1_764_000_000.0, "base": null,
                "before": null, "after": null, "trained_on": null,
            }),
        ),
        told(
            "sample",
            "event/sample",
            false,
            "a frame was kept",
            schema::sample(),
            json!({
                "id": id, "sample": sample, "time": 1_764_000_000.25, "source": "a.jpg", "width": 400,
                "height": 400, "why": "unsure: tree 0.41",
                "boxes": [{"class": "tree", "score": 0.41, "cx": 0.5, "cy": 0.5, "w": 0.1, "h": 0.1}],
            }),
        ),
        told(
            "left",
            "event/model",
            false,
            "a model was left, and nobody has asked for that",
            schema::model_event(),
            json!({"id": id, "event": "rolled_back", "from": 2, "to": 1, "reason": "a frame takes 412 ms"}),
        ),
        told(
            "run",
            "event/run/{run}",
            false,
            "what goes on in a run",
            schema::run(),
            json!({"id": id, "run": run, "event": "features", "done": 120, "total": 246}),
        ),
        Topic {
            content: "image/jpeg",
            ..told(
                "image",
                "image",
                true,
                "a small picture of the last kept frame (homeassistant.enabled)",
                json!({"type": "string", "format": "binary"}),
                json!("a JPEG"),
            )
        },
        Topic {
            address: "{prefix}/device/{client}/config".into(),
            ..told(
                "announcement",
                "",
                true,
                "Home Assistant finds the device by it (homeassistant.enabled)",
                json!({"type": "object", "required": ["dev", "o", "cmps"]}),
                json!({"dev": {"ids": ["graftd-barn"]}, "o": {"name": "graftd"}, "cmps": {}}),
            )
        },
        Topic {
            address: "{prefix}/status".into(),
            sends: false,
            content: "text/plain",
            ..told(
                "birth",
                "",
                false,
                "Home Assistant has started: the announcement is sent again",
                json!({"enum": ["online", "offline"]}),
                json!("online"),
            )
        },
    ];
    for command in COMMANDS {
        let arguments = match command {
            "label" => json!({"sample": sample, "boxes": []}),
            "promote" | "evaluate" => json!({"slot": 1}),
            "class" => json!({"rename": "weed", "to": "charlock"}),
            "set" => json!({"keys": {"train.epochs": 20}}),
            "export" => json!({"format": "yolo"}),
            _ => json!({}),
        };
        let mut init = arguments.clone();
        init["status"] = "init".into();
        let failed = json!({"id": id, "status": "failed", "reason": "why, and what to do"});
        let received = |name: &str, below: &str, about, payload, example| Topic {
            sends: false,
            ..told(name, below, false, about, payload, example)
        };
        topics.extend([
            told(
                &format!("{command}_capability"),
                &format!("cmd/{command}"),
                true,
                "the command exists: the JSON Schema of its arguments",
                json!({"type": "object"}),
                capability(command),
            ),
            received(
                &format!("{command}_command"),
                &format!("cmd/{command}/{{id}}"),
                "the command with an id",
                schema::init(command),
                init,
            ),
            told(
                &format!("{command}_answer"),
                &format!("cmd/{command}/{{id}}"),
                false,
                "its answers",
                schema::reference(&format!("{command}_answer")),
                json!({"id": id, "status": "executing"}),
            ),
            received(
                &format!("{command}_request"),
                &format!("request/{command}"),
                "the command without an id",
                capability(command),
                arguments,
            ),
            told(
                &format!("{command}_reply"),
                &format!("reply/{command}"),
                false,
                "its answer, unless a response topic is named (MQTT 5)",
                schema::reference(&format!("{command}_answer")),
                failed,
            ),
        ]);
    }
    topics
}
