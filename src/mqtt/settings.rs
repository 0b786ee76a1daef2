//! Whom to speak to, and as whom.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::{Broker, Config, MqttVersion};
use crate::pulse::Pulse;

use super::discovery::Discovery;
use super::tls::{TlsError, TlsFiles};
use super::topics::Topics;

/// Whom to speak to, and as whom.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Must differ from that of every other client of the broker.
    pub client_id: String,
    /// Where the broker is.
    pub broker: Broker,
    /// The version that is spoken.
    pub version: MqttVersion,
    /// The files of TLS, where the broker's address asks for it.
    pub tls: TlsFiles,
    /// The user to log in as, from the broker's address or from a file.
    pub user: Option<Secret>,
    /// Goes with the user.
    pub password: Option<Secret>,
    /// The names of topics.
    pub topics: Topics,
    /// Topics of others that are listened to.
    pub others: Vec<String>,
    /// Size above which a message is set aside, bytes.
    pub max_packet: usize,
    /// With MQTT 5: so long the broker keeps the session, seconds.
    pub session_seconds: u32,
    /// With MQTT 5: so long the broker keeps an event, seconds.
    pub event_seconds: u32,
    /// So many commands are taken in a second.
    pub commands_per_second: u32,
    /// Beats while the link goes on.
    pub pulse: Pulse,
}

/// A text that is shown to nobody but the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why the settings can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file with a user or a password.
    #[error("{key} {}: {source}; its first line must be the {what}", path.display())]
    Secret {
        /// The key of the configuration that names it.
        key: &'static str,
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl LinkSettings {
    /// What a configuration says, with the files that it names read and checked.
    ///
    /// # Errors
    /// The file that can't be used, by its key, and what is wrong with it.
    pub fn new(config: &Config, topics: Topics) -> Result<Self, SettingsError> {
        let (mqtt, home) = (&config.mqtt, &config.homeassistant);
        let from_file = secret("mqtt.username_file", "user", mqtt.username_file.as_deref())?;
        let password = secret("mqtt.password_file", "password", mqtt.password_file.as_deref())?;
        let tls = TlsFiles::new(mqtt);
        if mqtt.broker.tls {
            tls.transport()?;
        } else if password.is_some() && !is_here(&mqtt.broker.host) {
            tracing::warn!("the password goes to {} for everybody to read; write mqtts://", mqtt.broker);
        }
        Ok(LinkSettings {
            client_id: config.client_id(),
            broker: mqtt.broker.clone(),
            version: mqtt.version,
            tls,
            user: mqtt.broker.user.clone().map(Secret).or(from_file),
            password,
            topics,
            others: home.enabled.then(|| Discovery::birth_topic(&home.prefix)).into_iter().collect(),
            max_packet: mqtt.max_packet,
            session_seconds: mqtt.session_seconds(),
            event_seconds: mqtt.event_seconds(),
            commands_per_second: mqtt.commands_per_second,
            pulse: Pulse::default(),
        })
    }

    /// What is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<String> {
        self.topics.subscriptions().into_iter().chain(self.others.iter().cloned()).collect()
    }

    /// User and password, where there is a user.
    pub(super) fn credentials(&self) -> Option<(&str, &str)> {
        let user = self.user.as_ref()?;
        Some((user.reveal(), self.password.as_ref().map_or("", Secret::reveal)))
    }

    /// As whom we log in, in words.
    pub(super) fn who(&self) -> String {
        match (&self.broker.user, &self.user) {
            (Some(user), _) => format!("user {user:?}"),
            (None, Some(_)) => "the user of mqtt.username_file".into(),
            (None, None) => "a client without a user".into(),
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The first line of a file.
fn secret(
    key: &'static str,
    what: &'static str,
    path: Option<&Path>,
) -> Result<Option<Secret>, SettingsError> {
    let Some(path) = path else { return Ok(None) };
    let fail = |source| SettingsError::Secret { key, what, path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(fail)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(Secret::new(line))),
        _ => Err(fail(io::Error::other("the first line is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_hidden() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        fs::write(&path, "hunter2\n").expect("a file");
        let mut config = Config::default();
        config.mqtt.username_file = Some(path.clone());
        config.mqtt.password_file = Some(path.clone());
        let settings = LinkSettings::new(&config, Topics::new("a")).expect("settings");
        assert_eq!(settings.credentials(), Some(("hunter2", "hunter2")));
        assert!(!format!("{settings:?} {}", settings.who()).contains("hunter2"));
        fs::write(&path, "\nhunter2").expect("a file");
        let error = LinkSettings::new(&config, Topics::new("a")).expect_err("an empty line").to_string();
        assert!(error.starts_with("mqtt.username_file ") && !error.contains("hunter2"), "{error}");
    }
}
