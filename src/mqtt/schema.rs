//! JSON Schema of what the daemon writes. Beside `report.rs`, which it follows; `tests/asyncapi.rs` holds real
//! messages and the examples of `docs/mqtt.md` against it.

use serde_json::{Map, Value, json};

use crate::config::COMMANDS;

use super::command::capability;

/// An object with exactly these keys.
fn object(properties: Value) -> Value {
    let keys: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": keys, "properties": properties, "additionalProperties": false})
}

/// What stands in more than one place, by its name.
pub(super) fn shared() -> Map<String, Value> {
    let parts = [("evaluation", evaluation()), ("state", state()), ("end", end())];
    let parts = parts.map(|(name, schema)| (name.to_owned(), schema)).into_iter();
    parts.chain(COMMANDS.map(|command| (format!("{command}_answer"), answer(command)))).collect()
}

/// One of these.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object's schema with one key more, which must be there.
fn with(mut schema: Value, key: &str, value: Value) -> Value {
    schema["properties"][key] = value;
    if let Some(required) = schema["required"].as_array_mut() {
        required.push(key.into());
    }
    schema
}

fn with_id(schema: Value) -> Value {
    with(schema, "id", text("a UUID of version 7; the same id is the same message again"))
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn count(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": about})
}

fn number(about: &str) -> Value {
    json!({"type": "number", "description": about})
}

fn share() -> Value {
    json!({"type": "number", "minimum": 0, "maximum": 1})
}

fn texts(about: &str) -> Value {
    json!({"type": "array", "items": {"type": "string"}, "description": about})
}

fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// What a model is worth on the hold-out.
fn evaluation() -> Value {
    let class = object(
        json!({"class": text("its name"), "AP50": share(), "AP50_95": share(), "boxes": count("true boxes")}),
    );
    object(json!({
        "images": count("pictures looked at"), "boxes": count("true boxes on them"),
        "mAP50": or_null(share()), "mAP50_95": or_null(share()),
        "precision": or_null(share()), "recall": or_null(share()),
        "per_class": {"type": "array", "items": class},
    }))
}

/// `event/sample`.
pub(super) fn sample() -> Value {
    let found = object(json!({
        "class": text("its name"), "score": share(), "cx": share(), "cy": share(), "w": share(), "h": share(),
    }));
    with_id(object(json!({
        "sample": text("the sample's id"), "time": number("when the frame was taken, seconds since 1970"),
        "source": text("where it came from"), "width": count("pixels"), "height": count("pixels"),
        "why": text("why it was kept"), "boxes": {"type": "array", "items": found},
    })))
}

/// `event/model`.
pub(super) fn model_event() -> Value {
    with_id(object(json!({
        "event": {"const": "rolled_back"}, "from": count("the slot that was current"),
        "to": count("the slot that is"), "reason": text("why"),
    })))
}

/// `model`.
pub(super) fn model() -> Value {
    object(json!({
        "slot": count("0 is the base"), "sha256": text("of its file"), "classes": texts("its classes"),
        "time": number("when it was made, seconds since 1970"),
        "base": or_null(text("sha256 of the model that it was trained from")),
        "before": or_null(reference("evaluation")), "after": or_null(reference("evaluation")),
        "trained_on": or_null(text("what it was trained on")),
    }))
}

/// `state`.
fn state() -> Value {
    let trouble = object(json!({
        "reason": text("what is wrong, and what to do"), "seconds": count("for so long"),
        "tries": count("to open it again"), "next_try": count("seconds until then"),
    }));
    let progress = object(json!({
        "stage": {"enum": ["features", "epochs"]}, "done": count("views or epochs"), "total": count("of so many"),
        "map50_95": or_null(share()), "best_map50_95": or_null(share()),
        "seconds_left": or_null(number("at the speed of the last epoch")),
    }));
    object(json!({
        "version": text("graftd's"), "uptime": count("seconds"), "slot": count("the current one"),
        "classes": texts("what labels count in"), "samples": count("kept frames"),
        "labelled": count("of these, to learn from"), "holdout": count("of these, to measure on"),
        "frames": count("since the start"), "bad_frames": count("that could not be looked at"),
        "camera": {"enum": ["on", "away", "off"]}, "camera_gives": or_null(text("size and rate")),
        "camera_trouble": or_null(trouble), "runtime": {"enum": ["ort", "tract"]},
        "run": or_null(text("the one that goes on")), "paused": {"type": "boolean"},
        "progress": or_null(progress), "outbox": count("messages that wait for the broker"),
        "set_aside": count("messages that no broker takes"), "storage": {"enum": ["ok", "full"]},
        "frames_mb": count("what the kept frames take, MiB"),
        "disk_free_mb": or_null(count("where the state lies")), "temperature": or_null(number("°C")),
        "waits_for": texts("what the next run waits for"), "faults": texts("what does not work"),
    }))
}

/// The last event of a run, without an id.
fn end() -> Value {
    let failed = object(json!({"run": text("its id"), "event": {"const": "failed"}, "reason": text("why")}));
    let measured = object(json!({
        "run": text("its id"), "event": {"enum": ["finished", "refused"]}, "reason": text("why"),
        "before": reference("evaluation"), "after": reference("evaluation"), "left_out": count("training pictures"),
        "epochs": count("gone through"), "seconds": number("wall time"), "cpu_seconds": number("of all threads"),
        "peak_rss_mb": or_null(number("MB")), "slot": or_null(count("the new one")),
        "promoted": {"type": "boolean"}, "confidence": or_null(share()),
        "more_labels": or_null(count("hold-out labels that would tell")),
    }));
    // A restart came between the promotion and its report: the slot's own record tells.
    let found = object(json!({
        "run": text("its id"), "event": {"const": "finished"}, "reason": or_null(text("why")),
        "before": or_null(reference("evaluation")), "after": or_null(reference("evaluation")), "slot": count("the new one"),
        "promoted": {"const": true},
    }));
    json!({"anyOf": [failed, measured, found]})
}

/// `event/run/<run-id>`.
pub(super) fn run() -> Value {
    let losses = object(json!({"box": number("CIoU"), "cls": number("BCE"), "dfl": number("or L1")}));
    let events = [
        (
            "started",
            json!({
                "scope": {"enum": ["last", "cls", "head"]}, "samples": count("to learn from"),
                "holdout": count("to measure on"), "epochs": count("asked for"), "parameters": count("trained"),
                "runtime": {"enum": ["ort", "tract"]},
            }),
        ),
        ("left_out", json!({"samples": count("how many"), "reason": text("which")})),
        (
            "chosen",
            json!({"what": text("scope or lr"), "value": text("what it chose"), "reason": text("why")}),
        ),
        ("features", json!({"done": count("views"), "total": count("views")})),
        ("reduced", json!({"reason": text("what it does without")})),
        ("resumed", json!({"epoch": count("the last that was done"), "map50_95": share()})),
        ("not_resumed", json!({"reason": text("why not")})),
        (
            "rolled_back",
            json!({"epoch": count("it goes on from"), "reason": text("why"), "lr": number("new")}),
        ),
        (
            "epoch",
            json!({
                "epoch": count("from 1"), "epochs": count("asked for"), "loss": losses, "lr": number("of the last step"),
                "map50": share(), "map50_95": share(), "samples_per_second": number("of wall time"),
                "seconds_left": number("at this speed"),
            }),
        ),
        (
            "trained",
            json!({
                "epochs": count("gone through"), "best_epoch": count("whose weights are kept"), "reason": text("why"),
            }),
        ),
    ];
    let mut all: Vec<Value> = Vec::new();
    for (event, mut properties) in events {
        properties["run"] = text("its id");
        properties["event"] = json!({"const": event});
        all.push(with_id(object(properties)));
    }
    if let Value::Array(ends) = end()["anyOf"].take() {
        all.extend(ends.into_iter().map(with_id));
    }
    json!({"anyOf": all})
}

/// What comes of a command that is successful.
fn result(command: &str) -> Value {
    let run = || object(json!({"run": text("its id")}));
    match command {
        "label" => object(json!({
            "sample": text("its id"), "boxes": count("how many"), "holdout": {"type": "boolean"},
            "covers": or_null(texts("classes that were looked for")),
        })),
        "capture" => object(json!({"sample": text("its id")})),
        "train" => reference("end"),
        "promote" | "rollback" => {
            object(json!({"slot": count("the current one"), "sha256": text("of its file")}))
        }
        "evaluate" => with(evaluation(), "slot", count("whose model was measured")),
        "class" => object(json!({"classes": texts("what labels count in")})),
        "set" => {
            let values = |about: &str| json!({"type": "object", "description": about});
            object(json!({
                "changed": texts("the keys, with the value before and after"),
                "set": values("all that was set from afar"), "values": values("what holds, of every key that can be set"),
            }))
        }
        "export" => object(json!({"folder": text("on the device"), "pictures": count("in it")})),
        "state" => reference("state"),
        _ => run(),
    }
}

/// A command's answers.
fn answer(command: &str) -> Value {
    let answers = [
        json!({"status": {"const": "executing"}}),
        json!({"status": {"const": "successful"}, "result": result(command)}),
        json!({"status": {"const": "failed"}, "reason": text("why, and what to do")}),
    ];
    json!({"anyOf": answers.map(|answer| with_id(object(answer)))})
}

/// What an operator writes to `cmd/<command>/<cmd-id>`.
pub(super) fn init(command: &str) -> Value {
    let mut schema = capability(command);
    schema["properties"]["status"] = json!({"const": "init"});
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("status".into());
    }
    schema
}
