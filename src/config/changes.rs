//! What a new configuration changes, and what of it can be applied while the daemon runs.

use std::fmt;

use super::Config;
use super::keys::{KEYS, Key};
use super::values;

/// One key whose value is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: &'static Key,
    /// The old value as TOML, without secrets; none where there was none.
    pub before: Option<String>,
    /// The new value.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Option<String>| value.clone().unwrap_or("nothing".into());
        write!(f, "{}: {} → {}", self.key.name, word(&self.before), word(&self.after))
    }
}

/// All keys whose values differ between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that can be applied while the daemon runs.
    pub live: Vec<Change>,
    /// Those that a restart alone applies.
    pub restart: Vec<Change>,
}

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }

    /// Whether a key of this table can be applied and has changed: `camera`, or `camera.fps` for one key.
    pub fn touches(&self, name: &str) -> bool {
        let within = |key: &Key| {
            key.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.live.iter().any(|change| within(change.key))
    }
}

impl Config {
    /// What is another in `new`.
    pub fn changes_to(&self, new: &Config) -> Changes {
        let (mut before, mut after) = (values::of(self), values::of(new));
        let mut changes = Changes::default();
        for key in KEYS {
            let [before, after] =
                [&mut before, &mut after].map(|values| values.remove(key.name).unwrap_or_default());
            if before == after {
                continue;
            }
            let [before, after] = [before, after]
                .map(|value| (!value.is_null()).then(|| values::as_toml(&values::hidden(key, value))));
            let change = Change { key, before, after };
            if key.live { changes.live.push(change) } else { changes.restart.push(change) }
        }
        changes
    }

    /// This configuration with all of `new` that can be applied while the daemon runs.
    pub fn with_live_of(&self, new: &Config) -> Config {
        let (mut merged, mut new) = (values::json(self), values::json(new));
        for key in KEYS.iter().filter(|key| key.live) {
            let place = format!("/{}", key.name.replace('.', "/"));
            if let (Some(old), Some(new)) = (merged.pointer_mut(&place), new.pointer_mut(&place)) {
                *old = new.take();
            }
        }
        let mut merged: Config = serde_json::from_value(merged).expect("what was written is read");
        // No path is live but the camera's, and one that is no UTF-8 was not written as it is.
        for (path, own) in merged.paths().zip(self.clone().paths()) {
            path.clone_from(own);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed() -> (Config, Config) {
        let old = Config::default();
        let mut new = old.clone();
        new.camera.source = Some("http://me:secret@cam/stream".parse().expect("a source"));
        new.train.options.epochs = 7;
        new.detect.iou = 0.55;
        new.mqtt.root = Some("farm/7".into());
        (old, new)
    }

    #[test]
    fn what_differs_is_listed_with_what_it_takes() {
        let (old, new) = changed();
        let changes = old.changes_to(&new);
        let said = |changes: &[Change]| changes.iter().map(Change::to_string).collect::<Vec<_>>();
        assert_eq!(
            said(&changes.live),
            [
                "camera.source: nothing → \"http://cam/stream\"",
                "detect.iou: 0.7 → 0.55",
                "train.epochs: 40 → 7"
            ]
        );
        assert_eq!(said(&changes.restart), ["mqtt.root: nothing → \"farm/7\""]);
        assert!(changes.touches("camera") && changes.touches("train.epochs") && !changes.touches("select"));
        assert!(!changes.touches("mqtt"), "it can't be applied");
        assert!(old.changes_to(&old).is_empty() && !changes.is_empty());
    }

    #[test]
    fn what_is_live_can_be_taken_alone() {
        let (old, new) = changed();
        let merged = old.with_live_of(&new);
        assert_eq!(merged, Config { mqtt: old.mqtt.clone(), ..new.clone() });
        assert!(merged.changes_to(&new).live.is_empty());
        assert_eq!(old.with_live_of(&old), old);
    }
}
