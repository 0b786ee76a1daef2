//! A clock that a test sets while the program runs. Only the time of day is moved: what waits for a while does so
//! by another clock.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The clock of the programs that get [`Clock::environment`].
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock that has not been set yet.
    pub fn new(folder: &Path) -> Self {
        Clock { file: folder.join("clock") }
    }

    /// Sets it to a moment, such as `2026-11-25T02:30:00Z`.
    pub fn set(&self, moment: &str) {
        let target = moment.parse::<jiff::Timestamp>().unwrap().as_second();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        // In one step, so that nobody reads half of it.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{:+}\n", target - now)).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// What has a program follow it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let library = ["x86_64", "aarch64"]
            .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("libfaketime is missing (`scripts/setup.sh test` installs it)");
        [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("TZ", "UTC"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
