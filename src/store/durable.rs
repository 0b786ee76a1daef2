//! Files that survive a power cut: written beside, synced, renamed, the folder synced.

use std::path::Path;

use crate::files;

use super::StoreError;

/// Makes a folder and those above it, durably.
pub(super) fn make_dir(path: &Path) -> Result<(), StoreError> {
    files::make_dir(path).map_err(StoreError::io(path))
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
