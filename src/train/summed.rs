//! Small files of a run: whole or not there, with a checksum, on the disk when they are written.

use std::fs;
use std::io;
use std::path::Path;

use crate::files;

/// Names what a file holds, and its version.
pub(super) type Magic = [u8; 8];

/// Puts `body` in its place, so that a power cut leaves it or what was there before.
pub(super) fn write(path: &Path, magic: &Magic, body: &[u8]) -> io::Result<()> {
    let sum = crc32fast::hash(body).to_le_bytes();
    files::place(path, &[&magic[..], &sum, body].concat())?;
    let folder = files::folder_of(path);
    files::sync_dir(folder)?;
    // A run that was killed may have made the folder and not brought its name to the disk.
    files::sync_dir(files::folder_of(folder))
}

/// What a file holds: an error when there is none or it can't be read, nothing when it is damaged or another.
pub(super) fn read(path: &Path, magic: &Magic) -> io::Result<Option<Vec<u8>>> {
    let bytes = fs::read(path)?;
    let body = || {
        let (sum, body) = bytes.strip_prefix(magic)?.split_first_chunk::<4>()?;
        (crc32fast::hash(body) == u32::from_le_bytes(*sum)).then_some(body)
    };
    Ok(body().map(<[u8]>::to_vec))
}

/// Takes a file away, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
