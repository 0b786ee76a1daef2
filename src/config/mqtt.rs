//! The broker, the topics, and what may be done through them.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Broker;

/// The commands that a daemon knows.
pub const COMMANDS: [&str; 13] = [
    "label", "capture", "train", "pause", "resume", "cancel", "promote", "rollback", "evaluate", "class",
    "set", "export", "state",
];

/// Whether a text can stand before other parts of a topic.
pub(super) fn is_topic(text: &str) -> bool {
    let bad = text.is_empty() || text.contains(['+', '#', '\0']) || text.starts_with(['/', '$']);
    !bad && !text.ends_with('/')
}

const DAY: f64 = 24.0 * 60.0 * 60.0;
/// The longest time that fits into MQTT's four bytes of seconds, in round days.
const MOST_DAYS: f64 = 36_500.0;

/// The broker and the topics.
///
/// A file that is named without a folder is looked for among systemd's credentials first
/// (`$CREDENTIALS_DIRECTORY`), then beside the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://[user@]host[:port]`, or `mqtts://…` over TLS.
    pub broker: Broker,
    /// The version of MQTT that is spoken: 3 (which is 3.1.1) or 5.
    pub version: MqttVersion,
    /// A file whose first line is the user to log in as, instead of one in `broker`.
    pub username_file: Option<PathBuf>,
    /// A file whose first line is the password that goes with the user.
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) of the authorities that may vouch for the broker; none trusts those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate (PEM, with its chain) that shows the broker who we are.
    pub client_cert: Option<PathBuf>,
    /// The key (PEM) of `client_cert`.
    pub client_key: Option<PathBuf>,
    /// The topic that all others are below; none is `graftd/<device>`.
    pub root: Option<String>,
    /// Size above which a message is not sent but set aside, bytes (topic and payload).
    pub max_packet: usize,
    /// With MQTT 5: so long the broker keeps the session, and with it the commands, of a device that is
    /// away; days.
    pub session_days: f64,
    /// With MQTT 5: so long the broker keeps an event for subscribers that are away; days.
    pub event_days: f64,
    /// The commands that may be sent; none allows all. Others are not announced and answered `failed`.
    pub commands: Option<Vec<String>>,
    /// So many commands are taken in a second; those above wait in the connection.
    pub commands_per_second: u32,
}

impl Default for MqttConfig {
    fn default() -> Self {
        MqttConfig {
            broker: Broker::default(),
            version: MqttVersion::default(),
            username_file: None,
            password_file: None,
            ca_file: None,
            client_cert: None,
            client_key: None,
            root: None,
            max_packet: 128 * 1024,
            session_days: 7.0,
            event_days: 7.0,
            commands: None,
            commands_per_second: 100,
        }
    }
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    #[default]
    V3,
    /// MQTT 5.
    V5,
}

impl TryFrom<u8> for MqttVersion {
    type Error = String;

    fn try_from(version: u8) -> Result<Self, String> {
        match version {
            3 => Ok(MqttVersion::V3),
            5 => Ok(MqttVersion::V5),
            _ => Err(format!("{version} is no version of MQTT that is spoken; write 3 (for 3.1.1) or 5")),
        }
    }
}

impl From<MqttVersion> for u8 {
    fn from(version: MqttVersion) -> u8 {
        match version {
            MqttVersion::V3 => 3,
            MqttVersion::V5 => 5,
        }
    }
}

impl MqttConfig {
    /// [`MqttConfig::session_days`] in seconds.
    pub fn session_seconds(&self) -> u32 {
        (self.session_days * DAY) as u32
    }

    /// [`MqttConfig::event_days`] in seconds.
    pub fn event_seconds(&self) -> u32 {
        (self.event_days * DAY) as u32
    }

    /// Whether a command may be sent.
    pub fn allows(&self, command: &str) -> bool {
        self.commands.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == command))
    }

    /// Checks ranges and what goes together.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let tls = [
            ("mqtt.ca_file", &self.ca_file),
            ("mqtt.client_cert", &self.client_cert),
            ("mqtt.client_key", &self.client_key),
        ];
        if let Some((key, _)) = tls.iter().find(|(_, file)| file.is_some() && !self.broker.tls) {
            return Err((key, format!("mqtt.broker {} does without TLS; write mqtts://", self.broker)));
        }
        match (&self.client_cert, &self.client_key) {
            (Some(_), None) => return Err(("mqtt.client_key", "mqtt.client_cert needs its key".into())),
            (None, Some(_)) => {
                return Err(("mqtt.client_cert", "mqtt.client_key needs its certificate".into()));
            }
            _ => {}
        }
        if self.broker.user.is_some() && self.username_file.is_some() {
            return Err(("mqtt.username_file", "mqtt.broker names a user too; keep one of them".into()));
        }
        let days = [("mqtt.session_days", self.session_days), ("mqtt.event_days", self.event_days)];
        for (key, days) in days {
            if !(0.0..=MOST_DAYS).contains(&days) {
                return Err((key, format!("{days} is out of range; 0 to {MOST_DAYS}")));
            }
        }
        if self.event_seconds() == 0 {
            return Err(("mqtt.event_days", format!("{} is no second; write more", self.event_days)));
        }
        if self.commands_per_second == 0 {
            return Err(("mqtt.commands_per_second", "0 takes none; at least 1".into()));
        }
        let known = |name: &&String| !COMMANDS.contains(&name.as_str());
        if let Some(name) = self.commands.iter().flatten().find(known) {
            let words = format!("there is no command {name:?}; there are {}", COMMANDS.join(", "));
            return Err(("mqtt.commands", words));
        }
        Ok(())
    }

    /// The files that are named.
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let files = [
            &mut self.username_file,
            &mut self.password_file,
            &mut self.ca_file,
            &mut self.client_cert,
            &mut self.client_key,
        ];
        files.into_iter().flatten()
    }

    /// Finds those that are credentials of systemd's.
    pub(super) fn take_credentials(&mut self) {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        for file in self.files() {
            if let Some(found) = credential(file, credentials.as_deref()) {
                *file = found;
            }
        }
    }
}

/// The credential of this name, if there is one.
fn credential(name: &Path, credentials: Option<&Path>) -> Option<PathBuf> {
    let mut parts = name.components();
    let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else { return None };
    credentials.map(|folder| folder.join(name)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), (&'static str, String)> {
        toml::from_str::<MqttConfig>(text).expect("a configuration").check()
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        for (text, key) in [
            ("ca_file = \"ca.pem\"", "mqtt.ca_file"),
            ("broker = \"mqtts://box\"\nclient_cert = \"c.pem\"", "mqtt.client_key"),
            ("broker = \"mqtts://box\"\nclient_key = \"k.pem\"", "mqtt.client_cert"),
            ("broker = \"mqtt://me@box\"\nusername_file = \"u\"", "mqtt.username_file"),
            ("session_days = -1.0", "mqtt.session_days"),
            ("event_days = 0.0", "mqtt.event_days"),
            ("commands = [\"label\", \"fly\"]", "mqtt.commands"),
            ("commands_per_second = 0", "mqtt.commands_per_second"),
        ] {
            assert_eq!(check(text).expect_err(text).0, key);
        }
        check("broker = \"mqtts://box\"\nclient_cert = \"c\"\nclient_key = \"k\"").expect("a pair");
        check("commands = [\"label\"]\nsession_days = 0.0").expect("commands");
    }

    #[test]
    fn versions_are_numbers() {
        for (text, version) in [("version = 3", MqttVersion::V3), ("version = 5", MqttVersion::V5)] {
            assert_eq!(toml::from_str::<MqttConfig>(text).expect("a version").version, version);
        }
        let error = toml::from_str::<MqttConfig>("version = 4").expect_err("no version").to_string();
        assert!(error.contains("3 (for 3.1.1) or 5"), "{error}");
    }

    #[test]
    fn a_bare_name_is_a_credential_where_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("password"), "x").expect("a file");
        let find = |name: &str| credential(Path::new(name), Some(folder.path()));
        assert_eq!(find("password"), Some(folder.path().join("password")));
        for other in ["missing", "a/password", "../password", "/password", "./password/x"] {
            assert_eq!(find(other), None, "{other}");
        }
        assert_eq!(credential(Path::new("password"), None), None);
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let config = MqttConfig { commands: Some(vec!["label".into()]), ..MqttConfig::default() };
        assert!(config.allows("label") && !config.allows("train"));
        assert!(MqttConfig::default().allows("train"));
    }
}
