//! Does a value fit a JSON Schema? The keywords that graftd's schemas use; another one is an error, so that none is
//! passed over in silence.

#![allow(dead_code, reason = "each test file uses a part of this")]

use serde_json::Value;

/// The first thing that does not fit, with its place. References lead into `root`.
pub fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    fault_at(root, "", schema, value)
}

fn fault_at(root: &Value, place: &str, schema: &Value, value: &Value) -> Option<String> {
    let rules = schema.as_object().expect("a schema is an object");
    rules.iter().find_map(|(keyword, rule)| {
        let wrong = |words: String| Some(format!("{}: {words}", if place.is_empty() { "/" } else { place }));
        let number = value.as_f64();
        let fits = match keyword.as_str() {
            "title" | "description" | "format" => true,
            "$ref" => {
                let place_of = rule.as_str().and_then(|reference| reference.strip_prefix('#'));
                let schema = place_of.and_then(|place| root.pointer(place));
                return fault_at(root, place, schema.expect("a reference leads somewhere"), value);
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|kind| is_of(kind, value)),
                kind => is_of(kind, value),
            },
            "const" => value == rule,
            "enum" => rule.as_array().expect("a list").contains(value),
            "minimum" => number.is_none_or(|number| number >= rule.as_f64().expect("a number")),
            "maximum" => number.is_none_or(|number| number <= rule.as_f64().expect("a number")),
            "exclusiveMinimum" => number.is_none_or(|number| number > rule.as_f64().expect("a number")),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "uniqueItems" => value
                .as_array()
                .is_none_or(|items| items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))),
            "anyOf" => {
                let faults: Option<Vec<String>> = rule
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|one| fault_at(root, place, one, value))
                    .collect();
                return faults.map(|faults| format!("none of: {}", faults.join(" | ")));
            }
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().expect("a number")),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().expect("a number")),
            "required" => {
                let missing = rule
                    .as_array()
                    .expect("a list")
                    .iter()
                    .find(|key| value.is_object() && value.get(key.as_str().expect("a name")).is_none());
                return missing.and_then(|key| wrong(format!("{key} is missing")));
            }
            "properties" => {
                return rule.as_object().expect("an object").iter().find_map(|(key, schema)| {
                    fault_at(root, &format!("{place}/{key}"), schema, value.get(key)?)
                });
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                let known = schema["properties"].as_object();
                let more = value.as_object().and_then(|keys| {
                    keys.keys().find(|key| known.is_none_or(|known| !known.contains_key(*key)))
                });
                return more.and_then(|key| wrong(format!("{key} is not known")));
            }
            "items" => {
                return value
                    .as_array()?
                    .iter()
                    .enumerate()
                    .find_map(|(index, item)| fault_at(root, &format!("{place}/{index}"), rule, item));
            }
            other => panic!("the keyword {other} is not known here"),
        };
        if fits { None } else { wrong(format!("{value} against {keyword} {rule}")) }
    })
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("there is no type {other}"),
    }
}
