//! A number outside sled that grows with every change of the samples.
//!
//! sled holds the same number. It is written here before anything is changed, so the two differ when a change was cut short, and
//! when sled has lost some: a flipped bit makes it forget what came after, and say nothing. Where they
//! agree nothing needs to be looked at when the store is opened, however many samples there are.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{StoreError, durable};

const LENGTH: usize = 12;

/// The number's file.
#[derive(Debug)]
pub(super) struct Changes {
    path: std::path::PathBuf,
    file: File,
}

impl Changes {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("changes");
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io(&path))?;
        if is_new {
            durable::sync_dir(dir)?;
        }
        // What a killed process wrote is read, and need not be on the disk yet.
        file.sync_data().map_err(StoreError::io(&path))?;
        Ok(Changes { path, file })
    }

    /// The number; none when there is none yet or it is damaged.
    pub fn get(&self) -> Option<u64> {
        let mut bytes = [0; LENGTH];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (number, crc) = bytes.split_at(8);
        let number: [u8; 8] = number.try_into().expect("eight of twelve bytes");
        (crc32fast::hash(&number).to_le_bytes() == crc).then_some(u64::from_le_bytes(number))
    }

    /// Sets it; survives a power cut when this returns.
    pub fn set(&self, number: u64) -> Result<(), StoreError> {
        let number = number.to_le_bytes();
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_le_bytes());
        // Twelve bytes in one sector: the old number or the new, and the checksum sees the rest.
        let written = self.file.write_all_at(&bytes, 0).and_then(|()| self.file.sync_data());
        written.map_err(StoreError::io(&self.path))
    }

    /// Makes it no number until it is set again: whoever opens the store before that compares everything.
    pub fn forget(&self) -> Result<(), StoreError> {
        let forgotten = self.file.set_len(0).and_then(|()| self.file.sync_data());
        forgotten.map_err(StoreError::io(&self.path))
    }
}
