//! `graftd run`: the daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, DEFAULT_PATH, Loaded};
use crate::daemon;
use crate::store::{Limits, Store, StoreError};
use crate::web::Client;

use super::failure::Failure;

/// Arguments of `graftd run` and of everything that works on a device's state.
#[derive(Clone, clap::Args)]
pub(super) struct DeviceArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    /// Where the state lies; overrides the configuration.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

impl DeviceArgs {
    /// Reads the configuration.
    pub fn load(&self) -> Result<Config, Failure> {
        let loaded = self.loaded(Some(&self.config))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded.config)
    }

    /// Reads this file, or none, with the environment and the options over it.
    pub fn loaded(&self, file: Option<&Path>) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded::read(file, std::env::vars_os())?;
        if let Some(state_dir) = &self.state_dir {
            loaded.set_state_dir("--state-dir", state_dir.clone());
        }
        Ok(loaded)
    }

    /// The file that is read.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The state of a device that is there already; a state directory that is named needs no configuration.
    pub fn device(&self) -> Result<Device, Failure> {
        let config = match self.state_dir {
            Some(_) if !self.config.exists() => self.loaded(None)?.config,
            _ => self.load()?,
        };
        let Config { device: name, state_dir, store: limits, train, .. } = config;
        match fs::metadata(state_dir.join("models")) {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let words =
                    "this user may not look into it; ask as root, or as the user that the daemon runs as";
                return Err(Failure::input(format!("{}: {error}: {words}", state_dir.display())));
            }
            _ => return Err(StoreError::NoState { path: state_dir }.into()),
        }
        Ok(Device { name, state_dir, limits, holdout_share: train.holdout_share })
    }
}

/// A device on this machine.
pub(super) struct Device {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub state_dir: PathBuf,
    /// How much it may hold.
    pub limits: Limits,
    /// Share of newly labelled samples that become hold-out.
    pub holdout_share: f64,
}

impl Device {
    /// Opens its store, which no daemon may hold then.
    pub fn open_store(&self) -> Result<Store, Failure> {
        Store::open_within(&self.state_dir, &self.limits).map_err(held)
    }

    /// Its daemon, if one runs.
    pub fn daemon(&self) -> Result<Option<Client>, Failure> {
        Ok(Client::find(&self.state_dir)?)
    }

    /// Its daemon, or its store when none runs.
    pub fn access(&self) -> Result<Access, Failure> {
        match self.daemon()? {
            Some(daemon) => Ok(Access::Daemon(daemon)),
            None => Ok(Access::Store(Box::new(self.open_store()?))),
        }
    }
}

/// The way to a device's samples and slots.
pub(super) enum Access {
    /// Through the daemon that runs.
    Daemon(Client),
    /// As none runs.
    Store(Box<Store>),
}

/// What to do where a daemon holds the store and only its own hands may be in it.
pub(super) fn held(error: StoreError) -> Failure {
    match error {
        StoreError::Locked { .. } => Failure::input(format!(
            "{error}. Where that is the daemon: status, watch, runs, models and samples list, show and label go \
             through it; everything else waits until it is stopped (systemctl stop graftd)"
        )),
        other => other.into(),
    }
}

/// Runs the command.
pub(super) fn run(args: &DeviceArgs) -> Result<(), Failure> {
    let again = args.clone();
    // What the options say holds for what is read later too.
    let read =
        move || again.loaded(Some(&again.config)).map(|loaded| loaded.config).map_err(|e| e.to_string());
    Ok(daemon::run(args.load()?, Box::new(read))?)
}
