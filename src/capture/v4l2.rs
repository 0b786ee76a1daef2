//! A camera of the kernel's: USB cameras and those that a board has on its ribbon cable.
//!
//! Through `v4l`, the crate below nokhwa. nokhwa waits for a frame for ever, so that a camera that stalls
//! could be neither given up nor opened again, which is what brings most of them back; and it does not hand
//! on how many bytes of the buffer the frame has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use v4l::buffer::Type;
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use super::jpeg::trimmed;
use super::{CaptureError, Frame, Image, Next, Source, Wishes};

/// A frame must come within so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// Buffers that the driver fills in turn.
const BUFFERS: u32 = 3;
const MJPG: FourCC = FourCC { repr: *b"MJPG" };
const YUYV: FourCC = FourCC { repr: *b"YUYV" };

/// An open device.
pub(super) struct V4l2Camera {
    path: PathBuf,
    stream: Stream<'static>,
    format: Format,
    words: String,
    /// Between two frames.
    interval: Duration,
    last: Instant,
}

impl V4l2Camera {
    pub fn open(path: &Path, wishes: &Wishes) -> Result<Self, CaptureError> {
        let fail = |what: &str, error: io::Error| CaptureError::Device {
            path: path.to_owned(),
            reason: format!("{what}{}", advice(path, &error)),
        };
        let refuse = |reason: String| CaptureError::Device { path: path.to_owned(), reason };
        let device = Device::with_path(path).map_err(|error| fail("", error))?;
        let known = device.enum_formats().map_err(|error| fail("", error))?;
        let has = |fourcc: FourCC| known.iter().any(|format| format.fourcc == fourcc);
        // MJPG first: uncompressed frames fill USB 2 at small sizes and low rates.
        let Some(fourcc) = [MJPG, YUYV].into_iter().find(|&fourcc| has(fourcc)) else {
            let known: Vec<String> = known.iter().map(|format| format.fourcc.to_string()).collect();
            return Err(refuse(format!(
                "it gives {}, and graftd reads MJPG and YUYV; is it the camera's other device? \
                 (`v4l2-ctl --list-devices`)",
                if known.is_empty() { "no pictures".into() } else { known.join(", ") }
            )));
        };
        // The driver takes what is nearest to the wish.
        let wish = Format::new(wishes.width, wishes.height, fourcc);
        let format = device.set_format(&wish).map_err(|error| fail("", error))?;
        if format.fourcc != fourcc {
            return Err(refuse(format!("it was asked for {fourcc} and gives {}", format.fourcc)));
        }
        // Rates that a driver does not know make some refuse to open: whole ones alone are wished for.
        let rate = wishes.fps.ceil().clamp(1.0, 60.0) as u32;
        let interval = match device.set_params(&Parameters::with_fps(rate.max(5))) {
            Ok(parameters) => parameters.interval,
            Err(_) => v4l::Fraction::new(1, 30),
        };
        let mut stream =
            Stream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(|error| fail("", error))?;
        stream.set_timeout(PATIENCE);
        let interval =
            Duration::from_secs_f64(f64::from(interval.numerator) / f64::from(interval.denominator.max(1)));
        let mut words = format!(
            "{} of {}×{}, {:.0} a second",
            format.fourcc,
            format.width,
            format.height,
            1.0 / interval.as_secs_f64().max(1e-3)
        );
        if (format.width, format.height) != (wishes.width, wishes.height) {
            words += &format!(" ({}×{} was wished for)", wishes.width, wishes.height);
        }
        Ok(V4l2Camera { path: path.to_owned(), stream, format, words, interval, last: Instant::now() })
    }

    fn frame(&mut self) -> Result<Frame, CaptureError> {
        let (path, format) = (&self.path, &self.format);
        let (buffer, meta) = self
            .stream
            .next()
            .map_err(|error| CaptureError::Device { path: path.clone(), reason: advice(path, &error) })?;
        // Some drivers say nothing of how much they filled.
        let used = match meta.bytesused as usize {
            0 => buffer.len(),
            used => used.min(buffer.len()),
        };
        let bytes = &buffer[..used];
        let image = if format.fourcc == MJPG {
            Image::Encoded(trimmed(bytes).to_vec())
        } else {
            let row = format.width as usize * 2;
            let stride = (format.stride as usize).max(row);
            let rows = bytes.chunks(stride).flat_map(|line| &line[..row.min(line.len())]);
            Image::Yuyv(rows.copied().collect(), format.width, format.height)
        };
        let source = path.display().to_string();
        Ok(Frame { image, taken: SystemTime::now(), source })
    }
}

impl Source for V4l2Camera {
    fn next(&mut self) -> Result<Next, CaptureError> {
        // Buffers were filled while nobody asked: what lies in them is old.
        let old = (self.last.elapsed().as_secs_f64() / self.interval.as_secs_f64().max(1e-3)) as u32;
        for _ in 0..old.min(BUFFERS) {
            self.frame()?;
        }
        let frame = self.frame()?;
        self.last = Instant::now();
        Ok(Next::Frame(frame))
    }

    fn describe(&self) -> String {
        self.words.clone()
    }
}

/// What the system said, and what to do about it.
fn advice(path: &Path, error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ENODEV | libc::ENXIO)) => {
            "it is not there; plug it in, or look for its name in /dev/v4l/by-id".into()
        }
        (io::ErrorKind::PermissionDenied, _) => "no permission; add this user to the group video".into(),
        (io::ErrorKind::TimedOut, _) => format!("it has given no frame for {} s", PATIENCE.as_secs()),
        (_, Some(libc::EBUSY)) => match holder(path) {
            Some((pid, name)) => {
                format!("busy (held by pid {pid} {name:?}); stop it or set camera.source to another")
            }
            None => "busy; stop the program that uses it or set camera.source to another".into(),
        },
        (_, Some(libc::ENOTTY | libc::EINVAL)) => format!("it is no camera that gives frames ({error})"),
        _ => error.to_string(),
    }
}

/// The process that has a device open, as far as this user may see.
fn holder(path: &Path) -> Option<(u32, String)> {
    let device = fs::canonicalize(path).ok()?;
    let own = std::process::id();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|target| target == device);
        if pid != own && files.flatten().any(holds) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_camera_is_said_to_be_none() {
        let wishes = Wishes { width: 640, height: 480, fps: 5.0, repeat: false, watch: false };
        let refusal = |path: &str| V4l2Camera::open(Path::new(path), &wishes).err().expect(path).to_string();
        assert!(refusal("/dev/video99").contains("not there"), "{}", refusal("/dev/video99"));
        assert!(refusal("/dev/null").contains("no pictures"), "{}", refusal("/dev/null"));
    }
}
