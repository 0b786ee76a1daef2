//! Files that are there whole or not at all, and the room that is left for them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// What the names of files and folders begin with that are not in their place yet.
pub const PASSING: &str = ".new-";

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts a file in its place: written beside it, brought to the disk, renamed. Readers see the old bytes or
/// the new, never a part. The new name survives a power cut once [`sync_dir`] has been called.
///
/// # Errors
/// When the disk fails; the old file is still there then.
pub fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place_as(path, bytes, None)
}

/// [`place`], for a file that other programs read too, and durably.
///
/// # Errors
/// As [`place`].
pub fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Temporary files are private; the folder says who may.
    place_as(path, bytes, Some(0o644))?;
    sync_dir(folder_of(path))
}

/// [`publish`], where nothing may be there yet.
///
/// # Errors
/// As [`place`]; of the kind `AlreadyExists` when there is something, which stays as it is.
pub fn publish_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes, Some(0o644))?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_dir(folder_of(path))
}

fn place_as(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    written(path, bytes, mode)?.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A file that lies beside its place and is whole.
fn written(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(PASSING).tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Brings a folder's entries to the disk.
///
/// # Errors
/// When the disk fails.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a folder and those above it, durably: a new folder's name lies in the one above it, so that one is
/// synced. A folder that is there is taken to be durable.
///
/// # Errors
/// When the disk fails.
pub fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    if above != path {
        make_dir(above)?;
    }
    match fs::create_dir(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    sync_dir(above)
}

/// Whether there is something in a folder that is on its way to its place, or never came there.
///
/// # Errors
/// When the disk fails.
pub fn has_leftovers(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if is_leftover(&entry?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_leftover(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(PASSING.as_bytes())
}

/// Removes what interrupted writes left in a folder, which nobody else may be writing to.
///
/// # Errors
/// When the disk fails.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_leftover(&entry) {
            continue;
        }
        let is_dir = entry.file_type()?.is_dir();
        if is_dir { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// Free space for this user where `path` lies, bytes; none where the system does not tell.
pub fn free_space(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

/// Takes the lock that one run at a time may hold, as long as the file is open.
///
/// # Errors
/// Of the kind `WouldBlock`, when another run holds it.
pub fn lock_for_run(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another run is using it"),
        TryLockError::Error(error) => error,
    })
}
