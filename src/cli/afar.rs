//! Which device is looked at: the one on this machine, or one behind a broker.

use std::fs;
use std::path::PathBuf;

use crate::config::Broker;
use crate::mqtt::{Afar, AfarError, TlsFiles, Topics};

use super::failure::Failure;

/// Arguments of what can look at a device from afar.
#[derive(clap::Args)]
pub(super) struct AfarArgs {
    /// Look at a device behind this broker, `mqtt://[user@]host[:port]`, or `mqtts://` over TLS.
    #[arg(long, value_name = "URL", requires = "device")]
    pub broker: Option<Broker>,
    /// The device's name, as in its configuration.
    #[arg(long, value_name = "ID", requires = "broker")]
    device: Option<String>,
    /// The topic that all of the device's topics are below, where it is not `graftd/<ID>`.
    #[arg(long, value_name = "TOPIC", requires = "broker")]
    root: Option<String>,
    /// A file whose first line is the password that goes with the broker's user.
    #[arg(long, value_name = "FILE", requires = "broker")]
    password_file: Option<PathBuf>,
    /// Certificates of the authorities that may vouch for the broker, PEM; without it those of the system.
    #[arg(long, value_name = "FILE", requires = "broker")]
    ca_file: Option<PathBuf>,
    /// Our certificate, where the broker wants to see one, PEM.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl AfarArgs {
    /// Listens to the device; none when the one on this machine is meant.
    pub fn listen(&self, filters: &[&str]) -> Result<Option<Afar>, Failure> {
        let Some(broker) = &self.broker else { return Ok(None) };
        let topics = match &self.root {
            Some(root) => Topics::new(root.trim_end_matches('/')),
            None => Topics::of_device(self.name()),
        };
        let password = match &self.password_file {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => None,
        };
        let tls = TlsFiles {
            ca: self.ca_file.clone(),
            client: self.client_cert.clone().zip(self.client_key.clone()),
        };
        Ok(Some(Afar::new(broker.clone(), password, tls, topics, filters)?))
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        self.device.as_deref().unwrap_or_default()
    }
}

impl From<AfarError> for Failure {
    fn from(error: AfarError) -> Self {
        Failure::Failed(error.into())
    }
}
