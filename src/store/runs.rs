//! The runs that have come to an end, for the curve of what training has brought.
//!
//! One line of JSON each in `runs.jsonl`, outside of the database: it can be read without graftd, and is
//! still there when the database is lost. The file is written anew at the end of each run, so it is always
//! whole; a run that ends twice (a power cut came before it was settled) has the place of its last end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::database::Database;
use super::{StoreError, durable};

/// The file in the state directory.
const FILE: &str = "runs.jsonl";
/// So many are remembered, the latest: three years of one a day, half a megabyte.
const REMEMBERED: usize = 1000;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEnd {
    /// Its model was promoted.
    Finished,
    /// The gate did not let its model pass.
    Refused,
    /// It did not come to a model, or was cancelled.
    Failed,
}

impl RunEnd {
    /// As in `event/run`.
    pub fn name(self) -> &'static str {
        match self {
            RunEnd::Finished => "finished",
            RunEnd::Refused => "refused",
            RunEnd::Failed => "failed",
        }
    }
}

/// How good a model is on the hold-out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// mAP at IoU 0.50.
    #[serde(rename = "mAP50")]
    pub map50: f64,
    /// mAP over IoU 0.50 to 0.95.
    #[serde(rename = "mAP50_95")]
    pub map50_95: f64,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedRun {
    /// When it ended, seconds since 1970.
    pub time: f64,
    /// Its id.
    pub run: String,
    /// How it ended.
    pub event: RunEnd,
    /// Why.
    pub reason: String,
    /// The model that was current, where it was measured.
    pub before: Option<Scores>,
    /// The candidate, where there was one.
    pub after: Option<Scores>,
    /// Samples it learnt from; none where a restart has forgotten it.
    pub samples: Option<usize>,
    /// Samples it was measured on; none where a restart has forgotten it.
    pub holdout: Option<usize>,
    /// Epochs gone through.
    pub epochs: Option<u32>,
    /// Wall time.
    pub seconds: Option<f64>,
    /// The new slot, when promoted.
    pub slot: Option<u32>,
}

/// The runs that have ended.
#[derive(Debug)]
pub struct Runs {
    db: Database,
    path: PathBuf,
    writer: Mutex<()>,
}

impl Runs {
    pub(super) fn open(db: &Database) -> Self {
        Runs { db: db.clone(), path: db.dir().join(FILE), writer: Mutex::default() }
    }

    /// Remembers a run that has ended; survives a power cut when it returns.
    ///
    /// # Errors
    /// When the disk fails; the others are still remembered then.
    pub fn add(&self, run: EndedRun) -> Result<(), StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs = read_runs(&self.path)?;
        runs.retain(|known| known.run != run.run);
        runs.push(run);
        let mut text = String::new();
        for run in &runs[runs.len().saturating_sub(REMEMBERED)..] {
            text += &serde_json::to_string(run).expect("plain records can be written");
            text.push('\n');
        }
        self.db.insist(|| durable::write(&self.path, text.as_bytes()))
    }

    /// All that are remembered, in the order in which they ended.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn list(&self) -> Result<Vec<EndedRun>, StoreError> {
        read_runs(&self.path)
    }
}

/// The runs of the state in `dir`, whether a daemon holds it or not.
///
/// # Errors
/// When the file can't be read.
pub fn ended_runs(dir: &Path) -> Result<Vec<EndedRun>, StoreError> {
    read_runs(&dir.join(FILE))
}

/// A line that can't be read is left out, and said: a curve with a gap is better than none.
fn read_runs(path: &Path) -> Result<Vec<EndedRun>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(path)(error)),
    };
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let runs = lines.filter_map(|(index, line)| {
        serde_json::from_slice(line)
            .map_err(|error| tracing::warn!("{}:{}: {error}", path.display(), index + 1))
            .ok()
    });
    Ok(runs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn ended(run: &str, after: f64) -> EndedRun {
        EndedRun {
            time: 1_764_000_000.5,
            run: run.into(),
            event: RunEnd::Refused,
            reason: "no better".into(),
            before: Some(Scores { map50: 0.5, map50_95: 0.25 }),
            after: Some(Scores { map50: 0.5, map50_95: after }),
            samples: Some(30),
            holdout: Some(6),
            epochs: Some(40),
            seconds: Some(55.5),
            slot: None,
        }
    }

    #[test]
    fn runs_are_remembered_across_restarts_and_without_the_database() {
        let dir = tempfile::tempdir().expect("a folder");
        let runs = [ended("a", 0.25), ended("b", 0.5)];
        {
            let store = Store::open(dir.path()).expect("a store");
            assert_eq!(store.runs().list().expect("readable"), []);
            for run in runs.clone() {
                store.runs().add(run).expect("remembered");
            }
        }
        assert_eq!(Store::open(dir.path()).expect("a store").runs().list().expect("readable"), runs);
        fs::remove_dir_all(dir.path().join("store")).expect("a database to lose");
        assert_eq!(Store::open(dir.path()).expect("a store").runs().list().expect("readable"), runs);
        assert_eq!(ended_runs(dir.path()).expect("readable"), runs);
    }

    #[test]
    fn a_run_that_ends_twice_is_there_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        for run in [ended("a", 0.25), ended("b", 0.5), ended("a", 0.75)] {
            store.runs().add(run).expect("remembered");
        }
        assert_eq!(store.runs().list().expect("readable"), [ended("b", 0.5), ended("a", 0.75)]);
    }

    #[test]
    fn a_damaged_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        store.runs().add(ended("a", 0.25)).expect("remembered");
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).expect("a file");
        fs::write(&path, [b"{\"time\": \xff\n\n".as_slice(), text.as_bytes()].concat()).expect("a file");
        store.runs().add(ended("b", 0.5)).expect("remembered");
        assert_eq!(store.runs().list().expect("readable"), [ended("a", 0.25), ended("b", 0.5)]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let many: Vec<String> = (0..REMEMBERED)
            .map(|n| serde_json::to_string(&ended(&n.to_string(), 0.5)).expect("JSON"))
            .collect();
        fs::write(dir.path().join(FILE), many.join("\n")).expect("a file");
        store.runs().add(ended("last", 0.5)).expect("remembered");
        let runs = store.runs().list().expect("readable");
        assert_eq!((runs.len(), runs[0].run.as_str()), (REMEMBERED, "1"));
        assert_eq!(runs.last().expect("a run").run, "last");
    }
}
