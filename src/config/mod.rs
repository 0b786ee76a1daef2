//! The configuration: one TOML file, typed and checked.
//!
//! Every key has a default, so an empty file is a configuration; a key that graftd does not know is an
//! error that names it, because a misspelt key that is ignored is found on the field.

mod api;
mod broker;
mod camera;

pub use api::ApiConfig;
pub use broker::{Broker, BrokerError};
pub use camera::CameraConfig;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::{RuntimeChoice, RuntimeKind};
use crate::select::SelectOptions;
use crate::store::Limits;
use crate::train::{Guest, TrainOptions};
use crate::yolo::nms::Keep;

/// Where the configuration lies unless `--config` names another file.
pub const DEFAULT_PATH: &str = "/etc/graftd/graftd.toml";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The device's name: part of every topic and the MQTT client id. Letters, digits, `-`, `_`, `.`.
    pub device: String,
    /// The folder that holds the store, frames, models and features.
    pub state_dir: PathBuf,
    /// The model to start from.
    pub model: ModelConfig,
    /// Where frames come from.
    pub camera: CameraConfig,
    /// What counts as found.
    pub detect: DetectConfig,
    /// Which frames are worth keeping.
    pub select: SelectOptions,
    /// How much room the kept frames may take.
    pub store: Limits,
    /// How runs go.
    pub train: TrainConfig,
    /// The broker and the topics.
    pub mqtt: MqttConfig,
    /// Where the API over HTTP can be reached.
    pub api: ApiConfig,
    /// What the graphs run on.
    pub runtime: RuntimeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            device: "graftd".into(),
            state_dir: "/var/lib/graftd".into(),
            model: ModelConfig::default(),
            camera: CameraConfig::default(),
            detect: DetectConfig::default(),
            select: SelectOptions::default(),
            store: Limits::default(),
            train: TrainConfig::default(),
            mqtt: MqttConfig::default(),
            api: ApiConfig::default(),
            runtime: RuntimeConfig::default(),
        }
    }
}

/// The model to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The ONNX export that becomes slot 0 at the first start. Later starts go on with the current slot.
    pub base: PathBuf,
    /// Side of the square input, pixels, where the export leaves it free.
    pub imgsz: Option<usize>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig { base: "/usr/share/graftd/base.onnx".into(), imgsz: None }
    }
}

/// What counts as found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectConfig {
    /// The least confidence of a detection, 0 to 1.
    pub confidence: f32,
    /// Overlap (IoU) above which the less sure of two boxes of a class is dropped, 0 to 1.
    pub iou: f32,
}

impl Default for DetectConfig {
    fn default() -> Self {
        let keep = Keep::to_use();
        DetectConfig { confidence: keep.confidence, iou: keep.iou }
    }
}

impl DetectConfig {
    /// The same as the decoder takes it.
    pub fn keep(&self) -> Keep {
        Keep { confidence: self.confidence, iou: self.iou, ..Keep::to_use() }
    }
}

/// How runs go. `cmd/train` may override the [`TrainOptions`] of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// A run needs at least so many labelled samples to learn from.
    pub min_samples: usize,
    /// Share of newly labelled samples that become hold-out, 0 to 1; a label may also say it itself.
    pub holdout_share: f64,
    /// How much runs may be noticed: `idle`, `cpus`.
    #[serde(flatten)]
    pub guest: Guest,
    /// Everything else about a run.
    #[serde(flatten)]
    pub options: TrainOptions,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            min_samples: 10,
            holdout_share: 0.2,
            guest: Guest::default(),
            options: TrainOptions::default(),
        }
    }
}

/// The broker and the topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://[user@]host[:port]`.
    pub broker: Broker,
    /// A file whose first line is the password that goes with the user.
    pub password_file: Option<PathBuf>,
    /// The topic that all others are below; none is `graftd/<device>`.
    pub root: Option<String>,
    /// Size above which a message is not sent but set aside, bytes (topic and payload).
    pub max_packet: usize,
}

impl Default for MqttConfig {
    fn default() -> Self {
        MqttConfig { broker: Broker::default(), password_file: None, root: None, max_packet: 128 * 1024 }
    }
}

/// What the graphs run on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// The libonnxruntime to load; none looks in the usual places.
    pub library: Option<PathBuf>,
    /// What detects and extracts features: `auto`, `ort` or `tract`.
    pub backbone: RuntimeKind,
    /// What trains: `auto`, `ort` or `tract`.
    pub training: RuntimeKind,
    /// Threads of detection; 0 takes one per core. Training's are `train.threads`.
    pub threads: usize,
}

impl RuntimeConfig {
    /// What detects.
    pub fn backbone(&self) -> RuntimeChoice {
        RuntimeChoice { kind: self.backbone, library: self.library.clone() }
    }

    /// What trains.
    pub fn training(&self) -> RuntimeChoice {
        RuntimeChoice { kind: self.training, library: self.library.clone() }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}; name the configuration with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or a key is unknown or of the wrong type.
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is out of its range.
    #[error("{}: {key}: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with its tables.
        key: &'static str,
        /// What is wrong and what to write.
        message: String,
    },
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`], with file, line or key, and what to do.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Config = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
            message: error.message().to_owned(),
        })?;
        config.check().map_err(|(key, message)| ConfigError::Value {
            path: path.to_owned(),
            key,
            message,
        })?;
        if let Some(folder) = path.parent() {
            config.paths_from(folder);
        }
        Ok(config)
    }

    /// The name under which the daemon is known to the broker.
    pub fn client_id(&self) -> String {
        format!("graftd-{}", self.device)
    }

    /// Checks ranges: the key that is wrong, and what to write.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.device.is_empty() || self.device.len() > 64 || !self.device.chars().all(plain) {
            let words = format!("{:?} is no device name; 1 to 64 of letters, digits, - _ .", self.device);
            return Err(("device", words));
        }
        if let Some(root) = &self.mqtt.root {
            let bad = root.is_empty() || root.contains(['+', '#', '\0']) || root.starts_with(['/', '$']);
            if bad || root.ends_with('/') {
                let words = format!("{root:?} is no topic; write one such as farm/7/graftd");
                return Err(("mqtt.root", words));
            }
        }
        self.camera.check()?;
        self.api.check()?;
        let shares = [
            ("detect.confidence", f64::from(self.detect.confidence)),
            ("detect.iou", f64::from(self.detect.iou)),
            ("train.holdout_share", self.train.holdout_share),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err((key, format!("{value} is out of range; 0 to 1")));
            }
        }
        let amounts = [("store.max_mb", self.store.max_mb), ("store.max_samples", self.store.max_samples)];
        if let Some((key, _)) = amounts.iter().find(|(_, amount)| *amount == 0) {
            return Err((key, "0 keeps nothing; at least 1".into()));
        }
        self.select.check()?;
        if self.mqtt.max_packet < 1024 {
            return Err(("mqtt.max_packet", format!("{} is too small; at least 1024", self.mqtt.max_packet)));
        }
        Ok(())
    }

    fn paths_from(&mut self, folder: &Path) {
        self.camera.paths_from(folder);
        let optional = [
            &mut self.mqtt.password_file,
            &mut self.runtime.library,
            &mut self.api.socket,
            &mut self.api.token_file,
        ];
        let all = optional.into_iter().flatten().chain([&mut self.state_dir, &mut self.model.base]);
        for path in all {
            *path = folder.join(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::SourceSpec;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("graftd.toml");
        fs::write(&path, text).expect("a file");
        Config::load(&path)
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(load("").expect("a configuration"), Config::default());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = toml::to_string(&Config::default()).expect("TOML");
        assert_eq!(load(&text).expect("a configuration"), Config::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        for text in ["\n[camera]\nfsp = 2.0\n", "\n[train]\nepoch = 3\n"] {
            let error = load(text).expect_err("a misspelt key").to_string();
            let key = if text.contains("fsp") { "fsp" } else { "epoch" };
            assert!(error.contains(key), "{error}");
        }
        let error = load("\n[camera]\nfsp = 2.0\n").expect_err("a misspelt key").to_string();
        assert!(error.contains("graftd.toml:3:"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_key() {
        for (text, key) in [
            ("device = \"a/b\"", "device"),
            ("[mqtt]\nroot = \"a/#\"", "mqtt.root"),
            ("[camera]\nfps = 0.0", "camera.fps"),
            ("[detect]\nconfidence = 1.5", "detect.confidence"),
            ("[api]\nlisten = \"127.0.0.1:8470\"", "api.token_file"),
            ("[select]\nunsure_from = 0.8", "select.unsure_from"),
        ] {
            let error = load(text).expect_err("a wrong value").to_string();
            assert!(error.contains(&format!("{key}: ")), "{error}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load("state_dir = \"state\"\n[camera]\nsource = \"/frames\"").expect("a configuration");
        assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
        assert_eq!(config.camera.source(), Some(SourceSpec::Folder("/frames".into())));
        // The older key.
        let config = load("[camera]\nfolder = \"frames\"").expect("a configuration");
        let Some(SourceSpec::Folder(path)) = config.camera.source() else { panic!("{config:?}") };
        assert!(path.is_absolute() && path.ends_with("frames"));
        let both = load("[camera]\nfolder = \"frames\"\nsource = \"test\"").expect_err("two sources");
        assert!(both.to_string().contains("camera.folder: "), "{both}");
    }
}
