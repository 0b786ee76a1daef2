//! Cameras that the kernel knows, for whoever has to choose one.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The cameras below `dev` (`/dev`), the best name of each, the best camera first: names that stay
/// (`v4l/by-id`) before numbers. A camera has several devices, of which one gives pictures; the others are left
/// out as far as can be told.
pub fn devices(dev: &Path) -> Vec<PathBuf> {
    let mut named = entries(&dev.join("v4l/by-id"), "");
    // The first device of a camera is the one that gives pictures, of nearly all of them.
    named.sort_by_key(|path| (!path.to_string_lossy().ends_with("-index0"), path.clone()));
    let mut numbered = entries(dev, "video");
    numbered.retain(|path| number(path).is_some());
    numbered.sort_by_key(|path| number(path));
    let mut seen = HashSet::new();
    let all = named.into_iter().chain(numbered);
    all.filter(|path| fs::canonicalize(path).is_ok_and(|device| seen.insert(device)))
        .filter(|path| gives_pictures(path))
        .collect()
}

fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok()
}

/// Whether a device may give pictures that graftd reads; one that can't be asked may.
#[cfg(feature = "v4l2")]
fn gives_pictures(path: &Path) -> bool {
    super::v4l2::gives_pictures(path).unwrap_or(true)
}

/// None can be read by this build.
#[cfg(not(feature = "v4l2"))]
fn gives_pictures(_path: &Path) -> bool {
    false
}

#[cfg(all(test, feature = "v4l2"))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_that_stay_come_first_and_each_device_once() {
        let dev = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dev.path().join(name);
        assert!(devices(dev.path()).is_empty());
        fs::create_dir_all(at("v4l/by-id")).expect("a folder");
        // A device that can't be asked may give pictures: here, because it is another thing.
        for name in ["video10", "video2", "video3", "video", "videodrome", "null"] {
            fs::write(at(name), b"").expect("a file");
        }
        symlink("../../video2", at("v4l/by-id/usb-Cam-video-index1")).expect("a link");
        symlink("../../video10", at("v4l/by-id/usb-Cam-video-index0")).expect("a link");
        symlink("../../video7", at("v4l/by-id/usb-Gone-video-index0")).expect("a link");
        assert_eq!(
            devices(dev.path()),
            ["v4l/by-id/usb-Cam-video-index0", "v4l/by-id/usb-Cam-video-index1", "video3"].map(at)
        );
    }
}
