//! A folder of pictures that plays the camera.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{CaptureError, Frame, Image, Next, Source};

/// Gives a folder's pictures in the order of their names.
#[derive(Debug)]
pub(super) struct FolderCamera {
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
        Ok(FolderCamera { pictures, next: 0, repeat })
    }
}

impl Source for FolderCamera {
    fn next(&mut self) -> Result<Next, CaptureError> {
        if self.next == self.pictures.len() && self.repeat {
            self.next = 0;
        }
        let Some(path) = self.pictures.get(self.next) else { return Ok(Next::End) };
        self.next += 1;
        read(path).map(Next::Frame)
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
    match fs::read(path) {
        Ok(bytes) => Ok(Frame { image: Image::Encoded(bytes), taken: SystemTime::now(), source: name }),
        Err(error) => Err(CaptureError::Frame { name, reason: error.to_string() }),
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
    fn a_folder_without_pictures_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(FolderCamera::open(dir.path(), true), Err(CaptureError::Empty { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(FolderCamera::open(&missing, true), Err(CaptureError::Folder { .. })));
    }
}
