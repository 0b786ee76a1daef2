//! Reading a command's payload. Whatever comes in, the result is arguments, a reason for people, or
//! nothing to answer; never a panic.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::config::{COMMANDS, settable};
use crate::train::{MAX_BATCH, MAX_VIEWS};

use super::arguments::{
    CaptureArguments, EvaluateArguments, ExportArguments, LabelArguments, PromoteArguments, SetArguments,
    TrainArguments,
};
use super::classes::ClassArguments;

/// The largest payload that is read, bytes. The longest honest one, a frame with 1,000 boxes, has some
/// 100 KB.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// The longest id of a command, bytes.
const MAX_ID: usize = 128;

/// A command's arguments, checked for form.
#[derive(Debug, Clone, PartialEq)]
pub enum Arguments {
    /// Label a sample.
    Label(LabelArguments),
    /// Keep the next frame.
    Capture(CaptureArguments),
    /// Start a run.
    Train(TrainArguments),
    /// Let the run that goes on wait.
    Pause,
    /// Let it go on.
    Resume,
    /// Stop the run that goes on.
    Cancel,
    /// Make a slot current.
    Promote(PromoteArguments),
    /// Go back to the slot that was current before.
    Rollback,
    /// Measure a model on the hold-out.
    Evaluate(EvaluateArguments),
    /// Add a class, or call one otherwise.
    Class(ClassArguments),
    /// Set keys of the configuration.
    Set(SetArguments),
    /// Write the labelled samples out.
    Export(ExportArguments),
    /// Tell the state.
    State,
}

/// What a payload turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// A command to carry out.
    Init(Arguments),
    /// An answer of the daemon's own that came back, or a cleared topic: nothing to do.
    Echo,
    /// Nothing that can be carried out: the reason, and what to do.
    Bad(String),
}

/// Reads the payload of `cmd/<command>/<id>` (`id` given, with its `status`) or of
/// `request/<command>` (no id).
pub fn parse(command: &str, id: Option<&str>, payload: &[u8]) -> Payload {
    if id.is_some() && payload.is_empty() {
        return Payload::Echo;
    }
    if payload.len() > MAX_PAYLOAD {
        let length = payload.len();
        return Payload::Bad(format!("the payload has {length} bytes; at most {MAX_PAYLOAD} are read"));
    }
    let mut object = match object(payload) {
        Ok(object) => object,
        Err(reason) => return Payload::Bad(reason),
    };
    if let Some(id) = id {
        match object.remove("status") {
            Some(Value::String(status)) if status == "init" => {}
            Some(Value::String(status)) if matches!(&*status, "executing" | "successful" | "failed") => {
                return Payload::Echo;
            }
            _ => return Payload::Bad(r#"there is no "status":"init"; a command begins with it"#.into()),
        }
        if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
            return Payload::Bad(format!("the command's id must have 1 to {MAX_ID} printable bytes"));
        }
    }
    match arguments(command, object) {
        Ok(arguments) => Payload::Init(arguments),
        Err(reason) => Payload::Bad(reason),
    }
}

fn object(payload: &[u8]) -> Result<Map<String, Value>, String> {
    if payload.is_empty() {
        return Ok(Map::new());
    }
    // serde_json itself refuses nesting beyond 128 levels.
    match serde_json::from_slice(payload) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the payload is no JSON object; write {…}".into()),
        Err(error) => Err(format!("the payload is no JSON ({error})")),
    }
}

fn arguments(command: &str, object: Map<String, Value>) -> Result<Arguments, String> {
    fn read<T: DeserializeOwned>(command: &str, object: Map<String, Value>) -> Result<T, String> {
        serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
            format!("{command}: {error}; the capability on cmd/{command} says what it takes")
        })
    }
    Ok(match command {
        "label" => Arguments::Label(read(command, object)?),
        "capture" => Arguments::Capture(read(command, object)?),
        "train" => Arguments::Train(read(command, object)?),
        "promote" => Arguments::Promote(read(command, object)?),
        "evaluate" => Arguments::Evaluate(read(command, object)?),
        "class" => Arguments::Class(read(command, object)?),
        "set" => Arguments::Set(read(command, object)?),
        "export" => Arguments::Export(read(command, object)?),
        "pause" | "resume" | "cancel" | "rollback" | "state" => {
            // The same type as capture's: an object without a key.
            let CaptureArguments {} = read(command, object)?;
            match command {
                "pause" => Arguments::Pause,
                "resume" => Arguments::Resume,
                "cancel" => Arguments::Cancel,
                "rollback" => Arguments::Rollback,
                _ => Arguments::State,
            }
        }
        _ => {
            let command: String = command.chars().take(40).collect();
            return Err(format!("there is no command {command:?}; there are {}", COMMANDS.join(", ")));
        }
    })
}

/// What `cmd/<command>` announces: the JSON Schema of the command's arguments.
pub fn capability(command: &str) -> Value {
    let share = json!({"type": "number", "minimum": 0, "maximum": 1});
    let count = json!({"type": "integer", "minimum": 1});
    let (about, properties, required) = match command {
        "label" => (
            "the truth about one sample; replaces labels that it had",
            json!({
                "sample": {"type": "string", "description": "the id that event/sample gave"},
                "boxes": {"type": "array", "description": "every object on the frame", "items": {
                    "type": "object",
                    "properties": {
                        "class": {"type": ["string", "integer"], "description": "name or number"},
                        "cx": share, "cy": share, "w": share, "h": share,
                    },
                    "required": ["class", "cx", "cy", "w", "h"],
                    "additionalProperties": false,
                }},
                "covers": {
                    "type": "array", "minItems": 1, "uniqueItems": true,
                    "description": "classes that were looked for: every object of these is among the boxes",
                    "items": {"type": ["string", "integer"]},
                },
                "holdout": {"type": "boolean", "description": "measure on it rather than learn from it"},
            }),
            json!(["sample", "boxes"]),
        ),
        "capture" => ("keep the next frame, whatever is on it", json!({}), json!([])),
        "train" => (
            "start a run; what is not given is as configured",
            json!({
                "scope": {"enum": ["auto", "last", "cls", "head"]},
                "epochs": count,
                "batch": {"type": "integer", "minimum": 1, "maximum": MAX_BATCH},
                "views": {"type": "integer", "minimum": 1, "maximum": MAX_VIEWS},
                "lr": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "auto"}]},
                "seed": {"type": "integer", "minimum": 0},
                "patience": {"type": "integer", "minimum": 0},
                "max_minutes": {"type": "number", "exclusiveMinimum": 0},
            }),
            json!([]),
        ),
        "pause" => ("let the run that goes on wait where it stands", json!({}), json!([])),
        "resume" => ("let the paused run go on", json!({}), json!([])),
        "cancel" => ("stop the run that goes on; nothing is changed", json!({}), json!([])),
        "promote" => {
            ("make a slot current", json!({"slot": {"type": "integer", "minimum": 0}}), json!(["slot"]))
        }
        "evaluate" => (
            "measure a model on the hold-out; without a slot the current one",
            json!({"slot": {"type": "integer", "minimum": 0}}),
            json!([]),
        ),
        "class" => (
            "add a class that labels may use, or call one otherwise (rename and to)",
            json!({
                "add": {"type": "string", "minLength": 1, "maxLength": 64},
                "rename": {"type": "string"},
                "to": {"type": "string", "minLength": 1, "maxLength": 64},
            }),
            json!([]),
        ),
        "set" => (
            "set keys of the configuration; null gives a key back to the device's own",
            json!({"keys": {
                "type": "object",
                "properties": settable().map(|key| (key.name, json!({"description": key.says}))).collect::<BTreeMap<_, _>>(),
                "additionalProperties": false,
            }}),
            json!([]),
        ),
        "export" => (
            "write the labelled samples into a folder on the device",
            json!({"format": {"enum": ["yolo", "coco"]}}),
            json!([]),
        ),
        "rollback" => ("go back to the slot that was current before", json!({}), json!([])),
        _ => ("tell the state", json!({}), json!([])),
    };
    json!({
        "title": command,
        "description": about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(command: &str, id: Option<&str>, payload: &str) -> String {
        match parse(command, id, payload.as_bytes()) {
            Payload::Bad(reason) => reason,
            other => panic!("{payload} is {other:?}"),
        }
    }

    #[test]
    fn a_command_is_read() {
        let payload = r#"{"status":"init","epochs":3,"scope":"cls"}"#;
        let Payload::Init(Arguments::Train(arguments)) = parse("train", Some("1"), payload.as_bytes()) else {
            panic!("no train");
        };
        assert_eq!(arguments.epochs, Some(3));
        assert_eq!(parse("state", None, b""), Payload::Init(Arguments::State));
    }

    #[test]
    fn the_daemons_own_answers_are_not_answered() {
        for payload in [r#"{"status":"executing"}"#, r#"{"status":"failed","reason":"x"}"#, ""] {
            assert_eq!(parse("train", Some("1"), payload.as_bytes()), Payload::Echo);
        }
    }

    #[test]
    fn what_cant_be_carried_out_gets_a_reason() {
        assert!(reason("train", Some("1"), r#"{"status":"init","epoch":3}"#).contains("epoch"));
        assert!(reason("train", Some("1"), "{}").contains("init"));
        assert!(reason("train", Some("1"), "[1]").contains("object"));
        assert!(reason("train", Some("1"), "{\"status\":").contains("JSON"));
        assert!(reason("fly", None, "{}").contains("label"));
        assert!(reason("label", None, "{}").contains("sample"));
        assert!(reason("cancel", None, r#"{"a":1}"#).contains('a'));
        assert!(reason("state", None, &"[".repeat(100_000)).contains("JSON"));
        assert!(reason("state", None, &" ".repeat(MAX_PAYLOAD + 1)).contains("bytes"));
        assert!(reason("state", Some(&"x".repeat(200)), r#"{"status":"init"}"#).contains("id"));
    }

    #[test]
    fn every_command_is_announced_and_known() {
        for command in COMMANDS {
            assert_eq!(capability(command)["title"], command);
            let known =
                !matches!(parse(command, None, b"{}"), Payload::Bad(reason) if reason.contains("no command"));
            assert!(known, "{command}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(command in "[a-z]{0,8}", payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&command, Some("1"), &payload);
            parse(&command, None, &payload);
        }
    }
}
