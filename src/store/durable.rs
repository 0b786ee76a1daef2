//! Files that survive a power cut: written beside, synced, renamed, the folder synced.

use std::fs;
use std::io;
use std::path::Path;

use crate::files;

use super::StoreError;

/// Makes a folder and those above it, durably: a new folder's name lies in the one above it, so that one
/// is synced.
pub(super) fn make_dir(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent =
        path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    if let Some(parent) = parent {
        make_dir(parent)?;
    }
    match fs::create_dir(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made.map_err(StoreError::io(path))?,
    }
    parent.map_or(Ok(()), sync_dir)
}

/// Syncs a folder's entries.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    files::sync_dir(path).map_err(StoreError::io(path))
}

/// Replaces or makes a file, durably: readers see the old bytes or the new, never a part.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    files::publish(path, bytes).map_err(StoreError::io(path))
}

/// Removes what an interrupted [`write()`] left in a folder.
pub(super) fn sweep(dir: &Path) -> Result<(), StoreError> {
    files::sweep(dir).map_err(StoreError::io(dir))
}
