//! From a file and the environment to a checked configuration that knows where each value comes from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::document::{self, Entry};
use super::environment;
use super::keys::{KEYS, Key};
use super::origin::{Fault, Origin};
use super::values;
use super::{Config, ConfigError};

/// A configuration and where its values come from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What looks like a slip and is no error.
    pub warnings: Vec<Fault>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Loaded {
    /// Reads a file, if any, and lays these environment variables over it. Relative paths in both are relative
    /// to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong.
    pub fn read(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigError> {
        let text = match file {
            Some(path) => fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
            None => String::new(),
        };
        let (mut entries, mut faults) = match file {
            Some(path) => document::read(path, &text),
            None => (Vec::new(), Vec::new()),
        };
        entries.retain(|entry| match typed(entry) {
            Ok(()) => true,
            Err(fault) => {
                faults.push(fault);
                false
            }
        });
        let overrides = environment::sort(variables);
        faults.extend(overrides.faults);
        for (key, name, text) in &overrides.found {
            match environment::entry(key, name, text) {
                Ok(entry) => {
                    entries.retain(|older| older.key != *key && Some(older.key.name) != key.instead);
                    entries.retain(|older| older.key.instead != Some(key.name));
                    entries.push(entry);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let origins = entries.iter().map(|entry| (entry.key.name, entry.origin.clone())).collect();
        let whole = file.map_or(Origin::Default, |path| Origin::File { path: path.to_owned(), at: None });
        let values = entries.into_iter().map(|entry| (entry.key.name, entry.value));
        let mut loaded = match document::typed(values) {
            Ok(config) => {
                Loaded { config, warnings: overrides.warnings, file: file.map(Path::to_owned), origins }
            }
            Err(message) => {
                faults.push(Fault { place: whole, key: None, message });
                return Err(ConfigError::Faults(faults));
            }
        };
        for (key, message) in loaded.config.faults() {
            let place = match loaded.origin(key) {
                Origin::Default => whole.clone(),
                origin => origin.clone(),
            };
            faults.push(Fault { place, key: Some(key.to_owned()), message });
        }
        if !faults.is_empty() {
            // As they stand in the file; the first is often the cause of others.
            faults.sort_by_key(|fault| match fault.place {
                Origin::File { at, .. } => (0, at),
                _ => (1, None),
            });
            return Err(ConfigError::Faults(faults));
        }
        if let Some(folder) = file.and_then(Path::parent) {
            loaded.config.paths_from(folder);
        }
        for key in KEYS {
            if let Some(instead) = key.instead
                && let Some(origin) = loaded.origins.remove(key.name)
            {
                loaded.origins.insert(instead, origin);
            }
        }
        Ok(loaded)
    }

    /// These keys have been set from afar.
    pub(super) fn take(&mut self, config: Config, keys: impl Iterator<Item = &'static str>) {
        self.config = config;
        self.origins.extend(keys.map(|key| (key, Origin::Set)));
    }

    /// Where the value of a key comes from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Puts the state where an option of the command line says.
    pub fn set_state_dir(&mut self, option: &'static str, state_dir: PathBuf) {
        self.config.state_dir = state_dir;
        self.origins.insert("state_dir", Origin::Option(option));
    }

    /// Every key that is in use with its value and where that comes from, in the order of the file. What
    /// may be a secret is hidden.
    pub fn values(&self) -> Vec<(&'static Key, serde_json::Value, &Origin)> {
        let values = values::of(&self.config);
        let current = KEYS.iter().filter(|key| key.instead.is_none());
        current
            .map(|key| {
                let value = values.get(key.name).cloned().unwrap_or_default();
                (key, values::hidden(key, value), self.origin(key.name))
            })
            .collect()
    }
}

/// Whether the struct takes this key's value.
fn typed(entry: &Entry) -> Result<(), Fault> {
    let Entry { key, value, origin } = entry;
    document::typed([(key.name, value.clone())].into_iter()).map(drop).map_err(|message| {
        let message = match value {
            DeValue::String(text) => values::hide_in(key, text, &message),
            _ => message,
        };
        Fault {
            place: origin.clone(),
            key: Some(key.name.into()),
            message: format!("{message}{}", advice(key)),
        }
    })
}

/// What the value looks like that the key takes.
pub(super) fn advice(key: &Key) -> String {
    let default = values::of(&Config::default()).remove(key.name).filter(|value| !value.is_null());
    let sample = default.map_or_else(|| key.sample.to_owned(), |value| values::as_toml(&value));
    format!("; write it as in `{} = {sample}`", key.parted().1)
}

impl Config {
    /// Reads and checks a file and lays the environment over it. Relative paths in them are relative to
    /// the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`], with file, line or key, and what to do.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let loaded = Loaded::read(Some(path), std::env::vars_os())?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded.config)
    }
}
