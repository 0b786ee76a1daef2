//! A configuration as keys and values: to be shown, compared and written down.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::capture;

use super::Config;
use super::keys::{self, Hide, Key};

/// All values by key, with the tables in the name; null where there is none.
pub(super) fn of(config: &Config) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    take_apart("", json(config), &mut values);
    values
}

/// All of it as JSON.
pub(super) fn json(config: &Config) -> Value {
    let mut config = config.clone();
    for path in config.paths() {
        // What is no UTF-8 can't be written; it can only come from the command line.
        if path.to_str().is_none() {
            *path = path.to_string_lossy().into_owned().into();
        }
    }
    serde_json::to_value(config).expect("a configuration of UTF-8 can be written")
}

fn take_apart(name: &str, value: Value, values: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) if name.is_empty() || keys::is_table(name) => {
            for (key, value) in entries {
                let below = if name.is_empty() { key } else { format!("{name}.{key}") };
                take_apart(&below, value, values);
            }
        }
        value => {
            values.insert(name.to_owned(), short(value));
        }
    }
}

/// A single number that became a double has digits that nobody wrote: 0.1 is 0.10000000149011612.
fn short(value: Value) -> Value {
    match value.as_f64() {
        Some(double) if value.is_f64() && f64::from(double as f32) == double => {
            let shorter = (double as f32).to_string().parse().ok().and_then(Number::from_f64);
            shorter.map_or(value, Value::Number)
        }
        _ => value,
    }
}

/// A value as TOML.
pub fn as_toml(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", ")),
        // JSON's numbers and words are TOML's too.
        value => value.to_string(),
    }
}

/// A value without what is shown to nobody.
pub(super) fn hidden(key: &Key, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(hide(key, &text)),
        value if key.hide == Hide::All && !value.is_null() => Value::String("…".into()),
        value => value,
    }
}

fn hide(key: &Key, text: &str) -> String {
    match key.hide {
        Hide::Nothing => text.to_owned(),
        Hide::User => capture::redacted(text),
        Hide::All => "…".to_owned(),
    }
}

/// A message about a text that was refused, without what may be a secret in it. Whoever wrote a
/// password where none belongs has written a password all the same.
pub(super) fn hide_in(key: &Key, text: &str, message: &str) -> String {
    let shown = if key.hide == Hide::All { "…".to_owned() } else { capture::redacted(text) };
    let quoted = format!("{text:?}");
    let message = message.replace(&quoted, &format!("{shown:?}"));
    if text.is_empty() { message } else { message.replace(text, &shown) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn numbers_are_shown_as_they_were_written() {
        let values = of(&Config::default());
        assert_eq!(as_toml(&values["select.unsure_from"]), "0.1");
        assert_eq!(as_toml(&values["train.weight_decay"]), "0.0005");
        assert_eq!(as_toml(&values["camera.fps"]), "1.0");
        assert_eq!(as_toml(&serde_json::json!([1, 2])), "[1, 2]");
        assert_eq!(as_toml(&serde_json::json!("a \"b\"")).parse::<::toml::Value>().map(|_| ()), Ok(()));
    }

    #[test]
    fn a_secret_is_neither_shown_nor_quoted() {
        let plain = KEYS[0];
        let [all, user] = [Hide::All, Hide::User].map(|hide| Key { hide, ..plain });
        let secret = "mqtt://me:s\"ecret@box";
        for (key, message) in [
            (&plain, format!("{secret:?} is no broker")),
            (&user, format!("{secret} is no broker")),
            (&all, format!("invalid value: string {secret:?}")),
        ] {
            let shown = hide_in(key, secret, &message);
            assert!(!shown.contains("ecret"), "{shown}");
        }
        assert_eq!(hidden(&all, "token".into()), "…");
        assert_eq!(hidden(&all, Value::Null), Value::Null);
        assert_eq!(hidden(&user, "http://a:b@cam/x?p=q".into()), "http://cam/x?…");
        assert_eq!(hidden(&plain, "mqtt://me@box".into()), "mqtt://me@box");
    }
}
