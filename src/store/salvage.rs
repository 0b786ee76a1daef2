//! Another database in the place of the one that is there: built beside it, brought to the disk, exchanged.
//!
//! At every moment one of the two is in its place and whole: a power cut in the middle costs nothing that
//! can be read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::files;

use super::database::FOLDER;
use super::sample::milliseconds;
use super::{StoreError, durable};

/// Has a database built in an empty folder, and puts it in the place of the one in `dir` when all of it is on
/// the disk. Gives where the old one is kept from then on.
///
/// A power cut may leave the new one beside the old one, under the name that was meant for the old: it takes
/// room and nothing else.
pub(super) fn replace(
    dir: &Path,
    build: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<PathBuf, StoreError> {
    let path = dir.join(FOLDER);
    let staging =
        tempfile::Builder::new().prefix(files::PASSING).tempdir_in(dir).map_err(StoreError::io(dir))?;
    build(staging.path())?;
    let rights = fs::metadata(&path).map_err(StoreError::io(&path))?.permissions();
    fs::set_permissions(staging.path(), rights).map_err(StoreError::io(staging.path()))?;
    settle(staging.path())?;
    // Before the exchange: what still bears a passing name is swept at the next start, and the old one must
    // not be.
    let aside = free_name(dir);
    fs::rename(staging.keep(), &aside).map_err(StoreError::io(&aside))?;
    durable::sync_dir(dir)?;
    exchange(dir, &path, &aside)
}

/// Moves the database aside and leaves none; gives where to.
pub(super) fn move_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let (path, aside) = (dir.join(FOLDER), free_name(dir));
    fs::rename(&path, &aside).map_err(StoreError::io(&path))?;
    durable::make_dir(&path)?;
    durable::sync_dir(dir)?;
    Ok(aside)
}

fn exchange(dir: &Path, path: &Path, aside: &Path) -> Result<PathBuf, StoreError> {
    let kept = match renameat_with(CWD, path, CWD, aside, RenameFlags::EXCHANGE) {
        Ok(()) => aside.to_owned(),
        Err(error) => {
            tracing::warn!(
                "{}: {error}: this file system exchanges no names, so the database is away for a moment",
                path.display()
            );
            let kept = free_name(dir);
            fs::rename(path, &kept).map_err(StoreError::io(path))?;
            fs::rename(aside, path).map_err(StoreError::io(aside))?;
            kept
        }
    };
    durable::sync_dir(dir)?;
    Ok(kept)
}

/// Brings everything in a folder to the disk.
fn settle(folder: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(StoreError::io(folder))? {
        let path = entry.map_err(StoreError::io(folder))?.path();
        if path.is_dir() {
            settle(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(StoreError::io(&path))?;
        }
    }
    durable::sync_dir(folder)
}

fn free_name(dir: &Path) -> PathBuf {
    let now = milliseconds(SystemTime::now());
    let mut names = (0..).map(|n| dir.join(format!("{FOLDER}.aside-{}", now + n)));
    names.find(|path| !path.exists()).expect("names don't run out")
}
