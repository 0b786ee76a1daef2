//! Ends the process when the database does not come back from what it was asked.
//!
//! When a thread of sled's own meets a full disk, a flush may wait for it for ever, and nothing inside the
//! process can help: the handle can neither be used nor dropped. What was acknowledged is on the disk, so the
//! process ends, and whoever looks after it starts it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::StoreError;

/// Watches over calls; when it is dropped its thread ends.
#[derive(Debug)]
pub(super) struct Deadline(Arc<Shared>);

/// A call that goes on. It has come back when this is dropped.
#[must_use]
pub(super) struct Call<'a> {
    shared: &'a Shared,
    number: u64,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    patience: Duration,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When each call began that goes on. Numbers grow, so the first is the oldest.
    begun: BTreeMap<u64, Instant>,
    next: u64,
    has_ended: bool,
}

impl Deadline {
    /// Watches over the database at `path`: no call may take longer than `patience`.
    pub fn start(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            patience,
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let started = thread::Builder::new().name("store-deadline".into()).spawn(move || watched.watch());
        started.map_err(StoreError::io(path))?;
        Ok(Deadline(shared))
    }

    /// A call begins.
    pub fn begin(&self) -> Call<'_> {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.begun.insert(number, Instant::now());
        Call { shared: &self.0, number }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.shared.lock().begun.remove(&self.number);
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.ended.notify_all();
    }
}

impl Shared {
    fn watch(&self) {
        let mut state = self.lock();
        while !state.has_ended {
            let oldest = state.begun.values().next().map(Instant::elapsed);
            if oldest.is_some_and(|elapsed| elapsed >= self.patience) {
                // Unwinding or exiting in good order would wait for the database too.
                tracing::error!(
                    "{}: no answer for {} s, as after a disk that was full or has failed; graftd ends, so that \
                     it can be started again (what was acknowledged is on the disk)",
                    self.path.display(),
                    self.patience.as_secs()
                );
                std::process::abort();
            }
            let waited = self.ended.wait_timeout(state, self.patience / 8);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const HANGING: &str = "GRAFTD_TEST_HANGING";
    const ABORTED: i32 = 6;

    /// Not a test of its own: the process whose database hangs.
    #[test]
    fn hanging() {
        if std::env::var_os(HANGING).is_none() {
            return;
        }
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
        let deadline = Deadline::start(Path::new("a/store"), Duration::from_millis(100)).unwrap();
        let _call = deadline.begin();
        thread::park();
    }

    #[test]
    fn a_process_whose_database_hangs_ends_and_says_why() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::deadline::tests::hanging", "--nocapture"])
            .env(HANGING, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(ABORTED));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("a/store: no answer for"), "{said}");
    }

    #[test]
    fn calls_that_come_back_are_no_reason_to_end() {
        let deadline = Deadline::start(Path::new("a/store"), Duration::from_millis(50)).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(200) {
            let _call = deadline.begin();
            thread::sleep(Duration::from_millis(1));
        }
        assert!(deadline.0.lock().begun.is_empty());
    }
}
