//! Where frames come from.

mod folder;

pub use folder::FolderCamera;

use std::path::PathBuf;
use std::time::SystemTime;

/// A frame as the camera gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// JPEG or PNG bytes.
    pub bytes: Vec<u8>,
    /// When it was taken.
    pub taken: SystemTime,
    /// Where it came from; of a folder, the file's name.
    pub source: String,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The folder or a file in it can't be read.
    #[error("camera.folder {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder has nothing to show.
    #[error("camera.folder {}: there is no JPEG or PNG in it; name a folder of pictures", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}
