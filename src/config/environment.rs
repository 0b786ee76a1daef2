//! Overrides by environment variables: `GRAFTD_CAMERA__FPS=2` is `camera.fps = 2`.
//!
//! Other variables begin with `GRAFTD_` too and are none of ours: only names whose first part is a table or a
//! key that stands above the tables count, and those with `__`, which no other has.

use std::ffi::OsString;

use toml::de::DeValue;

use super::document::{self, Entry};
use super::keys::{self, KEYS, Key};
use super::origin::{Fault, Origin};
use super::suggest::{self, Meant};
use super::values;

const PREFIX: &str = "GRAFTD_";

/// The variable that overrides a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Variables that are about the configuration.
#[derive(Default)]
pub(super) struct Overrides {
    /// Key, name and text.
    pub found: Vec<(&'static Key, String, String)>,
    /// Those that can only be meant for us and can't be taken.
    pub faults: Vec<Fault>,
    /// Those that may be meant for us.
    pub warnings: Vec<Fault>,
}

/// Looks for overrides among variables.
pub(super) fn sort(variables: impl Iterator<Item = (OsString, OsString)>) -> Overrides {
    let mut sorted = Overrides::default();
    let mut ours: Vec<(String, OsString)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();
    for (name, value) in ours {
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        let fault = |message| Fault { place: Origin::Variable(name.clone()), key: None, message };
        match keys::find(&key) {
            // Names are written in capitals; others are other variables.
            Some(known) if name == variable(known.name) => match value.into_string() {
                Ok(text) => sorted.found.push((known, name, text)),
                Err(_) => sorted.faults.push(fault("its value is no UTF-8".into())),
            },
            _ if keys::is_table(&key) => {
                let of = suggest::keys_of(known_table(&key))
                    .next()
                    .map_or(String::new(), |key| variable(key.name));
                let message = format!("this is a table; name a key of it, as {of} does");
                sorted.faults.push(fault(message));
            }
            _ if key.contains('.') => sorted.faults.push(fault(unknown(&key))),
            _ => {
                // One underscore where two belong, or a slip in a key that has none.
                let flat = |known: &&Key| known.name.replace('.', "_") == key;
                let near = || match suggest::meant(&key) {
                    Meant::Key(known) if !known.name.contains('.') => Some(known),
                    _ => None,
                };
                if let Some(known) = KEYS.iter().find(flat).or_else(near) {
                    let message = format!("this is not looked at; did you mean {}?", variable(known.name));
                    sorted.warnings.push(fault(message));
                }
            }
        }
    }
    sorted
}

fn known_table(name: &str) -> &'static str {
    keys::TABLES.iter().map(|(table, _)| *table).find(|table| *table == name).unwrap_or_default()
}

fn unknown(key: &str) -> String {
    match suggest::meant(key) {
        Meant::Key(known) => format!("there is no such key; did you mean {}?", variable(known.name)),
        Meant::NoneOf(table) => {
            format!("[{table}] has no such key; its keys are {}", document::names(table))
        }
        Meant::Table(table) => format!("there is no such table; did you mean [{table}]?"),
        Meant::Nothing => format!("there is no such table; there are {}", document::tables()),
    }
}

/// The value of an override as its key takes it: the text as it is, or what the text is in TOML.
pub(super) fn entry<'t>(key: &'static Key, name: &str, text: &'t str) -> Result<Entry<'t>, Fault> {
    let origin = Origin::Variable(name.to_owned());
    let string = DeValue::String(text.into());
    let Err(message) = document::typed([(key.name, string.clone())].into_iter()) else {
        return Ok(Entry { key, value: string, origin });
    };
    let message = match DeValue::parse(text).map(toml::Spanned::into_inner) {
        Ok(value) => match document::typed([(key.name, value.clone())].into_iter()) {
            Ok(_) => return Ok(Entry { key, value, origin }),
            Err(message) => message,
        },
        Err(_) => message,
    };
    let message = format!("{}{}", values::hide_in(key, text, &message), super::load::advice(key));
    Err(Fault { place: origin, key: Some(key.name.into()), message })
}
