//! Whether Home Assistant is told of the device.

use serde::{Deserialize, Serialize};

/// Whether Home Assistant is told of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HomeAssistantConfig {
    /// Off unless asked for: the announcement lies outside of the device's own root.
    pub enabled: bool,
    /// The topic that Home Assistant looks below.
    pub prefix: String,
    /// Whether the last kept frame goes to the broker as a small picture.
    pub image: bool,
}

impl Default for HomeAssistantConfig {
    fn default() -> Self {
        HomeAssistantConfig { enabled: false, prefix: "homeassistant".into(), image: true }
    }
}

impl HomeAssistantConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let prefix = &self.prefix;
        if super::mqtt::is_topic(prefix) {
            return Ok(());
        }
        Err(("homeassistant.prefix", format!("{prefix:?} is no topic; write one such as homeassistant")))
    }
}
