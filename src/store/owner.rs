//! Who looks after a store as root leaves nothing of root's in it: the daemon, which is not root, could not read it.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chownat, openat, statat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};

/// Gives what root has made in `dir` to whom the folder belongs. Does nothing for others than root.
pub(super) fn give_back(dir: &Path) -> Result<(), Errno> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let folder = openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let owner = rustix::fs::fstat(&folder)?;
    if owner.st_uid == 0 {
        return Ok(());
    }
    give(Dir::new(folder)?, Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid))
}

/// Through open folders and never through a link: who owns them must not lead root elsewhere.
fn give(mut folder: Dir, owner: Uid, group: Gid) -> Result<(), Errno> {
    while let Some(entry) = folder.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let fd = folder.fd()?;
        let found = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        // A file with two names may be another's.
        if found.st_uid == 0 && (is_folder || found.st_nlink == 1) {
            chownat(fd, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if is_folder {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            give(Dir::new(openat(fd, name, flags, Mode::empty())?)?, owner, group)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use super::*;
    use crate::store::Store;

    /// Files and folders of root's below a folder.
    fn of_root(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let metadata = entry.metadata().expect("its owner");
            if metadata.uid() == 0 {
                found.push(entry.path());
            }
            if metadata.is_dir() {
                found.extend(of_root(&entry.path()));
            }
        }
        found
    }

    #[test]
    fn what_root_leaves_in_a_store_belongs_to_the_store_s_owner() {
        let outside = tempfile::tempdir().expect("a folder");
        let state = tempfile::tempdir().expect("a folder");
        let own = outside.path().join("own");
        fs::write(&own, b"").expect("a file");
        let before = fs::metadata(&own).expect("its owner").uid();
        symlink(outside.path(), state.path().join("elsewhere")).expect("a link");
        if geteuid().is_root() {
            chown(state.path(), Some(12345), Some(12345)).expect("root may");
        }
        drop(Store::open(state.path()).expect("a store"));
        // For others than root it has changed nothing, and could not.
        assert_eq!(of_root(state.path()), Vec::<std::path::PathBuf>::new());
        assert_eq!(fs::metadata(&own).expect("its owner").uid(), before, "what a link leads to");
    }
}
