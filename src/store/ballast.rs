//! Room that is held back: a file that is thrown overboard when the disk is full, so that labels and answers
//! can still be written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::files::free_space;

/// A file that takes room and holds nothing.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
    /// So much must be free besides, for the ballast to be taken on.
    floor: u64,
}

impl Ballast {
    /// The ballast in a state directory. Nothing is written before [`Ballast::take_on`].
    pub fn new(dir: &Path, bytes: u64, floor: u64) -> Self {
        Ballast { path: dir.join("ballast"), bytes, floor }
    }

    /// Makes the file if it is not there in full, and if there is room for it above the floor.
    pub fn take_on(&self) {
        let has = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if has == self.bytes {
            return;
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.bytes == 0 || free_space(dir).is_none_or(|free| free + has < self.bytes + self.floor) {
            if has > 0 {
                self.drop_it();
            }
            return;
        }
        let made = File::create(&self.path).and_then(|file| {
            // A file with holes would hold nothing back.
            fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?;
            Ok(())
        });
        if let Err(error) = made {
            tracing::warn!("{}: {error}; no room is held back for a full disk", self.path.display());
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives its room back; whether there was any.
    pub fn drop_it(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0)
            && fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_room_once_and_gives_it_back_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let ballast = Ballast::new(dir.path(), 1 << 20, 0);
        assert!(!ballast.drop_it());
        ballast.take_on();
        ballast.take_on();
        let file = fs::metadata(dir.path().join("ballast")).expect("a file");
        assert_eq!(file.len(), 1 << 20);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file) * 512 >= 1 << 20, "it has holes");
        assert!(ballast.drop_it());
        assert!(!ballast.drop_it());
    }

    #[test]
    fn it_is_not_taken_on_where_the_floor_is_near() {
        let dir = tempfile::tempdir().expect("a folder");
        Ballast::new(dir.path(), 1 << 20, u64::MAX / 2).take_on();
        assert!(!dir.path().join("ballast").exists());
    }
}
