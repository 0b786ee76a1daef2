//! A camera of the kernel's: USB cameras and those that a board has on its ribbon cable.
//!
//! Through `v4l`, the crate below nokhwa. nokhwa waits for a frame for ever, so that a camera that stalls
//! could be neither given up nor opened again, which is what brings most of them back; and it does not hand
//! on how many bytes of the buffer the frame has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use v4l::buffer::{Flags, Type};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use super::jpeg::whole;
use super::{CaptureError, Frame, Image, Next, Source, Wishes};

/// A frame must come within so long.
const PATIENCE: Duration = Duration::from_secs(3);
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
        let taken = device.set_params(&Parameters::with_fps(rate.max(5))).map(|taken| taken.interval);
        // Some drivers know no rates.
        let rate = taken.ok().filter(|interval| interval.numerator > 0 && interval.denominator > 0);
        let rate = rate.map(|interval| f64::from(interval.denominator) / f64::from(interval.numerator));
        let mut stream =
            Stream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(|error| fail("", error))?;
        stream.set_timeout(PATIENCE);
        let words = words(&format, rate, wishes);
        let interval = Duration::from_secs_f64(1.0 / rate.unwrap_or(30.0).clamp(0.1, 1000.0));
        Ok(V4l2Camera { path: path.to_owned(), stream, format, words, interval, last: Instant::now() })
    }

    fn frame(&mut self) -> Result<Frame, CaptureError> {
        let (path, format) = (&self.path, &self.format);
        let name = path.display().to_string();
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
        let refuse = |reason: String| CaptureError::Frame { name: name.clone(), reason };
        if meta.flags.contains(Flags::ERROR) {
            return Err(refuse("the driver says that it is damaged".into()));
        }
        let image = if format.fourcc == MJPG {
            Image::Encoded(whole(bytes.to_vec()).map_err(refuse)?)
        } else {
            let packed = rows(bytes, format).ok_or_else(|| refuse(format!("cut short at {used} bytes")))?;
            Image::Yuyv(packed, format.width, format.height)
        };
        Ok(Frame { image, taken: SystemTime::now(), source: name })
    }
}

/// What was taken, and what of it is not as wished.
fn words(format: &Format, rate: Option<f64>, wishes: &Wishes) -> String {
    let mut words = format!("{} of {}×{}", format.fourcc, format.width, format.height);
    if (format.width, format.height) != (wishes.width, wishes.height) {
        words += &format!(" ({}×{} was wished for)", wishes.width, wishes.height);
    }
    match rate {
        Some(rate) if rate + 0.5 < wishes.fps => {
            words += &format!(", {rate:.0} a second ({} were wished for)", wishes.fps);
        }
        Some(rate) => words += &format!(", {rate:.0} a second"),
        None => {}
    }
    words
}

/// The rows of a YUYV frame without what fills each up; none when it has not all of them.
fn rows(bytes: &[u8], format: &Format) -> Option<Vec<u8>> {
    let (row, height) = (format.width as usize * 2, format.height as usize);
    let stride = (format.stride as usize).max(row);
    let needed = stride * height.checked_sub(1)? + row;
    let bytes = bytes.get(..needed)?;
    if stride == row {
        return Some(bytes.to_vec());
    }
    Some(bytes.chunks(stride).flat_map(|line| &line[..row]).copied().collect())
}

/// Opens a device where it was plugged in when it was last open, whatever its number is now; else, and at
/// first, by its name.
pub(super) fn open_where_it_is(
    path: &Path,
    wishes: &Wishes,
    place: &Mutex<Option<PathBuf>>,
) -> Result<Box<dyn Source>, CaptureError> {
    // Not held while it is opened, which may take for ever.
    let known = || place.lock().unwrap_or_else(PoisonError::into_inner);
    let now = known().as_deref().and_then(|place| fs::canonicalize(place).ok());
    let path = now.unwrap_or_else(|| path.to_owned());
    let camera = V4l2Camera::open(&path, wishes)?;
    if let Some(found) = place_of(&path, Path::new("/dev/v4l/by-path")) {
        *known() = Some(found);
    }
    Ok(Box::new(camera))
}

/// Whether a device has pictures that graftd reads; none where it can't be asked.
pub(super) fn gives_pictures(path: &Path) -> Option<bool> {
    let device = Device::with_path(path).ok()?;
    // What is no camera at all has no formats either, and no error.
    device.query_caps().ok()?;
    let known = device.enum_formats().ok()?;
    Some(known.iter().any(|format| [MJPG, YUYV].contains(&format.fourcc)))
}

/// The name in `folder` that leads to a device: of the place where it is plugged in. Names by vendor and
/// serial number would be those of the camera, but two of a kind often have the same.
fn place_of(path: &Path, folder: &Path) -> Option<PathBuf> {
    let device = fs::canonicalize(path).ok()?;
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    names.filter(|name| fs::canonicalize(name).is_ok_and(|target| target == device)).min()
}

impl Source for V4l2Camera {
    fn next(&mut self) -> Result<Next, CaptureError> {
        // Buffers were filled while nobody asked: what lies in them is old.
        let old = (self.last.elapsed().as_secs_f64() / self.interval.as_secs_f64().max(1e-3)) as u32;
        for _ in 0..old.min(BUFFERS) {
            if let Err(error) = self.frame()
                && !error.is_of_one_frame()
            {
                return Err(error);
            }
        }
        let frame = self.frame()?;
        self.last = Instant::now();
        Ok(Next::Frame(frame))
    }

    fn describe(&self) -> String {
        self.words.clone()
    }

    fn flows(&self) -> bool {
        true
    }
}

/// What the system said, and what to do about it.
fn advice(path: &Path, error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ENODEV | libc::ENXIO)) => {
            "it is not there; plug it in, or look for its name in /dev/v4l/by-id".into()
        }
        (_, Some(libc::EPERM)) => {
            "the system forbids it; under systemd the unit must allow the device (DeviceAllow in a drop-in)"
                .into()
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
    fn rows_are_packed_and_a_frame_cut_short_is_none() {
        let mut format = Format::new(4, 2, YUYV);
        format.stride = 10;
        let bytes: Vec<u8> = (0..20).collect();
        let packed = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17];
        assert_eq!(rows(&bytes, &format).as_deref(), Some(&packed[..]));
        assert_eq!(
            rows(&bytes[..18], &format).as_deref(),
            Some(&packed[..]),
            "the last row need not be filled"
        );
        assert_eq!(rows(&bytes[..17], &format), None);
        format.stride = 0;
        assert_eq!(rows(&bytes, &format).as_deref(), Some(&bytes[..16]));
    }

    #[test]
    fn what_is_not_as_wished_is_said() {
        let wishes = Wishes { width: 640, height: 480, fps: 15.0, repeat: false, watch: false };
        let said = |width, height, rate| words(&Format::new(width, height, MJPG), rate, &wishes);
        assert_eq!(said(640, 480, Some(30.0)), "MJPG of 640×480, 30 a second");
        assert_eq!(said(320, 240, None), "MJPG of 320×240 (640×480 was wished for)");
        assert_eq!(said(640, 480, Some(10.0)), "MJPG of 640×480, 10 a second (15 were wished for)");
    }

    #[test]
    fn a_device_is_found_again_under_another_number() {
        let dir = tempfile::tempdir().expect("a folder");
        let by_path = dir.path().join("by-path");
        fs::create_dir(&by_path).expect("a folder");
        let [old, new] = ["video0", "video3"].map(|name| dir.path().join(name));
        fs::write(&old, b"").expect("a file");
        let name = by_path.join("usb-0:1:1.0-video-index0");
        std::os::unix::fs::symlink(&old, &name).expect("a link");
        let place = place_of(&old, &by_path).expect("it has a place");
        assert_eq!(place, name);
        fs::remove_file(&old).expect("unplugged");
        assert_eq!(place_of(&old, &by_path), None);
        fs::remove_file(&name).expect("unplugged");
        fs::write(&new, b"").expect("a file");
        std::os::unix::fs::symlink(&new, &name).expect("a link");
        assert_eq!(fs::canonicalize(&place).ok(), fs::canonicalize(&new).ok());
    }

    #[test]
    fn who_has_to_allow_it_is_said() {
        let said = |code| advice(Path::new("/dev/video0"), &io::Error::from_raw_os_error(code));
        assert!(said(libc::EACCES).contains("group video"));
        // What a control group forbids is another error than what the file's rights forbid.
        assert!(said(libc::EPERM).contains("DeviceAllow"));
    }

    #[test]
    fn what_is_no_camera_is_said_to_be_none() {
        let wishes = Wishes { width: 640, height: 480, fps: 5.0, repeat: false, watch: false };
        let refusal = |path: &str| V4l2Camera::open(Path::new(path), &wishes).err().expect(path).to_string();
        assert!(refusal("/dev/video99").contains("not there"), "{}", refusal("/dev/video99"));
        assert!(refusal("/dev/null").contains("no pictures"), "{}", refusal("/dev/null"));
    }
}
