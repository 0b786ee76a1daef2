//! Frames as immutable files named by their content, each with copies of the records that name it.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::sample::{Sample, SampleId};
use super::{StoreError, durable};

/// `<dir>/<2 digits>/<sha256>.<jpg|png>` and `<sha256>.<sample>.json` beside it.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        durable::sweep(dir)?;
        Ok(Blobs { dir: dir.to_owned() })
    }

    /// Writes a frame, unless the same bytes are there already; gives its name.
    pub fn put(&self, bytes: &[u8]) -> Result<String, StoreError> {
        let name = format!("{}.{}", hex(&Sha256::digest(bytes)), extension(bytes));
        let path = self.path(&name);
        if !path.exists() {
            durable::make_dir(path.parent().unwrap_or(&self.dir))?;
            durable::write(&path, bytes)?;
        }
        Ok(name)
    }

    /// Where a frame lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(&name[..2]).join(name)
    }

    /// Removes a frame that no record names.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(StoreError::io(path))
    }

    /// Writes the copy of a record beside its frame.
    pub fn write_copy(&self, sample: &Sample) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(sample).expect("plain records can be written");
        durable::write(&self.copy_path(sample), &text)
    }

    /// Removes the copy of a record, durably.
    pub fn remove_copy(&self, sample: &Sample) -> Result<(), StoreError> {
        let path = self.copy_path(sample);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(path)(error)),
            _ => durable::sync_dir(path.parent().unwrap_or(&self.dir)),
        }
    }

    /// Every copy that can be read and whose frame is there. A damaged one is reported and left.
    pub fn copies(&self) -> Result<Vec<Sample>, StoreError> {
        let mut copies = Vec::new();
        for folder in fs::read_dir(&self.dir).map_err(StoreError::io(&self.dir))? {
            let folder = folder.map_err(StoreError::io(&self.dir))?.path();
            if !folder.is_dir() {
                continue;
            }
            durable::sweep(&folder)?;
            for entry in fs::read_dir(&folder).map_err(StoreError::io(&folder))? {
                let path = entry.map_err(StoreError::io(&folder))?.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
                match serde_json::from_slice::<Sample>(&bytes) {
                    Ok(sample) if self.path(&sample.frame).exists() => copies.push(sample),
                    Ok(_) => tracing::warn!("{}: its frame is missing", path.display()),
                    Err(error) => tracing::warn!("{}: {error}; it can't be restored from", path.display()),
                }
            }
        }
        Ok(copies)
    }

    fn copy_path(&self, sample: &Sample) -> PathBuf {
        let SampleId(id) = sample.id;
        self.path(&sample.frame).with_extension(format!("{id}.json"))
    }
}

fn extension(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\x89PNG") { "png" } else { "jpg" }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
