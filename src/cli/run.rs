//! `graftd run`: the daemon.

use std::path::PathBuf;

use crate::config::{Config, DEFAULT_PATH};
use crate::daemon;

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

    /// Where the state lies; a state directory that is named needs no configuration.
    pub fn state_dir(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(state_dir) => Ok(state_dir.clone()),
            None => Ok(self.load()?.state_dir),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &DeviceArgs) -> Result<(), Failure> {
    Ok(daemon::run(args.load()?)?)
}
