//! Frames as immutable files named by their content, each with copies of the records that name it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::older::interest_of;
use super::sample::{Sample, SampleId};
use super::{StoreError, durable};

/// `<dir>/<2 digits>/<sha256>.<jpg|png>` and `<sha256>.<sample>.json` beside it.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    dir: PathBuf,
}

/// What a file among the frames is.
pub(super) enum BlobFile {
    /// A frame; its name.
    Frame(String),
    /// A copy of a record.
    Copy(SampleId),
    /// Neither.
    Strange,
}

impl Blobs {
    pub fn new(dir: &Path) -> Self {
        Blobs { dir: dir.to_owned() }
    }

    /// Removes what interrupted writes left.
    pub fn sweep(&self) -> Result<(), StoreError> {
        durable::sweep(&self.dir)?;
        self.folders()?.iter().try_for_each(|folder| durable::sweep(folder))
    }

    /// Brings to the disk which files there are: what a killed process left may be on its way there. What
    /// they hold was there before they had their names.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.folders()?.iter().try_for_each(|folder| durable::sync_dir(folder))?;
        durable::sync_dir(&self.dir)
    }

    /// The name that a frame has by its content.
    pub fn name_of(bytes: &[u8]) -> String {
        format!("{}.{}", hex(&Sha256::digest(bytes)), extension(bytes))
    }

    /// Writes a frame, unless the same bytes are there already; gives its name and whether it is new.
    pub fn put(&self, bytes: &[u8]) -> Result<(String, bool), StoreError> {
        let name = Self::name_of(bytes);
        let path = self.path(&name);
        // A file of another length is damaged, and these are the bytes that belong there.
        let is_there = fs::metadata(&path).is_ok_and(|file| file.len() == bytes.len() as u64);
        if !is_there {
            durable::make_dir(path.parent().unwrap_or(&self.dir))?;
            durable::write(&path, bytes)?;
        }
        Ok((name, !is_there))
    }

    /// Where a frame lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name.get(..2).unwrap_or(name)).join(name)
    }

    /// The size of a frame's file; none when there is none.
    pub fn size(&self, name: &str) -> Option<u64> {
        fs::metadata(self.path(name)).ok().map(|file| file.len())
    }

    /// Removes a frame that no record names.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes the copy of a record beside its frame.
    pub fn write_copy(&self, sample: &Sample) -> Result<(), StoreError> {
        durable::write(&self.copy_path(sample), &sample.to_copy())
    }

    /// Removes the copy of a record, durably.
    pub fn remove_copy(&self, sample: &Sample) -> Result<(), StoreError> {
        let path = self.copy_path(sample);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path)(error)),
            _ => durable::sync_dir(path.parent().unwrap_or(&self.dir)),
        }
    }

    /// Whether a sample's copy is the only one beside its frame.
    pub fn is_alone(&self, sample: &Sample) -> Result<bool, StoreError> {
        let own = self.copy_path(sample);
        let folder = own.parent().unwrap_or(&self.dir);
        let stem = sample.frame.split('.').next().unwrap_or(&sample.frame);
        let others = entries(folder)?.into_iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            *path != own && name.starts_with(stem) && name.ends_with(".json")
        });
        Ok(others.count() == 0)
    }

    /// Reads a copy; what is wrong with it otherwise.
    pub fn read_copy(&self, path: &Path) -> Result<Sample, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let mut sample = Sample::from_copy(&bytes)?;
        if self.copy_path(&sample) != path {
            return Err("it speaks of another sample or frame".into());
        }
        if sample.bytes == 0 {
            // Written before there were these fields.
            sample.bytes = self.size(&sample.frame).unwrap_or_default();
            sample.interest = interest_of(&sample.why);
        }
        Ok(sample)
    }

    /// Every file, folder by folder, with what it is.
    pub fn each(
        &self,
        mut look: impl FnMut(PathBuf, BlobFile) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for folder in self.folders()? {
            for path in entries(&folder)? {
                let kind = self.kind_of(&path);
                look(path, kind)?;
            }
        }
        Ok(())
    }

    /// The path of a record's copy.
    pub fn copy_path(&self, sample: &Sample) -> PathBuf {
        let SampleId(id) = sample.id;
        self.path(&sample.frame).with_extension(format!("{id}.json"))
    }

    fn kind_of(&self, path: &Path) -> BlobFile {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let parts: Vec<&str> = name.split('.').collect();
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match parts[..] {
            [hash, "jpg" | "png"] if is_hash(hash) && self.path(&name) == path => {
                BlobFile::Frame(name.into_owned())
            }
            [hash, id, "json"] if is_hash(hash) => id.parse().map_or(BlobFile::Strange, BlobFile::Copy),
            _ => BlobFile::Strange,
        }
    }

    fn folders(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut folders = entries(&self.dir)?;
        folders.retain(|path| path.is_dir());
        Ok(folders)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = match fs::read_dir(folder) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(folder)(error)),
    };
    let mut paths = list
        .map(|entry| Ok(entry.map_err(StoreError::io(folder))?.path()))
        .collect::<Result<Vec<_>, StoreError>>()?;
    paths.sort_unstable();
    Ok(paths)
}

fn extension(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\x89PNG") { "png" } else { "jpg" }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
