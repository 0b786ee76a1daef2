//! Looks at everything that lies in a state directory and names what is not as it was written.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files::PASSING;

use super::blobs::{BlobFile, Blobs, hex};
use super::changes::Changes;
use super::database::{Database, FOLDER, Trees};
use super::index::Totals;
use super::lock::Lock;
use super::models::Models;
use super::sample::{Sample, SampleId};
use super::samples::{change_in, totals_in};
use super::{Message, PendingRun, Remembered, StoreError, durable, envelope, salvage};

/// What is wrong with a file or a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// Its bytes are not those that were written.
    Damaged,
    /// It is named and not there.
    Missing,
    /// It is there and nothing names it.
    Orphaned,
    /// Two that should tell the same don't.
    Differs,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The file, or the database's folder.
    pub path: PathBuf,
    /// What it is, and what can be done.
    pub message: String,
}

/// What was looked at and what was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Records of samples that are whole.
    pub samples: u64,
    /// Frames whose content was compared with their names.
    pub frames: u64,
    /// Their size.
    pub bytes: u64,
    /// Models whose content was compared with their records.
    pub models: u64,
    /// What is not as it was written; none when all is well.
    pub faults: Vec<Fault>,
}

impl Report {
    fn fault(&mut self, kind: FaultKind, path: impl Into<PathBuf>, message: impl Into<String>) {
        self.faults.push(Fault { kind, path: path.into(), message: message.into() });
    }
}

const REBUILD: &str = "`graftd samples rebuild` puts it right";

/// Reads every file and record of the store in `dir`, and changes none. `progress` is called now and then
/// with the frames that were read.
///
/// # Errors
/// When there is no store, another process holds it, or the disk fails. Damage is no error.
pub fn verify(dir: &Path, mut progress: impl FnMut(u64)) -> Result<Report, StoreError> {
    let _lock = hold(dir)?;
    let mut report = Report::default();
    let trees = match Database::look_into_copy(&dir.join(FOLDER)) {
        Ok(opened) => Some(opened),
        Err(error) => {
            report.fault(
                FaultKind::Damaged,
                dir.join(FOLDER),
                format!("the database can't be opened ({error}); {REBUILD}"),
            );
            None
        }
    };
    // The folder of the copy goes when this ends.
    let trees = trees.as_ref().map(|(trees, _)| trees);
    let blobs = Blobs::new(&dir.join("blobs"));
    let named = look_at_files(&blobs, trees, &mut report, &mut progress)?;
    if let Some(trees) = trees {
        look_at_records(dir, &blobs, trees, &named, &mut report)?;
        look_at_the_rest(dir, trees, &mut report)?;
    }
    look_at_models(dir, &mut report)?;
    Ok(report)
}

/// Keeps others out of a store that is there.
fn hold(dir: &Path) -> Result<Lock, StoreError> {
    if !dir.join("blobs").is_dir() {
        return Err(StoreError::NoState { path: dir.to_owned() });
    }
    let lock = Lock::take(&dir.join("graftd.lock"))?;
    durable::make_dir(&dir.join(FOLDER))?;
    Ok(lock)
}

/// Frames and copies; gives the samples that have a copy.
fn look_at_files(
    blobs: &Blobs,
    trees: Option<&Trees>,
    report: &mut Report,
    progress: &mut impl FnMut(u64),
) -> Result<HashSet<SampleId>, StoreError> {
    let (mut frames, mut named_frames, mut copied) = (Vec::new(), HashSet::new(), HashSet::new());
    blobs.each(|path, file| {
        match file {
            BlobFile::Frame(name) => {
                let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
                report.frames += 1;
                report.bytes += bytes.len() as u64;
                if Blobs::name_of(&bytes) != name {
                    let message = "the frame is not what its name says; delete the sample, or put the frame \
                                   back from a backup";
                    report.fault(FaultKind::Damaged, &path, message);
                }
                frames.push((path, name));
                progress(report.frames);
            }
            BlobFile::Copy(id) => {
                copied.insert(id);
                match blobs.read_copy(&path) {
                    Ok(copy) => {
                        compare_copy(blobs, trees, &path, &copy, report)?;
                        named_frames.insert(copy.frame);
                    }
                    Err(reason) => {
                        let message = format!("the copy of a record is damaged ({reason}); {REBUILD}");
                        report.fault(FaultKind::Damaged, &path, message);
                    }
                }
            }
            BlobFile::Strange => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with(PASSING) {
                    report.fault(FaultKind::Orphaned, &path, "graftd did not write it; move it away");
                }
            }
        }
        Ok(())
    })?;
    for entry in trees.into_iter().flat_map(|trees| trees.samples.iter()) {
        if let Ok(sample) = envelope::open::<Sample>(String::new, &entry?.1) {
            named_frames.insert(sample.frame);
        }
    }
    for (path, name) in frames {
        if !named_frames.contains(&name) {
            report.fault(FaultKind::Orphaned, path, "no sample has this frame; it may be deleted");
        }
    }
    Ok(copied)
}

fn compare_copy(
    blobs: &Blobs,
    trees: Option<&Trees>,
    path: &Path,
    copy: &Sample,
    report: &mut Report,
) -> Result<(), StoreError> {
    if !blobs.path(&copy.frame).exists() {
        let message = format!("its frame {} is missing", copy.frame);
        report.fault(FaultKind::Missing, path, message);
    }
    let Some(trees) = trees else { return Ok(()) };
    match trees.samples.get(copy.id.0.as_bytes())?.map(|bytes| envelope::open::<Sample>(String::new, &bytes))
    {
        Some(Ok(record)) if record == *copy => {}
        Some(Ok(_)) => {
            let message = format!("the copy tells something else than the record; {REBUILD}");
            report.fault(FaultKind::Differs, path, message);
        }
        // A damaged record is named when the records are gone through.
        Some(Err(_)) => {}
        None => {
            let message = format!("the database has no record of sample {}; {REBUILD}", copy.id);
            report.fault(FaultKind::Orphaned, path, message);
        }
    }
    Ok(())
}

fn look_at_records(
    dir: &Path,
    blobs: &Blobs,
    trees: &Trees,
    copied: &HashSet<SampleId>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut totals = Totals::default();
    for entry in trees.samples.iter() {
        let (key, bytes) = entry?;
        let Ok(sample) = envelope::open::<Sample>(String::new, &bytes) else {
            let message = format!("the record of sample {} is damaged; {REBUILD}", hex(&key));
            report.fault(FaultKind::Damaged, dir.join(FOLDER), message);
            continue;
        };
        report.samples += 1;
        totals.add(&sample);
        if !blobs.path(&sample.frame).exists() {
            let message = format!("the frame of sample {} is missing; delete the sample", sample.id);
            report.fault(FaultKind::Missing, blobs.path(&sample.frame), message);
        }
        if !copied.contains(&sample.id) {
            let message = format!("the copy of the record of sample {} is missing; {REBUILD}", sample.id);
            report.fault(FaultKind::Missing, blobs.copy_path(&sample), message);
        }
    }
    let told = totals_in(trees)?.unwrap_or_default();
    if told != totals || trees.by_state.len() as u64 != totals.samples() {
        let message = format!(
            "the database holds {} samples and tells of {}; {REBUILD}",
            totals.samples(),
            told.samples()
        );
        report.fault(FaultKind::Differs, dir.join(FOLDER), message);
    }
    let (inside, outside) = (change_in(trees)?, Changes::open(dir)?.get());
    if inside != outside {
        let message =
            format!("the last change has number {inside:?} inside and {outside:?} outside; {REBUILD}");
        report.fault(FaultKind::Differs, dir.join("changes"), message);
    }
    Ok(())
}

/// Messages, commands, the run that goes on.
fn look_at_the_rest(dir: &Path, trees: &Trees, report: &mut Report) -> Result<(), StoreError> {
    let mut look = |tree: &sled::Tree, what: &str, is_whole: &dyn Fn(&[u8]) -> bool| {
        for entry in tree.iter() {
            let (key, bytes) = entry?;
            if !is_whole(&bytes) {
                let message = format!("{what} {} is damaged, and has no copy", String::from_utf8_lossy(&key));
                report.fault(FaultKind::Damaged, dir.join(FOLDER), message);
            }
        }
        Ok::<(), StoreError>(())
    };
    let is_message = |bytes: &[u8]| envelope::open::<Message>(String::new, bytes).is_ok();
    look(&trees.outbox, "a message for the broker", &is_message)?;
    look(&trees.aside, "a message that was set aside", &is_message)?;
    look(&trees.commands, "what is remembered of command", &|bytes| {
        envelope::open::<(u64, Remembered)>(String::new, bytes).is_ok()
    })?;
    look(&trees.pending, "what is remembered of the", &|bytes| {
        envelope::open::<PendingRun>(String::new, bytes).is_ok()
    })
}

fn look_at_models(dir: &Path, report: &mut Report) -> Result<(), StoreError> {
    let models = Models::new(&dir.join("models"));
    for slot in models.numbers()? {
        let path = models.model_path(slot);
        let record = match models.read(slot) {
            Ok(record) => record,
            Err(error) => {
                report.fault(FaultKind::Damaged, path.with_file_name("slot.json"), error.to_string());
                continue;
            }
        };
        report.models += 1;
        match fs::read(&path) {
            Ok(bytes) if super::models::sha256(&bytes) == record.sha256 => {}
            Ok(_) => {
                let message = "the model is not what its record says; `graftd models rollback` goes to the \
                               one before, if it is the current one";
                report.fault(FaultKind::Damaged, path, message);
            }
            Err(error) => report.fault(FaultKind::Missing, path, error.to_string()),
        }
    }
    if report.models > 0 && fs::metadata(models.current_path()).is_err() {
        let message = "it leads to no model; `graftd models promote` sets it";
        report.fault(FaultKind::Missing, models.current_path(), message);
    }
    Ok(())
}

/// Makes the database in `dir` anew: from the copies beside the frames, and from what can still be read of
/// the old one, which is moved aside and never deleted. Gives where to.
///
/// # Errors
/// When there is no store, another process holds it, or the disk fails.
pub fn rebuild(dir: &Path) -> Result<PathBuf, StoreError> {
    let _lock = hold(dir)?;
    // Whoever opens the store next compares everything.
    Changes::open(dir)?.forget()?;
    salvage::replace(dir, |to| {
        match Database::look_into_copy(&dir.join(FOLDER)) {
            Ok((old, _copy)) => Database::look_into(to)?.take_over(&old)?,
            Err(error) => {
                tracing::warn!("{error}; messages and commands that waited in it are not taken over");
            }
        }
        Ok(())
    })
}
