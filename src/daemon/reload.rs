//! A new configuration while the daemon runs: all of it that can be applied is, or nothing where it is wrong.

use crate::config::{Changes, Config};
use crate::select::Selector;

use super::core::Core;
use super::{heart, looks};

/// Reads the configuration again, and says what is wrong with it.
pub type Read = Box<dyn Fn() -> Result<Config, String> + Send>;

impl Core {
    /// Somebody says that the configuration has changed.
    pub(super) fn reload(&mut self) {
        heart::reloading();
        self.config_faults = match (self.read_config)() {
            Err(reason) => {
                tracing::error!("the configuration stays as it was: {reason}");
                vec![format!("the new configuration is not taken: {reason}")]
            }
            Ok(new) => {
                let changes = self.config.changes_to(&new);
                for change in &changes.live {
                    tracing::info!("{change}");
                }
                for change in &changes.restart {
                    tracing::warn!("{change}: this needs a restart");
                }
                self.config = self.config.with_live_of(&new);
                self.apply(&changes);
                let restart = changes.restart.iter();
                restart.map(|change| format!("{change}: this needs a restart of graftd")).collect()
            }
        };
        self.follow_schedule();
        self.state_changed();
        heart::ready();
    }

    /// What is not looked up where it is used.
    fn apply(&mut self, changes: &Changes) {
        if changes.touches("camera")
            && let Err(error) = self.watch()
        {
            tracing::error!("the system gives no thread for the camera: {error}");
        }
        if changes.touches("train.allow_remote") {
            // What may be sent is announced.
            self.publish_facts();
        }
        if changes.touches("select") {
            // The hour's budget begins anew; what was kept is known again.
            let seed = u64::from(std::process::id());
            self.selector = Selector::new(self.config.select.clone(), self.detector.classes(), seed);
            self.looks = looks::open(&self.store, &self.detector, &mut self.selector);
        }
    }
}
