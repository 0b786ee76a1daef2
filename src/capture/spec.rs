//! What `camera.source` says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which source.
#[derive(Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A V4L2 device: `/dev/video0`, or a name that stays, `/dev/v4l/by-id/…`.
    #[cfg(feature = "v4l2")]
    Device(PathBuf),
    /// A folder of JPEG and PNG files.
    Folder(PathBuf),
    /// A snapshot or an MJPEG stream, `http://` or `https://`, with user and password in it if need be.
    Http(String),
    /// An RTSP stream, `rtsp://`, with user and password in it if need be.
    #[cfg(feature = "rtsp")]
    Rtsp(String),
    /// A drawn picture that moves.
    Test,
}

/// What is wished of a source, as far as it has a choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Wishes {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames per second.
    pub fps: f64,
    /// Whether a folder starts again at its end.
    pub repeat: bool,
    /// Whether a folder is waited at for new files.
    pub watch: bool,
}

/// The text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It names nothing that graftd knows.
    #[error(
        "{0:?} is no source; write a device (/dev/video0), a folder, an address (http://…, https:// or rtsp://), \
         or test"
    )]
    Unknown(String),
    /// This build can't read it.
    #[error("{source_text:?} can't be read by this graftd; build it with --features {feature}")]
    NotBuilt {
        /// The text.
        source_text: String,
        /// What it was built without.
        feature: &'static str,
    },
}

impl FromStr for SourceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() && !rest.starts_with('/') => {
                Ok(SourceSpec::Http(text.to_owned()))
            }
            Some(("rtsp", rest)) if !rest.is_empty() && !rest.starts_with('/') => rtsp(text),
            Some(_) => Err(SpecError::Unknown(redacted(text))),
            None if text.is_empty() => Err(SpecError::Unknown(String::new())),
            None if text == "test" => Ok(SourceSpec::Test),
            // Memory that is used as a disk is a usual place for frames.
            None if text.starts_with("/dev/") && !text.starts_with("/dev/shm/") => device(text),
            None => Ok(SourceSpec::Folder(text.into())),
        }
    }
}

#[cfg(feature = "v4l2")]
fn device(text: &str) -> Result<SourceSpec, SpecError> {
    Ok(SourceSpec::Device(text.into()))
}

#[cfg(not(feature = "v4l2"))]
fn device(text: &str) -> Result<SourceSpec, SpecError> {
    Err(SpecError::NotBuilt { source_text: text.to_owned(), feature: "v4l2" })
}

#[cfg(feature = "rtsp")]
fn rtsp(text: &str) -> Result<SourceSpec, SpecError> {
    Ok(SourceSpec::Rtsp(text.to_owned()))
}

#[cfg(not(feature = "rtsp"))]
fn rtsp(text: &str) -> Result<SourceSpec, SpecError> {
    Err(SpecError::NotBuilt { source_text: redacted(text), feature: "rtsp" })
}

impl SourceSpec {
    /// The same with a relative folder below `folder`.
    pub fn below(self, folder: &Path) -> Self {
        match self {
            SourceSpec::Folder(path) => SourceSpec::Folder(folder.join(path)),
            other => other,
        }
    }

    /// Whether frames that nobody takes are gone: then the newest is what counts, and a source that gives
    /// none is ill.
    pub fn is_live(&self) -> bool {
        !matches!(self, SourceSpec::Folder(_) | SourceSpec::Test)
    }
}

/// For logs and reports: without user and password.
impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "v4l2")]
            SourceSpec::Device(path) => path.display().fmt(f),
            SourceSpec::Folder(path) => path.display().fmt(f),
            SourceSpec::Http(url) => f.write_str(&redacted(url)),
            #[cfg(feature = "rtsp")]
            SourceSpec::Rtsp(url) => f.write_str(&redacted(url)),
            SourceSpec::Test => f.write_str("test"),
        }
    }
}

/// The same, because what is debugged is logged.
impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// An address without what may be a secret: user and password, and what stands behind the `?`, where many
/// cameras want them.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match without_user(rest).split_once('?') {
        Some((plain, _)) => format!("{scheme}://{plain}?…"),
        None => format!("{scheme}://{}", without_user(rest)),
    }
}

/// An address without user and password, and these; for whoever speaks to the camera.
pub(super) fn parted(url: &str) -> (String, Option<&str>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let plain = without_user(rest);
    let user = rest[..rest.len() - plain.len()].strip_suffix('@');
    (format!("{scheme}://{plain}"), user)
}

fn without_user(rest: &str) -> &str {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..])
}

impl<'de> Deserialize<'de> for SourceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for SourceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SourceSpec::Http(url) => serializer.serialize_str(url),
            #[cfg(feature = "rtsp")]
            SourceSpec::Rtsp(url) => serializer.serialize_str(url),
            other => serializer.collect_str(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_from_the_others() {
        let parse = |text: &str| text.parse::<SourceSpec>();
        #[cfg(feature = "v4l2")]
        assert_eq!(parse("/dev/video2"), Ok(SourceSpec::Device("/dev/video2".into())));
        assert_eq!(parse("/dev/shm/frames"), Ok(SourceSpec::Folder("/dev/shm/frames".into())));
        assert_eq!(parse("frames/today"), Ok(SourceSpec::Folder("frames/today".into())));
        assert_eq!(parse("test"), Ok(SourceSpec::Test));
        assert!(parse("https://cam/shot.jpg").is_ok_and(|spec| spec.is_live()));
        for wrong in ["", "ftp://cam/x", "http://", "http:///x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_shown_to_nobody() {
        for text in [
            "http://me:se@cret@cam:81/a@b?c=d@e",
            "http://me:se@cret@cam:81",
            "http://cam/snap.cgi?user=me:&password=secret",
            "rtsp://me:secret@cam/",
            "ftp://me:secret@cam/",
        ] {
            let shown = match text.parse::<SourceSpec>() {
                Ok(spec) => format!("{spec} {spec:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("cret") && !shown.contains("me:") && shown.contains("cam"), "{shown}");
        }
    }

    #[test]
    fn user_and_address_are_parted() {
        assert_eq!(parted("http://me:a@b@cam:81/x@y?z"), ("http://cam:81/x@y?z".into(), Some("me:a@b")));
        assert_eq!(parted("http://cam/"), ("http://cam/".into(), None));
    }
}
