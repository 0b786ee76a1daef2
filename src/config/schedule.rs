//! When the device trains by itself.

use serde::{Deserialize, Serialize};

use super::when::When;

/// When runs start without anybody asking. All of it must be so at once; a command starts a run at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Local hours in which runs start by themselves: `02:00-05:00`, `mon-fri 22:00-05:00, sat sun 00:00-24:00`.
    /// A run that is not done when they end waits for the next ones. None: only commands start runs.
    pub when: Option<When>,
    /// So many samples must have been labelled since the last run began.
    pub new_labels: u64,
    /// Hours from the start of one run to the next, at least.
    pub every_hours: f64,
    /// Whether runs wait for mains power, where the machine tells.
    pub on_mains: bool,
    /// Runs wait while the warmest zone is above this, °C, where the machine tells.
    pub max_celsius: f64,
    /// Runs start only while the load of the last minute is below this, per core. None: at any load.
    pub max_load: Option<f64>,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            when: None,
            new_labels: 20,
            every_hours: 12.0,
            on_mains: true,
            max_celsius: 75.0,
            max_load: None,
        }
    }
}

impl Schedule {
    /// The values that are out of their ranges: the key, and what to write.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !(0.0..=24.0 * 365.0).contains(&self.every_hours) {
            let words = format!("{} is no number of hours; 0 to {}", self.every_hours, 24 * 365);
            faults.push(("train.every_hours", words));
        }
        if !(20.0..=150.0).contains(&self.max_celsius) {
            let words = format!("{} is out of range; 20 to 150", self.max_celsius);
            faults.push(("train.max_celsius", words));
        }
        if let Some(load) = self.max_load.filter(|load| !(*load > 0.0 && *load <= 100.0)) {
            faults.push(("train.max_load", format!("{load} is no load; above 0, at most 100")));
        }
        faults
    }
}
