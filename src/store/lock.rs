//! The lock that keeps a second process out. The kernel drops it with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{StoreError, owner};

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    folder: PathBuf,
}

impl Lock {
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(StoreError::io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::Locked { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path: path.to_owned(), source }),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(StoreError::io(path))?;
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Lock { file, folder })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // All else of the store is closed by now, and nobody else may be in it yet.
        if let Err(error) = owner::give_back(&self.folder) {
            let folder = self.folder.display();
            tracing::error!("{folder}: what root has written there may be of no use to others: {error}");
        }
        // Closing would do, unless another thread is just starting a process: until that is another program it has
        // the file too.
        if let Err(error) = self.file.unlock() {
            tracing::warn!("the state's lock: {error}");
        }
    }
}
