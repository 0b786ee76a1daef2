//! Values that an operator has set from afar (`cmd/set`). They lie over the file, and below the environment and the
//! command line, which whoever stands at the device has chosen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::{self, KEYS, Key};
use super::origin::{Fault, Origin};
use super::suggest::{self, Meant};
use super::{Config, Loaded, values};
use crate::files;

/// Values by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Remote {
    values: BTreeMap<String, Value>,
}

impl Key {
    /// Whether it can be set from afar: how to see, choose and learn, but neither where frames come from nor who may
    /// do what.
    pub fn is_settable(&self) -> bool {
        let table = self.parted().0;
        let is_about_seeing = matches!(table, "detect" | "select" | "train") || self.name == "camera.fps";
        self.live && is_about_seeing && self.name != "train.allow_remote"
    }
}

/// The keys that can be set from afar.
pub fn settable() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.is_settable())
}

impl Remote {
    /// The file of a device whose state lies there.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("set.json")
    }

    /// What was set on a device; nothing where there is no such file.
    ///
    /// # Errors
    /// When the file can't be read, with what to do.
    pub fn load(state_dir: &Path) -> Result<Remote, Fault> {
        let path = Remote::path(state_dir);
        let fault = |message| {
            let place = Origin::File { path: path.clone(), at: None };
            Fault {
                place,
                key: None,
                message: format!("{message}; what was set from afar is not in force: set it again"),
            }
        };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Remote::default()),
            Err(error) => Err(fault(error.to_string())),
        }
    }

    /// Writes it down; survives a power cut when it returns.
    ///
    /// # Errors
    /// When the disk fails; what was there stays.
    pub fn save(&self, state_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("plain values can be written");
        files::publish(&Remote::path(state_dir), &text)
    }

    /// Sets a key; null gives it back to the file.
    ///
    /// # Errors
    /// That there is no such key, or that it can't be set from afar.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), String> {
        let Some(key) = keys::find(name) else {
            let name: String = name.chars().take(60).collect();
            return Err(match suggest::meant(&name) {
                Meant::Key(key) => format!("there is no key {name:?}; did you mean {:?}?", key.name),
                _ => format!("there is no key {name:?}; the capability on cmd/set lists them"),
            });
        };
        if !key.is_settable() {
            return Err(format!(
                "{name} can't be set from afar, only in the device's configuration; the capability on cmd/set \
                 lists what can"
            ));
        }
        match value {
            Value::Null => self.values.remove(name),
            value => self.values.insert(name.to_owned(), value),
        };
        Ok(())
    }
}

impl Config {
    /// The values of all keys that can be set from afar.
    pub fn settable_values(&self) -> BTreeMap<&'static str, Value> {
        let mut values = values::of(self);
        settable().map(|key| (key.name, values.remove(key.name).unwrap_or_default())).collect()
    }

    /// This configuration with what was set from afar over it, and what of that is not in force. `fixed` says
    /// where a key's value comes from that nothing from afar can change.
    pub fn with_remote(
        &self,
        remote: &Remote,
        fixed: impl Fn(&str) -> Option<Origin>,
    ) -> (Config, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut merged = self.clone();
        for (name, value) in &remote.values {
            let fault = |place, message| Fault { place, key: Some(name.clone()), message };
            if let Some(place) = fixed(name) {
                faults.push(fault(place, "this holds on the device, whatever is set from afar".into()));
                continue;
            }
            let mut json = values::json(&merged);
            let place = format!("/{}", name.replace('.', "/"));
            match json.pointer_mut(&place) {
                Some(old) if keys::find(name).is_some_and(Key::is_settable) => *old = value.clone(),
                _ => {
                    faults.push(fault(Origin::Set, "there is no such key to set from afar".into()));
                    continue;
                }
            }
            match serde_json::from_value::<Config>(json) {
                // Everything else stays as it is, paths that are no UTF-8 too.
                Ok(new) => merged = merged.with_live_of(&new),
                Err(error) => faults.push(fault(Origin::Set, error.to_string())),
            }
        }
        let wrong = merged.faults();
        if wrong.is_empty() {
            return (merged, faults);
        }
        // Two keys may be wrong only together.
        let of =
            |(key, message): (&str, String)| Fault { place: Origin::Set, key: Some(key.into()), message };
        faults.extend(wrong.into_iter().map(of));
        (self.clone(), faults)
    }
}

impl Loaded {
    /// Lays what was set from afar over the file; gives what of that is not in force.
    pub fn lay_over(&mut self, remote: &Remote) -> Vec<Fault> {
        let fixed = |name: &str| match self.origin(name) {
            origin @ (Origin::Variable(_) | Origin::Option(_)) => Some(origin.clone()),
            _ => None,
        };
        let (config, faults) = self.config.with_remote(remote, fixed);
        let changes = self.config.changes_to(&config);
        self.take(config, changes.live.iter().map(|change| change.key.name));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn remote(values: &[(&str, Value)]) -> Remote {
        let mut remote = Remote::default();
        for (name, value) in values {
            remote.set(name, value.clone()).expect("a settable key");
        }
        remote
    }

    #[test]
    fn what_is_set_lies_over_the_file_and_null_gives_it_back() {
        let mut set = remote(&[("detect.confidence", json!(0.4)), ("train.when", json!("02:00-05:00"))]);
        let (config, faults) = Config::default().with_remote(&set, |_| None);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(config.detect.confidence, 0.4);
        assert!(config.train.schedule.when.is_some());
        set.set("detect.confidence", Value::Null).expect("a settable key");
        let (config, _) = Config::default().with_remote(&set, |_| None);
        assert_eq!(config.detect.confidence, Config::default().detect.confidence);
    }

    #[test]
    fn what_nobody_may_set_from_afar_is_refused() {
        let mut remote = Remote::default();
        for name in ["camera.source", "train.allow_remote", "mqtt.broker", "state_dir", "api.listen"] {
            let error = remote.set(name, json!("x")).expect_err("not settable");
            assert!(error.contains("only in the device's configuration"), "{error}");
        }
        assert!(remote.set("train.epoch", json!(1)).expect_err("a slip").contains("train.epochs"));
        assert_eq!(remote, Remote::default());
    }

    #[test]
    fn a_wrong_value_is_named_and_not_in_force() {
        for (values, key) in [
            (vec![("detect.iou", json!("much"))], "detect.iou"),
            (vec![("detect.iou", json!(7))], "detect.iou"),
            (vec![("train.epochs", json!(0))], "train.epochs"),
            (vec![("train.when", json!("at night"))], "train.when"),
        ] {
            let (config, faults) = Config::default().with_remote(&remote(&values), |_| None);
            assert_eq!(faults[0].key.as_deref(), Some(key));
            assert_eq!(config, Config::default());
        }
        let fixed =
            |name: &str| (name == "detect.iou").then(|| Origin::Variable("GRAFTD_DETECT__IOU".into()));
        let set = remote(&[("detect.iou", json!(0.5)), ("train.epochs", json!(3))]);
        let (config, faults) = Config::default().with_remote(&set, fixed);
        assert_eq!((config.detect.iou, config.train.options.epochs), (Config::default().detect.iou, 3));
        assert!(faults[0].to_string().starts_with("GRAFTD_DETECT__IOU: detect.iou"), "{}", faults[0]);
    }

    #[test]
    fn it_is_there_after_a_restart_and_a_damaged_file_is_said() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(Remote::load(dir.path()), Ok(Remote::default()));
        let set = remote(&[("train.epochs", json!(3))]);
        set.save(dir.path()).expect("saved");
        assert_eq!(Remote::load(dir.path()), Ok(set));
        fs::write(Remote::path(dir.path()), b"{").expect("written");
        assert!(Remote::load(dir.path()).expect_err("damaged").to_string().contains("set.json"));
    }
}
