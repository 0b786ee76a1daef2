//! What the service manager hears: that the daemon is ready, what it does, and that it lives.
//!
//! The watchdog is fed only while every part goes on: the loop that detects and decides, the camera's keeper
//! (which also waits for a camera that is away) and the link (which also waits for a broker). One that hangs lets
//! the manager start the whole anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::pulse::Pulse;

/// The pulses of the parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Heart {
    /// The loop that detects and decides.
    pub core: Pulse,
    /// The camera's keeper.
    pub camera: Pulse,
    /// The link to the broker.
    pub link: Pulse,
}

impl Heart {
    /// The part that hangs, if one does.
    fn silent(&self, silence: Duration) -> Option<&'static str> {
        let parts =
            [("the loop", &self.core), ("the camera's keeper", &self.camera), ("the link", &self.link)];
        parts.into_iter().find(|(_, pulse)| pulse.age() >= silence).map(|(name, _)| name)
    }

    /// Feeds the manager's watchdog, where there is one, for as long as the feeder lives and all parts beat. A part
    /// hangs that has not beaten for the watchdog's time, which must be longer than the longest honest silence:
    /// the camera's keeper waits up to 75 s before it tries a camera again, the link 37 s for a broker, and the
    /// loop looks at the clock each 5 s, unless it opens a model.
    pub fn feed_watchdog(&self) -> std::io::Result<Feeder> {
        let stopped = Arc::new(AtomicBool::new(false));
        let feeder = Feeder(Arc::clone(&stopped));
        let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(feeder) };
        let heart = self.clone();
        thread::Builder::new().name("watchdog".into()).spawn(move || {
            let mut was_silent = false;
            while !stopped.load(Ordering::Relaxed) {
                match heart.silent(limit) {
                    None => {
                        was_silent = false;
                        tell(&[NotifyState::Watchdog]);
                    }
                    Some(part) if !was_silent => {
                        was_silent = true;
                        let seconds = limit.as_secs();
                        tracing::error!("{part} has not gone on for {seconds} s; the watchdog is not fed");
                    }
                    Some(_) => {}
                }
                thread::park_timeout(limit / 4);
            }
        })?;
        Ok(feeder)
    }
}

/// Feeds until it is dropped.
#[derive(Debug)]
pub(super) struct Feeder(Arc<AtomicBool>);

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a service manager has started this process.
pub(super) fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The store is open, and the broker has been tried.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A new configuration is being applied; [`ready`] says that it is.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("the clock can't be read: {error}"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// What goes on, in a line.
pub(super) fn status(words: &str) {
    tell(&[NotifyState::Status(words)]);
}

/// Without a manager nothing is told.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not listen: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_missed_by_its_name_and_one_that_rests_is_not() {
        let heart = Heart::default();
        let silence = Duration::from_millis(1);
        thread::sleep(silence);
        assert_eq!(heart.silent(silence), Some("the loop"));
        heart.core.rest();
        heart.camera.rest();
        assert_eq!(heart.silent(silence), Some("the link"));
        heart.link.rest();
        assert_eq!(heart.silent(silence), None);
    }
}
