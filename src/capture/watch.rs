//! A folder that other programs put pictures into.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::folder::{is_picture, read};
use super::{CaptureError, Next, Source};

/// So long it waits for a file before it says that there is none.
const WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Gives the pictures that come into a folder after it was opened, each when it is complete: closed by
/// whoever wrote it, or moved into place.
#[derive(Debug)]
pub(super) struct WatchedFolder {
    folder: PathBuf,
    events: OwnedFd,
    /// Complete, and not given yet.
    waiting: std::collections::VecDeque<PathBuf>,
}

impl WatchedFolder {
    pub fn open(folder: &Path) -> Result<Self, CaptureError> {
        let fail = |error: Errno| CaptureError::Folder { path: folder.to_owned(), source: error.into() };
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(fail)?;
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, folder, what).map_err(fail)?;
        Ok(WatchedFolder { folder: folder.to_owned(), events, waiting: Default::default() })
    }

    fn take_events(&mut self) -> Result<(), CaptureError> {
        let fail = |error: Errno| CaptureError::Folder { path: self.folder.clone(), source: error.into() };
        let mut fds = [PollFd::new(&self.events, PollFlags::IN)];
        match poll(&mut fds, Some(&WAIT)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(fail(error)),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(fail(error)),
            };
            let flags = event.events();
            if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
                return Err(fail(Errno::NOENT));
            }
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                tracing::warn!("camera {}: more files came than the kernel counts", self.folder.display());
            }
            // Names are bytes to the kernel, and need not be UTF-8.
            let path = event.file_name().map(|name| self.folder.join(OsStr::from_bytes(name.to_bytes())));
            self.waiting.extend(path.filter(|path| is_picture(path)));
        }
    }
}

impl Source for WatchedFolder {
    fn next(&mut self) -> Result<Next, CaptureError> {
        if self.waiting.is_empty() {
            self.take_events()?;
        }
        match self.waiting.pop_front() {
            Some(path) => read(&path).map(Next::Frame),
            None => Ok(Next::Nothing),
        }
    }

    fn describe(&self) -> String {
        "pictures as they come into the folder".into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    fn next(camera: &mut WatchedFolder) -> Option<String> {
        match camera.next().expect("readable") {
            Next::Frame(frame) => Some(frame.source),
            Next::Nothing => None,
            Next::End => panic!("it does not end"),
        }
    }

    #[test]
    fn a_file_is_given_when_it_is_complete() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("old.jpg"), b"was there before").expect("a file");
        let mut camera = WatchedFolder::open(dir.path()).expect("a camera");
        let mut file = File::create(dir.path().join("new.jpg")).expect("a file");
        file.write_all(b"half").expect("written");
        assert_eq!(next(&mut camera), None, "it is still being written");
        file.write_all(b" and half").expect("written");
        drop(file);
        fs::write(dir.path().join("notes.txt"), b"no picture").expect("a file");
        fs::write(dir.path().join("passing"), b"moved").expect("a file");
        fs::rename(dir.path().join("passing"), dir.path().join("moved.png")).expect("moved");
        assert_eq!(next(&mut camera).as_deref(), Some("new.jpg"));
        assert_eq!(next(&mut camera).as_deref(), Some("moved.png"));
        assert_eq!(next(&mut camera), None);
    }

    #[test]
    fn a_name_that_is_no_utf8_is_read_all_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut camera = WatchedFolder::open(dir.path()).expect("a camera");
        let name = OsStr::from_bytes(b"bj\xf8rn.jpg");
        fs::write(dir.path().join(name), b"latin").expect("a file");
        assert_eq!(next(&mut camera).as_deref(), Some("bj\u{fffd}rn.jpg"));
    }

    #[test]
    fn a_folder_that_goes_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("frames");
        assert!(WatchedFolder::open(&folder).is_err());
        fs::create_dir(&folder).expect("a folder");
        let mut camera = WatchedFolder::open(&folder).expect("a camera");
        fs::remove_dir(&folder).expect("removed");
        assert!(camera.next().is_err());
    }
}
