//! A folder of pictures that plays the camera.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{CaptureError, Frame, Image, Next, Source};

/// A file may be so large, bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Gives a folder's pictures in the order of their names.
#[derive(Debug)]
pub(super) struct FolderCamera {
    folder: PathBuf,
    pictures: Vec<PathBuf>,
    next: usize,
    repeat: bool,
}

impl FolderCamera {
    /// Looks for JPEG and PNG files in a folder; `repeat` starts again at its end.
    pub fn open(folder: &Path, repeat: bool) -> Result<Self, CaptureError> {
        let fail = |source| CaptureError::Folder { path: folder.to_owned(), source };
        let mut pictures = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if is_picture(&path) && path.is_file() {
                pictures.push(path);
            }
        }
        if pictures.is_empty() {
            return Err(CaptureError::Empty { path: folder.to_owned() });
        }
        pictures.sort();
        Ok(FolderCamera { folder: folder.to_owned(), pictures, next: 0, repeat })
    }
}

impl Source for FolderCamera {
    fn next(&mut self) -> Result<Next, CaptureError> {
        if self.next == self.pictures.len() && self.repeat {
            self.next = 0;
        }
        let Some(path) = self.pictures.get(self.next) else { return Ok(Next::End) };
        self.next += 1;
        read(path).map(Next::Frame).map_err(|error| match fs::metadata(&self.folder) {
            Ok(_) => error,
            // Every other file would fail as well, again and again.
            Err(source) => CaptureError::Folder { path: self.folder.clone(), source },
        })
    }

    fn describe(&self) -> String {
        format!("{} pictures{}", self.pictures.len(), if self.repeat { ", again and again" } else { "" })
    }
}

/// Whether a file's name is that of a JPEG or PNG.
pub(super) fn is_picture(path: &Path) -> bool {
    let known = |extension: &std::ffi::OsStr| {
        ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    };
    path.extension().is_some_and(known)
}

/// A file as a frame.
pub(super) fn read(path: &Path) -> Result<Frame, CaptureError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refuse = |reason: String| Err(CaptureError::Frame { name: name.clone(), reason });
    match fs::metadata(path) {
        Ok(known) if !known.is_file() => return refuse("it is no file".into()),
        Ok(known) if known.len() > MAX_FILE => {
            return refuse(format!("it has more than {} MB", MAX_FILE >> 20));
        }
        Ok(_) => {}
        Err(error) => return refuse(error.to_string()),
    }
    match fs::read(path) {
        Ok(bytes) => Ok(Frame { image: Image::Encoded(bytes), taken: SystemTime::now(), source: name }),
        Err(error) => refuse(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_in_order_once_or_again_and_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["b.PNG", "a.jpg", "notes.txt"] {
            fs::write(dir.path().join(name), name).expect("a file");
        }
        let names = |repeat: bool| -> Vec<String> {
            let mut camera = FolderCamera::open(dir.path(), repeat).expect("a camera");
            let next = || match camera.next().expect("readable") {
                Next::Frame(frame) => Some(frame.source),
                _ => None,
            };
            std::iter::from_fn(next).take(3).collect()
        };
        assert_eq!(names(false), ["a.jpg", "b.PNG"]);
        assert_eq!(names(true), ["a.jpg", "b.PNG", "a.jpg"]);
    }

    #[test]
    fn a_file_that_goes_costs_one_frame_and_a_folder_that_goes_the_source() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("frames");
        fs::create_dir(&folder).expect("a folder");
        for name in ["a.jpg", "b.jpg", "c.jpg"] {
            fs::write(folder.join(name), name).expect("a file");
        }
        fs::File::create(folder.join("b.jpg")).and_then(|file| file.set_len(MAX_FILE + 1)).expect("a file");
        let mut camera = FolderCamera::open(&folder, true).expect("a camera");
        fs::remove_file(folder.join("a.jpg")).expect("removed");
        assert!(camera.next().expect_err("it is gone").is_of_one_frame());
        let large = camera.next().expect_err("it is too large");
        assert!(large.is_of_one_frame() && large.to_string().contains("64 MB"), "{large}");
        assert!(camera.next().is_ok());
        fs::remove_dir_all(&folder).expect("removed");
        assert!(!camera.next().expect_err("all is gone").is_of_one_frame());
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(FolderCamera::open(dir.path(), true), Err(CaptureError::Empty { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(FolderCamera::open(&missing, true), Err(CaptureError::Folder { .. })));
    }
}
