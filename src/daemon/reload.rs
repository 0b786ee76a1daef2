//! A new configuration while the daemon runs: all of it that can be applied is, or nothing where it is wrong.

use serde_json::{Value, json};

use crate::config::{Changes, Config, Fault, Origin, Remote};
use crate::mqtt::SetArguments;
use crate::select::Selector;

use super::core::Core;
use super::{heart, looks};

/// Reads the configuration again and lays what was set from afar over it; gives what of that is not in force. The
/// error says what is wrong with the configuration.
pub type Read = Box<dyn Fn(&Remote) -> Result<(Config, Vec<Fault>), String> + Send>;

/// The configuration at the start with what was set from afar, and what of that is not in force. A device must
/// start whatever was set.
pub(super) fn at_start(config: Config, read: &Read) -> (Config, Remote, Vec<String>) {
    let (remote, mut faults) = match Remote::load(&config.state_dir) {
        Ok(remote) => (remote, Vec::new()),
        Err(fault) => (Remote::default(), vec![fault.to_string()]),
    };
    let config = match read(&remote) {
        Ok((config, wrong)) => {
            faults.extend(of_remote(wrong));
            config
        }
        Err(reason) => {
            faults.push(reason);
            config
        }
    };
    for fault in &faults {
        tracing::error!("{fault}");
    }
    (config, remote, faults)
}

/// Where the device's own configuration has the last word nothing is wrong.
fn of_remote(faults: Vec<Fault>) -> impl Iterator<Item = String> {
    faults.into_iter().filter(|fault| fault.place == Origin::Set).map(|fault| fault.to_string())
}

impl Core {
    /// Somebody says that the configuration has changed.
    pub(super) fn reload(&mut self) {
        heart::reloading();
        self.config_faults = match (self.read_config)(&self.remote) {
            Err(reason) => {
                tracing::error!("the configuration stays as it was: {reason}");
                vec![format!("the new configuration is not taken: {reason}")]
            }
            Ok((new, faults)) => {
                let changes = self.take_over(&new);
                let restart = changes.restart.iter();
                let restart = restart.map(|change| format!("{change}: this needs a restart of graftd"));
                of_remote(faults).chain(restart).collect()
            }
        };
        heart::ready();
    }

    /// `cmd/set`.
    pub(super) fn set(&mut self, arguments: &SetArguments) -> Result<Value, String> {
        let mut remote = self.remote.clone();
        for (name, value) in &arguments.keys {
            if name.starts_with("train.") && !self.config.train.allow_remote {
                return Err(format!("{name}: this device's runs are its own affair (train.allow_remote)"));
            }
            remote.set(name, value.clone())?;
        }
        let mut changes = Changes::default();
        if remote != self.remote {
            let (new, faults) = (self.read_config)(&remote)?;
            // What was set earlier may be overruled on the device since.
            let is_about_this = |fault: &&Fault| {
                fault.place == Origin::Set
                    || fault.key.as_ref().is_some_and(|key| arguments.keys.contains_key(key))
            };
            if let Some(fault) = faults.iter().find(is_about_this) {
                return Err(format!("{fault}; nothing is changed"));
            }
            remote.save(&self.config.state_dir).map_err(|error| {
                format!("{}: {error}; nothing is changed", Remote::path(&self.config.state_dir).display())
            })?;
            self.remote = remote;
            changes = self.take_over(&new);
        }
        let changed: Vec<String> = changes.live.iter().map(ToString::to_string).collect();
        Ok(json!({"changed": changed, "set": self.remote, "values": self.config.settable_values()}))
    }

    /// Takes over of a new configuration what can be without a restart.
    fn take_over(&mut self, new: &Config) -> Changes {
        let changes = self.config.changes_to(new);
        for change in &changes.live {
            tracing::info!("{change}");
        }
        for change in &changes.restart {
            tracing::warn!("{change}: this needs a restart");
        }
        self.config = self.config.with_live_of(new);
        self.apply(&changes);
        self.follow_schedule();
        self.state_changed();
        changes
    }

    /// What is not looked up where it is used.
    fn apply(&mut self, changes: &Changes) {
        if changes.touches("camera")
            && let Err(error) = self.watch()
        {
            tracing::error!("the system gives no thread for the camera: {error}");
        }
        if changes.touches("train.allow_remote") {
            // What may be sent is announced.
            self.publish_facts();
        }
        if changes.touches("select") {
            // The hour's budget begins anew; what was kept is known again.
            let seed = u64::from(std::process::id());
            self.selector = Selector::new(self.config.select.clone(), &self.names.model, seed);
            self.looks = looks::open(&self.store, &self.detector, &self.names, &mut self.selector);
        }
    }
}
