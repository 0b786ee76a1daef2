//! What somebody else may ask of a run while it goes on: to pause, to go on, to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::TrainError;

/// How often a paused run looks whether it was cancelled: a signal handler can set a flag but wake nobody.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The handle of a run. Clones speak to the same run; it listens between two parts of a batch.
#[derive(Debug, Clone, Default)]
pub struct Control {
    cancelled: Arc<AtomicBool>,
    pause: Arc<(Mutex<bool>, Condvar)>,
}

impl Control {
    /// A run that nobody has asked anything of yet.
    pub fn new() -> Self {
        Control::default()
    }

    /// A run that ends when `cancelled` becomes true, such as by a signal.
    pub fn cancelled_by(cancelled: Arc<AtomicBool>) -> Self {
        Control { cancelled, ..Control::default() }
    }

    /// Ends the run; nothing of it is kept.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.pause.1.notify_all();
    }

    /// Whether the run was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Stops the run where it stands, until [`Control::resume`].
    pub fn pause(&self) {
        *self.pause.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Lets a paused run go on.
    pub fn resume(&self) {
        *self.pause.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.pause.1.notify_all();
    }

    /// Whether the run is asked to pause.
    pub fn is_paused(&self) -> bool {
        *self.pause.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the run is paused; gives how long it waited.
    ///
    /// # Errors
    /// [`TrainError::Cancelled`].
    pub(super) fn go_on(&self) -> Result<Duration, TrainError> {
        let started = Instant::now();
        let mut paused = self.pause.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waited = Duration::ZERO;
        while *paused && !self.is_cancelled() {
            paused = self.pause.1.wait_timeout(paused, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
            waited = started.elapsed();
        }
        if self.is_cancelled() { Err(TrainError::Cancelled) } else { Ok(waited) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_paused_run_waits_until_it_may_go_on_or_must_end() {
        for ends in [false, true] {
            let control = Control::new();
            control.pause();
            let (told, hears) = channel();
            let run = std::thread::spawn({
                let control = control.clone();
                move || {
                    let outcome = control.go_on();
                    told.send(()).unwrap();
                    outcome
                }
            });
            assert!(hears.recv_timeout(Duration::from_millis(50)).is_err(), "it did not wait");
            if ends {
                control.cancel()
            } else {
                control.resume()
            }
            hears.recv().unwrap();
            assert_eq!(run.join().unwrap().is_err(), ends);
        }
        assert_eq!(Control::new().go_on().unwrap(), Duration::ZERO);
    }
}
