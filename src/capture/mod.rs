//! Where frames come from: one small file per kind of source, behind one trait.

mod devices;
mod folder;
mod http;
mod multipart;
#[cfg(feature = "rtsp")]
mod rtsp;
mod spec;
mod test_pattern;
#[cfg(feature = "v4l2")]
mod v4l2;
mod watch;
mod yuv;

pub use devices::devices;
pub(crate) use spec::redacted;
pub use spec::{SourceSpec, SpecError, Wishes};

use std::borrow::Cow;
use std::path::PathBuf;
#[cfg(feature = "v4l2")]
use std::sync::Mutex;
use std::time::SystemTime;

use crate::picture::{Picture, PictureError};

/// Quality of frames that the source did not give as JPEG.
const QUALITY: u8 = 92;

/// What the source gave, as it gave it: most frames are looked at and never kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// JPEG or PNG bytes.
    Encoded(Vec<u8>),
    /// Pixels.
    Pixels(Picture),
    /// YUYV bytes of this width and height.
    Yuyv(Vec<u8>, u32, u32),
}

/// A frame as the camera gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What is on it.
    pub image: Image,
    /// When it was taken.
    pub taken: SystemTime,
    /// Where it came from; of a folder, the file's name.
    pub source: String,
}

impl Frame {
    /// Its pixels.
    ///
    /// # Errors
    /// When they can't be decoded.
    pub fn picture(&self) -> Result<Cow<'_, Picture>, PictureError> {
        match &self.image {
            Image::Encoded(bytes) => Picture::decode(bytes).map(Cow::Owned),
            Image::Pixels(picture) => Ok(Cow::Borrowed(picture)),
            Image::Yuyv(bytes, width, height) => Ok(Cow::Owned(yuv::to_picture(bytes, *width, *height))),
        }
    }

    /// Its bytes as a file has them: those of the source, or `picture` as JPEG.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub fn encoded(&self, picture: &Picture) -> Result<Cow<'_, [u8]>, PictureError> {
        match &self.image {
            Image::Encoded(bytes) => Ok(Cow::Borrowed(bytes)),
            _ => picture.to_jpeg(QUALITY).map(Cow::Owned),
        }
    }
}

/// What a source answers when it is asked for a frame.
#[derive(Debug)]
pub enum Next {
    /// Here it is.
    Frame(Frame),
    /// There is none now, and that is as it should be: nobody has put a file into the folder.
    Nothing,
    /// There will be no more.
    End,
}

/// Something that frames come from. It is made and used in a thread of its own, and may block there.
pub trait Source {
    /// The next frame.
    ///
    /// # Errors
    /// [`CaptureError::Frame`] when it is this frame alone that can't be had; with anything else the source
    /// is of no more use and must be opened again.
    fn next(&mut self) -> Result<Next, CaptureError>;

    /// What it gives, in words for log and state: size and rate, and where these are not what was wished for.
    fn describe(&self) -> String;

    /// Whether frames come whether or not anybody asks: then it can be told at any time that they do not.
    fn flows(&self) -> bool {
        false
    }
}

/// Opens a source, again and again.
#[derive(Debug)]
pub struct Opener {
    spec: SourceSpec,
    wishes: Wishes,
    /// Where the device was plugged in when it was last open: its number may be another when it comes back.
    #[cfg(feature = "v4l2")]
    place: Mutex<Option<PathBuf>>,
}

impl Opener {
    /// For this source.
    pub fn new(spec: SourceSpec, wishes: Wishes) -> Self {
        Opener {
            spec,
            wishes,
            #[cfg(feature = "v4l2")]
            place: Mutex::default(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// When it is not there, is busy, or gives nothing that graftd can read. It may be there later.
    pub fn open(&self) -> Result<Box<dyn Source>, CaptureError> {
        #[cfg(feature = "v4l2")]
        if let SourceSpec::Device(path) = &self.spec {
            return v4l2::open_where_it_is(path, &self.wishes, &self.place);
        }
        open(&self.spec, &self.wishes)
    }
}

fn open(spec: &SourceSpec, wishes: &Wishes) -> Result<Box<dyn Source>, CaptureError> {
    Ok(match spec {
        SourceSpec::Test => Box::new(test_pattern::TestPattern::new(wishes)),
        SourceSpec::Folder(path) if wishes.watch => Box::new(watch::WatchedFolder::open(path)?),
        SourceSpec::Folder(path) => Box::new(folder::FolderCamera::open(path, wishes.repeat)?),
        SourceSpec::Http(url) => Box::new(http::HttpCamera::open(url)?),
        #[cfg(feature = "v4l2")]
        SourceSpec::Device(path) => Box::new(v4l2::V4l2Camera::open(path, wishes)?),
        #[cfg(feature = "rtsp")]
        SourceSpec::Rtsp(url) => Box::new(rtsp::RtspCamera::open(url)?),
    })
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The folder can't be read.
    #[error("camera {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder has nothing to show.
    #[error(
        "camera {}: there is no JPEG or PNG in it; put pictures there, or set camera.watch to wait for them",
        path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// One frame can't be read; the next may.
    #[error("frame {name}: {reason}")]
    Frame {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// The device does not give frames.
    #[error("camera {}: {reason}", path.display())]
    Device {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The camera on the network does not give frames.
    #[error("camera {url}: {reason}")]
    Network {
        /// Its address, without the password.
        url: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl CaptureError {
    /// Whether the source can go on.
    pub fn is_of_one_frame(&self) -> bool {
        matches!(self, CaptureError::Frame { .. })
    }
}
