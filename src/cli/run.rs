//! `graftd run`: the daemon.

use std::path::PathBuf;

use crate::config::{Config, DEFAULT_PATH};
use crate::daemon;
use crate::store::{Limits, Store, StoreError};

use super::failure::Failure;

/// Arguments of `graftd run` and of everything that works on a device's state.
#[derive(clap::Args)]
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
        let mut config = Config::load(&self.config)?;
        if let Some(state_dir) = &self.state_dir {
            config.state_dir.clone_from(state_dir);
        }
        Ok(config)
    }

    /// The state of a device that is there already; a state directory that is named needs no configuration.
    pub fn device(&self) -> Result<Device, Failure> {
        let config = match &self.state_dir {
            Some(state_dir) if !self.config.exists() => {
                Config { state_dir: state_dir.clone(), ..Config::default() }
            }
            _ => self.load()?,
        };
        let Config { state_dir, store: limits, train, .. } = config;
        if !state_dir.join("models").is_dir() {
            return Err(StoreError::NoState { path: state_dir }.into());
        }
        Ok(Device { state_dir, limits, holdout_share: train.holdout_share })
    }
}

/// A device's state, worked on without its daemon.
pub(super) struct Device {
    /// Where it lies.
    pub state_dir: PathBuf,
    /// How much it may hold.
    pub limits: Limits,
    /// Share of newly labelled samples that become hold-out.
    pub holdout_share: f64,
}

impl Device {
    /// Opens its store.
    pub fn open_store(&self) -> Result<Store, Failure> {
        Ok(Store::open_within(&self.state_dir, &self.limits)?)
    }
}

/// Runs the command.
pub(super) fn run(args: &DeviceArgs) -> Result<(), Failure> {
    Ok(daemon::run(args.load()?)?)
}
