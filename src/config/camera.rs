//! Where frames come from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::capture::{SourceSpec, Wishes};

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CameraConfig {
    /// A device (`/dev/video0`, or a name that stays: `/dev/v4l/by-id/…`), a snapshot or MJPEG stream
    /// (`http://user:password@host/…`), RTSP with H.264 (`rtsp://…`), a folder of JPEG and PNG files, or `test`,
    /// a drawn picture that moves. None captures nothing.
    pub source: Option<SourceSpec>,
    /// An older name for `source`, where it is a folder.
    pub folder: Option<PathBuf>,
    /// Frames per second that are looked at.
    pub fps: f64,
    /// Wished width, pixels. A device gives what is nearest, and says so.
    pub width: u32,
    /// Wished height, pixels.
    pub height: u32,
    /// Whether a folder starts again at its end.
    pub repeat: bool,
    /// Whether a folder is waited at for new files; those that are there at the start are left alone.
    pub watch: bool,
}

impl Default for CameraConfig {
    fn default() -> Self {
        CameraConfig {
            source: None,
            folder: None,
            fps: 1.0,
            width: 640,
            height: 480,
            repeat: false,
            watch: false,
        }
    }
}

impl CameraConfig {
    /// The source, whichever key names it.
    pub fn source(&self) -> Option<SourceSpec> {
        self.source.clone().or_else(|| self.folder.clone().map(SourceSpec::Folder))
    }

    /// What is wished of it.
    pub fn wishes(&self) -> Wishes {
        Wishes {
            width: self.width,
            height: self.height,
            fps: self.fps,
            repeat: self.repeat,
            watch: self.watch,
        }
    }

    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.folder.is_some() && self.source.is_some() {
            faults.push(("camera.folder", "camera.source is set too; keep that and remove this".into()));
        }
        if self.repeat && self.watch {
            faults.push(("camera.watch", "camera.repeat is set too; a folder does one or the other".into()));
        }
        if !(self.fps > 0.0 && self.fps <= 1000.0) {
            faults.push(("camera.fps", format!("{} is no frame rate; above 0, at most 1000", self.fps)));
        }
        for (key, side) in [("camera.width", self.width), ("camera.height", self.height)] {
            if !(32..=8192).contains(&side) {
                faults.push((key, format!("{side} is out of range; 32 to 8192 pixels")));
            }
        }
        faults
    }

    /// Relative folders are relative to `folder`; the older key becomes the newer.
    pub(super) fn paths_from(&mut self, folder: &Path) {
        self.source = self.source().map(|source| source.below(folder));
        self.folder = None;
    }
}
