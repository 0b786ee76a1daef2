//! A camera on the network: a snapshot that is fetched again and again, or an MJPEG stream.

use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Uri;

use super::multipart::Parts;
use super::spec::{parted, redacted};
use super::{CaptureError, Frame, Image, Next, Source};
use crate::picture;

/// For finding it, for its answer, and between two pieces of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// For a whole snapshot, drop by drop.
const SNAPSHOT: Duration = Duration::from_secs(15);
/// A snapshot may be so large, bytes.
const MAX_SNAPSHOT: u64 = 32 * 1024 * 1024;

/// Fetches snapshots, or reads a stream, as the address answers.
pub(super) struct HttpCamera {
    agent: Agent,
    /// Without user and password.
    url: String,
    /// Without all that may be a secret.
    shown: String,
    authorization: Option<String>,
    stream: Option<Parts<Box<dyn Read>>>,
    /// A snapshot that came with the first answer.
    first: Option<Vec<u8>>,
    /// When the stream was last read.
    last: Instant,
}

impl HttpCamera {
    pub fn open(url: &str) -> Result<Self, CaptureError> {
        let shown = redacted(url);
        let fail = |reason: String| CaptureError::Network { url: shown.clone(), reason };
        let (url, user) = parted(url);
        if let Err(error) = url.parse::<Uri>() {
            return Err(fail(format!("it is no address ({error})")));
        }
        let authorization = user.map(|user| {
            let plain: Vec<u8> = percent_decode_str(user).collect();
            format!("Basic {}", BASE64_STANDARD.encode(plain))
        });
        let agent = Agent::config_builder()
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .max_redirects(3)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("graftd/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let mut camera =
            HttpCamera { agent, url, shown, authorization, stream: None, first: None, last: Instant::now() };
        camera.connect()?;
        Ok(camera)
    }

    fn connect(&mut self) -> Result<(), CaptureError> {
        let mut request = self.agent.get(&self.url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let response = request.call().map_err(|error| {
            let reason = match error {
                ureq::Error::StatusCode(401 | 403) if self.authorization.is_some() => {
                    "it refuses the user or the password in camera.source; graftd knows Basic authentication \
                     alone, so let the camera allow that"
                        .into()
                }
                ureq::Error::StatusCode(401 | 403) => {
                    "it wants a user and a password; write them into camera.source, as in \
                     http://user:password@host/"
                        .into()
                }
                ureq::Error::StatusCode(status @ 500..) => format!("it answers with status {status}"),
                ureq::Error::StatusCode(status) => {
                    format!("it answers with status {status}; is the address right?")
                }
                // What a camera redirects to may hold a secret as well.
                ureq::Error::BadUri(_) => "it redirects to what is no address".into(),
                ureq::Error::Timeout(_) => "it does not answer in time".into(),
                other => other.to_string(),
            };
            self.fail(reason)
        })?;
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("");
        match Content::of(kind) {
            Content::Stream(boundary) => {
                let boundary = boundary.ok_or_else(|| self.fail("its stream names no boundary".into()))?;
                let reader: Box<dyn Read> = Box::new(response.into_body().into_reader());
                self.stream = Some(Parts::new(reader, &boundary));
            }
            Content::Picture => self.first = Some(self.snapshot(response.into_body())?),
            Content::Other => {
                return Err(self.fail(format!(
                    "it answers with {kind:?}, which is neither a picture nor a stream of them; look for the \
                     address of its snapshot or MJPEG stream"
                )));
            }
        }
        Ok(())
    }

    fn snapshot(&self, body: ureq::Body) -> Result<Vec<u8>, CaptureError> {
        let mut bytes = Vec::new();
        let start = Instant::now();
        let mut reader = body.into_reader().take(MAX_SNAPSHOT + 1);
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = reader.read(&mut chunk).map_err(|error| self.fail(words(&error)))?;
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(&chunk[..read]);
            if start.elapsed() > SNAPSHOT {
                return Err(self.fail("its picture takes too long to come".into()));
            }
        }
        if bytes.len() as u64 > MAX_SNAPSHOT {
            return Err(self.fail(format!("its picture has more than {} MB", MAX_SNAPSHOT >> 20)));
        }
        Ok(bytes)
    }

    fn fail(&self, reason: String) -> CaptureError {
        CaptureError::Network { url: self.shown.clone(), reason }
    }
}

impl Source for HttpCamera {
    fn next(&mut self) -> Result<Next, CaptureError> {
        let mut bytes = match &mut self.stream {
            Some(parts) => match newest(parts, &mut self.last) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Err(self.fail("its stream ended".into())),
                Err(error) => return Err(self.fail(words(&error))),
            },
            None => match self.first.take() {
                Some(bytes) => bytes,
                None => {
                    self.connect()?;
                    self.first.take().ok_or_else(|| self.fail("it gives a stream now".into()))?
                }
            },
        };
        let source = self.shown.clone();
        match picture::whole(&bytes).map(<[u8]>::len) {
            Ok(end) => {
                bytes.truncate(end);
                Ok(Next::Frame(Frame { image: Image::Encoded(bytes), taken: SystemTime::now(), source }))
            }
            Err(cut) => Err(CaptureError::Frame { name: source, reason: cut.to_string() }),
        }
    }

    fn describe(&self) -> String {
        if self.stream.is_some() { "an MJPEG stream".into() } else { "snapshots".into() }
    }

    fn flows(&self) -> bool {
        self.stream.is_some()
    }
}

/// What an answer's content type says.
#[derive(Debug, PartialEq)]
enum Content {
    /// With this boundary, if it is named.
    Stream(Option<String>),
    Picture,
    Other,
}

impl Content {
    /// Types and names of parameters are the same in capitals, boundaries are not (RFC 2045, 5.1).
    fn of(header: &str) -> Self {
        let (kind, parameters) = header.split_once(';').unwrap_or((header, ""));
        let kind = kind.trim().to_ascii_lowercase();
        if kind.starts_with("multipart/") {
            let named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
            let mut boundaries = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
            let boundary = boundaries.next().map(|(_, value)| value.trim().trim_matches('"').to_owned());
            return Content::Stream(boundary.filter(|text| !text.trim_start_matches('-').is_empty()));
        }
        // Some cameras say nothing, or nothing of use.
        let is_picture = kind.starts_with("image/") || kind.is_empty() || kind == "application/octet-stream";
        if is_picture { Content::Picture } else { Content::Other }
    }
}

/// The newest picture of a stream. What came while nobody asked lies in the socket, and is old: a picture
/// that had to be waited for is not.
fn newest(parts: &mut Parts<Box<dyn Read>>, last: &mut Instant) -> io::Result<Option<Vec<u8>>> {
    let start = Instant::now();
    let is_behind = start.duration_since(*last) > Duration::from_millis(100);
    loop {
        let asked = Instant::now();
        let part = parts.next()?;
        let was_waiting = asked.elapsed() < Duration::from_millis(5);
        if part.is_none() || !is_behind || !was_waiting || start.elapsed() > Duration::from_secs(2) {
            *last = Instant::now();
            return Ok(part);
        }
    }
}

fn words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match inner {
        _ if error.kind() == io::ErrorKind::TimedOut => silence(),
        Some(ureq::Error::Timeout(_)) => silence(),
        _ => format!("the connection broke ({error})"),
    }
}

fn silence() -> String {
    format!("nothing has come from it for {} s", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_as_cameras_write_them() {
        let stream = |boundary: &str| Content::Stream(Some(boundary.into()));
        for (header, wanted) in [
            ("multipart/x-mixed-replace; boundary=--myBoundary", stream("--myBoundary")),
            ("Multipart/X-Mixed-Replace;charset=x; Boundary = \"a=b\"", stream("a=b")),
            ("multipart/x-mixed-replace", Content::Stream(None)),
            // Dashes alone stand between all parts, and within pictures too.
            ("multipart/x-mixed-replace; boundary=--", Content::Stream(None)),
            ("Image/JPEG", Content::Picture),
            ("application/octet-stream; charset=binary", Content::Picture),
            ("", Content::Picture),
            ("text/html; charset=utf-8", Content::Other),
        ] {
            assert_eq!(Content::of(header), wanted, "{header}");
        }
    }
}
