//! What `camera.source` says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A V4L2 device: `/dev/video0`, or a name that stays, `/dev/v4l/by-id/…`.
    Device(PathBuf),
    /// A folder of JPEG and PNG files.
    Folder(PathBuf),
    /// A snapshot or an MJPEG stream, `http://` or `https://`, with user and password in it if need be.
    Http(String),
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
#[error(
    "{0:?} is no source; write a device (/dev/video0), a folder, an address (http://… or https://…), or test"
)]
pub struct SpecError(String);

impl FromStr for SourceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() && !rest.starts_with('/') => {
                Ok(SourceSpec::Http(text.to_owned()))
            }
            Some((scheme, rest)) => Err(SpecError(format!("{scheme}://{}", without_user(rest)))),
            None if text.is_empty() => Err(SpecError(String::new())),
            None if text == "test" => Ok(SourceSpec::Test),
            None if text.starts_with("/dev/") => Ok(SourceSpec::Device(text.into())),
            None => Ok(SourceSpec::Folder(text.into())),
        }
    }
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
        matches!(self, SourceSpec::Device(_) | SourceSpec::Http(_))
    }
}

/// For logs and reports: without user and password.
impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Device(path) | SourceSpec::Folder(path) => path.display().fmt(f),
            SourceSpec::Http(url) => f.write_str(&redacted(url)),
            SourceSpec::Test => f.write_str("test"),
        }
    }
}

/// An address without user and password.
pub(super) fn redacted(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", without_user(rest)),
        None => url.to_owned(),
    }
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
        assert_eq!(parse("/dev/video2"), Ok(SourceSpec::Device("/dev/video2".into())));
        assert_eq!(parse("frames/today"), Ok(SourceSpec::Folder("frames/today".into())));
        assert_eq!(parse("test"), Ok(SourceSpec::Test));
        assert!(parse("https://cam/shot.jpg").is_ok_and(|spec| spec.is_live()));
        for wrong in ["", "ftp://cam/x", "http://", "http:///x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_shown_to_nobody() {
        for text in
            ["http://me:se@cret@cam:81/a@b?c=d@e", "http://me:se@cret@cam:81", "rtsp://me:secret@cam/"]
        {
            let shown = match text.parse::<SourceSpec>() {
                Ok(spec) => spec.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(!shown.contains("cret") && !shown.contains("me:") && shown.contains("cam"), "{shown}");
        }
    }
}
