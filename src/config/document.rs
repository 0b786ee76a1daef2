//! A TOML file as keys with their places.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::Config;
use super::keys::{self, Key};
use super::origin::{Fault, Origin};
use super::suggest::{self, Meant};

/// A key that somebody has written, with its value.
pub(super) struct Entry<'t> {
    pub key: &'static Key,
    pub value: DeValue<'t>,
    pub origin: Origin,
}

/// Takes a file apart: the keys that there are, and what is wrong with the others.
pub(super) fn read<'t>(path: &Path, text: &'t str) -> (Vec<Entry<'t>>, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading { path, text, entries: Vec::new(), faults: Vec::new() };
    for error in errors {
        let origin = reading.at(&error.span().unwrap_or_default());
        let message = format!("this is no TOML: {}", error.message());
        reading.faults.push(Fault { place: origin, key: None, message });
    }
    // What follows a slip may be anything; its faults would only distract.
    if reading.faults.is_empty() {
        reading.walk("", table.into_inner());
    }
    (reading.entries, reading.faults)
}

struct Reading<'a, 't> {
    path: &'a Path,
    text: &'t str,
    entries: Vec<Entry<'t>>,
    faults: Vec<Fault>,
}

impl<'t> Reading<'_, 't> {
    fn at(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let column = 1 + before.chars().rev().take_while(|&c| c != '\n').count();
        let line = 1 + before.matches('\n').count();
        Origin::File { path: self.path.to_owned(), at: Some((line, column)) }
    }

    fn walk(&mut self, table: &str, entries: DeTable<'t>) {
        // In the order of the file, because the first fault is often the cause of others.
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let origin = self.at(&name.span());
            let key = below(table, name.get_ref());
            let value = value.into_inner();
            if let Some(key) = keys::find(&key) {
                self.entries.push(Entry { key, value, origin });
                continue;
            }
            let message = match value {
                DeValue::Table(entries) if keys::is_table(&key) => {
                    self.walk(&key, entries);
                    continue;
                }
                _ if keys::is_table(&key) => {
                    format!("this is a table; write [{key}] and its keys below that")
                }
                DeValue::Table(_) => unknown_table(&key),
                _ => unknown_key(&key),
            };
            self.faults.push(Fault { place: origin, key: Some(key), message });
        }
    }
}

fn below(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

fn unknown_table(name: &str) -> String {
    match suggest::meant_table(name) {
        Some(table) => format!("there is no such table; did you mean `[{table}]`?"),
        None => format!("there is no such table; there are {}", tables()),
    }
}

fn unknown_key(name: &str) -> String {
    let (table, last) = name.rsplit_once('.').unwrap_or(("", name));
    let whose = place(table);
    match suggest::meant(name) {
        Meant::Key(key) => {
            let (other, meant) = key.parted();
            match (other == table, meant == last) {
                (true, _) => format!("{whose} has no such key; did you mean `{meant}`?"),
                (false, true) => format!("{whose} has no such key; it belongs {}", into(other)),
                (false, false) => {
                    format!("{whose} has no such key; did you mean `{meant}`, {}?", into(other))
                }
            }
        }
        Meant::Table(table) => format!("there is no such table; did you mean `[{table}]`?"),
        Meant::NoneOf(table) => format!("{whose} has no such key; its keys are {}", names(table)),
        Meant::Nothing => format!("there is no such table; there are {}", tables()),
    }
}

fn place(table: &str) -> String {
    if table.is_empty() { "the place above all tables".into() } else { format!("[{table}]") }
}

fn into(table: &str) -> String {
    if table.is_empty() { "above all tables".into() } else { format!("below [{table}]") }
}

/// The keys of a table, for people.
pub(super) fn names(table: &'static str) -> String {
    suggest::keys_of(table).map(|key| key.parted().1).collect::<Vec<_>>().join(", ")
}

/// The tables, for people.
pub(super) fn tables() -> String {
    let names = keys::TABLES.iter().filter(|(table, _)| !table.is_empty());
    names.map(|(table, _)| format!("[{table}]")).collect::<Vec<_>>().join(", ")
}

/// The configuration that says this and nothing else.
///
/// # Errors
/// What the struct says of the first value that it does not take.
pub(super) fn typed<'t>(entries: impl Iterator<Item = (&'t str, DeValue<'t>)>) -> Result<Config, String> {
    let mut root = DeTable::new();
    for (key, value) in entries {
        insert(&mut root, key, value);
    }
    Config::deserialize(Deserializer::from(Spanned::new(0..0, root)))
        .map_err(|error| error.message().to_owned())
}

fn insert<'t>(table: &mut DeTable<'t>, key: &'t str, value: DeValue<'t>) {
    let spanned = |name: &'t str| Spanned::new(0..0, name.into());
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(spanned(key), Spanned::new(0..0, value));
        return;
    };
    let below =
        table.entry(spanned(first)).or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
    match below.get_mut() {
        DeValue::Table(table) => insert(table, rest, value),
        _ => unreachable!("no key is a table too, as a test of keys.rs holds"),
    }
}
