//! A folder of pictures that plays the camera.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{CaptureError, Frame};

/// Gives a folder's pictures in the order of their names.
#[derive(Debug)]
pub struct FolderCamera {
    pictures: Vec<PathBuf>,
    next: usize,
    repeat: bool,
}

impl FolderCamera {
    /// Looks for JPEG and PNG files in a folder; `repeat` starts again at its end.
    ///
    /// # Errors
    /// When the folder can't be read or holds no picture.
    pub fn open(folder: &Path, repeat: bool) -> Result<Self, CaptureError> {
        let fail = |source| CaptureError::Folder { path: folder.to_owned(), source };
        let mut pictures = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let is_picture = |extension: &std::ffi::OsStr| {
                ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
            };
            if path.extension().is_some_and(is_picture) && path.is_file() {
                pictures.push(path);
            }
        }
        if pictures.is_empty() {
            return Err(CaptureError::Empty { path: folder.to_owned() });
        }
        pictures.sort();
        Ok(FolderCamera { pictures, next: 0, repeat })
    }

    /// The next frame; none at the end.
    ///
    /// # Errors
    /// When the file can't be read; the call after it goes on with the next file.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        if self.next == self.pictures.len() && self.repeat {
            self.next = 0;
        }
        let Some(path) = self.pictures.get(self.next) else { return Ok(None) };
        self.next += 1;
        let bytes = fs::read(path).map_err(|source| CaptureError::Folder { path: path.clone(), source })?;
        let source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Frame { bytes, taken: SystemTime::now(), source }))
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
            let frames = std::iter::from_fn(|| camera.next_frame().expect("readable")).take(3);
            frames.map(|frame| frame.source).collect()
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
