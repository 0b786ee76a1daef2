//! The camera's thread: one frame at a time, when it is due and when the daemon is ready for it.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::capture::{CaptureError, FolderCamera};
use crate::config::CameraConfig;

use super::event::Event;

/// A camera that has been opened.
pub(super) struct Opened {
    camera: FolderCamera,
    period: Duration,
}

/// Opens the camera that the configuration names.
pub(super) fn open(folder: &Path, config: &CameraConfig) -> Result<Opened, CaptureError> {
    let camera = FolderCamera::open(folder, config.repeat)?;
    Ok(Opened { camera, period: Duration::from_secs_f64(1.0 / config.fps) })
}

impl Opened {
    /// Starts the thread. Each message through the sender that comes back lets one frame through; the
    /// thread ends when it is dropped.
    pub fn start(mut self, events: SyncSender<Event>) -> std::io::Result<SyncSender<()>> {
        let (ready, is_ready) = sync_channel(1);
        thread::Builder::new().name("camera".into()).spawn(move || {
            let mut due = Instant::now();
            while is_ready.recv().is_ok() {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due = Instant::now() + self.period;
                let event = match self.camera.next_frame() {
                    Ok(Some(frame)) => Event::Frame(frame),
                    Ok(None) => Event::CameraEnded,
                    Err(error) => Event::BadFrame(error),
                };
                let is_end = matches!(event, Event::CameraEnded);
                if events.send(event).is_err() || is_end {
                    return;
                }
            }
        })?;
        Ok(ready)
    }
}
