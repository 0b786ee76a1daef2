//! The configuration: one TOML file, typed and checked, with environment variables over it.
//!
//! Every key has a default, so an empty file is a configuration; a key that graftd does not know is an
//! error that names it, because a misspelt key that is ignored is found on the field. What each key means stands
//! in [`keys`], which the commented file and the page are made from.

mod api;
mod broker;
mod camera;
mod changes;
mod check;
mod document;
mod environment;
mod homeassistant;
pub mod keys;
mod load;
mod mqtt;
mod origin;
mod page;
mod remote;
mod schedule;
mod suggest;
mod template;
mod values;
mod when;

pub use api::ApiConfig;
pub use broker::{Broker, BrokerError};
pub use camera::CameraConfig;
pub use changes::{Change, Changes};
pub use check::{Findings, check_machine, writable};
pub use homeassistant::HomeAssistantConfig;
pub use load::Loaded;
pub use mqtt::{COMMANDS, MqttConfig, MqttVersion};
pub use origin::{Fault, Origin};
pub use page::page;
pub use remote::{Remote, settable};
pub use schedule::Schedule;
pub use template::{Chosen, template};
pub use values::as_toml;
pub use when::{When, WhenError};

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
    /// Whether Home Assistant is told of the device.
    pub homeassistant: HomeAssistantConfig,
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
            homeassistant: HomeAssistantConfig::default(),
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
    /// Milliseconds that a frame may take (the median of a new model's first frames); a model that is slower
    /// is rolled back. None: however long it takes.
    pub max_latency_ms: Option<f64>,
}

impl Default for DetectConfig {
    fn default() -> Self {
        let keep = Keep::to_use();
        DetectConfig { confidence: keep.confidence, iou: keep.iou, max_latency_ms: None }
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
    /// Whether a run may be started over MQTT.
    pub allow_remote: bool,
    /// When runs start by themselves: `when`, `new_labels`, `every_hours`, `on_mains`, `max_celsius`, `max_load`.
    #[serde(flatten)]
    pub schedule: Schedule,
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
            allow_remote: true,
            schedule: Schedule::default(),
            guest: Guest::default(),
            options: TrainOptions::default(),
        }
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
    #[error("{}: {source}; name the configuration with --config, or let `graftd init` write one", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML, or keys or values are wrong: all that is, in the order in which it stands there.
    #[error("{}", summary(.0))]
    Faults(Vec<Fault>),
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [] => "nothing is wrong".into(),
        [fault] => fault.to_string(),
        [first, others @ ..] => {
            format!("{first} (and {} more; `graftd config check` lists them)", others.len())
        }
    }
}

impl Config {
    /// The name under which the daemon is known to the broker.
    pub fn client_id(&self) -> String {
        format!("graftd-{}", self.device)
    }

    /// The values that are out of their ranges: the key, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.device.is_empty() || self.device.len() > 64 || !self.device.chars().all(plain) {
            let words = format!("{:?} is no device name; 1 to 64 of letters, digits, - _ .", self.device);
            faults.push(("device", words));
        }
        faults.extend(self.camera.faults());
        faults.extend(self.api.check().err());
        let shares = [
            ("detect.confidence", f64::from(self.detect.confidence)),
            ("detect.iou", f64::from(self.detect.iou)),
            ("train.holdout_share", self.train.holdout_share),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                faults.push((key, format!("{value} is out of range; 0 to 1")));
            }
        }
        faults.extend(self.select.check().err());
        let amounts = [("store.max_mb", self.store.max_mb), ("store.max_samples", self.store.max_samples)];
        let nothing = amounts.iter().filter(|(_, amount)| *amount == 0);
        faults.extend(nothing.map(|(key, _)| (*key, "0 keeps nothing; at least 1".into())));
        for fault in self.train.options.faults() {
            let key = keys::find(&format!("train.{}", fault.name)).expect("a test of keys.rs holds it");
            faults.push((key.name, format!("{} is out of range; it must be {}", fault.value, fault.range)));
        }
        if let Some(root) = self.mqtt.root.as_ref().filter(|root| !mqtt::is_topic(root)) {
            let words = format!("{root:?} is no topic; write one such as farm/7/graftd");
            faults.push(("mqtt.root", words));
        }
        faults.extend(self.homeassistant.check().err());
        if self.store.patience_s < 10 {
            let words = format!("{} is too little; at least 10", self.store.patience_s);
            faults.push(("store.patience_s", words));
        }
        faults.extend(self.train.schedule.faults());
        if let Some(ms) = self.detect.max_latency_ms.filter(|ms| ms.is_nan() || *ms <= 0.0) {
            faults.push(("detect.max_latency_ms", format!("{ms} is no time; above 0, or leave it out")));
        }
        if self.mqtt.max_packet < 1024 {
            let words = format!("{} is too small; at least 1024", self.mqtt.max_packet);
            faults.push(("mqtt.max_packet", words));
        }
        faults.extend(self.mqtt.check().err());
        faults
    }

    fn paths_from(&mut self, folder: &Path) {
        self.camera.paths_from(folder);
        self.mqtt.take_credentials();
        for path in self.paths() {
            *path = folder.join(&path);
        }
    }

    /// Every path but the camera's.
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let own = [&mut self.state_dir, &mut self.model.base];
        let optional = [&mut self.runtime.library, &mut self.api.socket, &mut self.api.token_file];
        self.mqtt.files().chain(optional.into_iter().flatten()).chain(own)
    }
}

/// The configuration that a file with this text says, and nothing else.
#[cfg(test)]
fn load_text(text: &str) -> Result<Config, ConfigError> {
    tests::load(text, &[]).map(|loaded| loaded.config)
}

#[cfg(test)]
mod tests;
