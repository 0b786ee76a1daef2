//! A camera that speaks RTSP: H.264, over one TCP connection.
//!
//! Each frame of such a stream says what has changed since the one before, so all are decoded and the newest
//! is given. Nothing is decoded after a loss until a frame that stands by itself: what comes in between is
//! grey or smeared, and a model finds things in it.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use percent_encoding::percent_decode_str;
use retina::client::{
    Credentials, Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, TeardownPolicy,
};
use retina::codec::{CodecItem, FrameFormat, VideoFrame};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use url::Url;

use super::spec::{parted, redacted};
use super::{CaptureError, Frame, Image, Next, Source, yuv};
use crate::picture::Picture;

/// For each answer of the camera, and between two frames.
const PATIENCE: Duration = Duration::from_secs(3);
/// Until the first frame that stands by itself: some cameras send one each ten seconds.
const FIRST: Duration = Duration::from_secs(12);
/// A frame that is already there is read within so long.
const THERE: Duration = Duration::from_millis(5);
/// So long it goes through what is there already before it takes the next frame.
const CATCH_UP: Duration = Duration::from_secs(2);

/// An open stream.
pub(super) struct RtspCamera {
    shown: String,
    /// As it was asked for, which errors may repeat.
    url: String,
    runtime: Runtime,
    stream: Demuxed,
    video: usize,
    decoder: Decoder,
    /// Frames are passed over until one that stands by itself.
    needs_key: bool,
    /// Read, and not decoded yet.
    waiting: Option<VideoFrame>,
    first: Option<Picture>,
    words: String,
}

impl RtspCamera {
    pub fn open(url: &str) -> Result<Self, CaptureError> {
        let shown = redacted(url);
        let (url, user) = parted(url);
        let fail = |reason: String| CaptureError::Network { url: shown.clone(), reason };
        let parsed = Url::parse(&url).map_err(|error| fail(format!("it is no address ({error})")))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| fail(format!("the system gives no event loop: {error}")))?;
        let decoder = Decoder::new().map_err(|error| fail(format!("OpenH264 does not start: {error}")))?;
        let (stream, video) = runtime
            .block_on(play(parsed, user.map(credentials)))
            .map_err(|reason| fail(plain(&reason, &url, &shown)))?;
        let mut camera = RtspCamera {
            shown,
            url,
            runtime,
            stream,
            video,
            decoder,
            needs_key: true,
            waiting: None,
            first: None,
            words: String::new(),
        };
        let start = Instant::now();
        let picture = loop {
            match camera.newest(FIRST.saturating_sub(start.elapsed())) {
                Ok(picture) => break picture,
                Err(error) if error.is_of_one_frame() && start.elapsed() < FIRST => {}
                Err(error) => return Err(error),
            }
        };
        camera.words = format!("H.264 of {}×{}", picture.width(), picture.height());
        camera.first = Some(picture);
        Ok(camera)
    }

    fn fail(&self, reason: &str) -> CaptureError {
        CaptureError::Network { url: self.shown.clone(), reason: plain(reason, &self.url, &self.shown) }
    }

    /// The next frame of the video; none when none comes in time.
    fn read(&mut self, patience: Duration) -> Result<Option<VideoFrame>, CaptureError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Made inside, because a timer needs the event loop around it.
            let item = self.runtime.block_on(async { timeout(left, self.stream.next()).await });
            match item {
                Err(_) => return Ok(None),
                Ok(None) => return Err(self.fail("its stream ended")),
                Ok(Some(Err(error))) => return Err(self.fail(&format!("the stream broke ({error})"))),
                Ok(Some(Ok(CodecItem::VideoFrame(frame)))) if frame.stream_id() == self.video => {
                    return Ok(Some(frame));
                }
                Ok(Some(Ok(_))) => {}
            }
        }
    }

    /// Decodes what is there, and gives the last picture of it.
    fn newest(&mut self, patience: Duration) -> Result<Picture, CaptureError> {
        let start = Instant::now();
        loop {
            let frame = match self.waiting.take() {
                Some(frame) => frame,
                None => match self.read(patience.saturating_sub(start.elapsed()))? {
                    Some(frame) => frame,
                    None if self.needs_key => {
                        return Err(self.fail(
                            "no frame has come that stands by itself; let the camera send key frames (I-frames) \
                             more often",
                        ));
                    }
                    None => return Err(self.fail("no frame has come from it")),
                },
            };
            if start.elapsed() < CATCH_UP {
                self.waiting = self.read(THERE)?;
            }
            if frame.loss() > 0 {
                self.needs_key = true;
            }
            if self.needs_key && !frame.is_random_access_point() {
                continue;
            }
            let is_last = self.waiting.is_none();
            match self.decoder.decode(frame.data()) {
                Ok(Some(yuv)) => {
                    self.needs_key = false;
                    if is_last {
                        let (width, height) = yuv.dimensions();
                        let planes = [yuv.y(), yuv.u(), yuv.v()];
                        let strides = [yuv.strides().0, yuv.strides().1];
                        return Ok(yuv::planes_to_picture(planes, strides, width as u32, height as u32));
                    }
                }
                Ok(None) => self.needs_key = false,
                // What OpenH264 says of it tells nobody anything.
                Err(_) => {
                    self.needs_key = true;
                    let reason = "it can't be decoded as H.264".into();
                    return Err(CaptureError::Frame { name: self.shown.clone(), reason });
                }
            }
        }
    }
}

impl Source for RtspCamera {
    fn next(&mut self) -> Result<Next, CaptureError> {
        let picture = match self.first.take() {
            Some(picture) => picture,
            None => self.newest(PATIENCE)?,
        };
        let source = self.shown.clone();
        Ok(Next::Frame(Frame { image: Image::Pixels(picture), taken: SystemTime::now(), source }))
    }

    fn describe(&self) -> String {
        self.words.clone()
    }

    fn flows(&self) -> bool {
        true
    }
}

fn credentials(user: &str) -> Credentials {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Credentials { username: decoded(name), password: decoded(password) }
}

/// Asks for the first H.264 stream; which it is.
async fn play(url: Url, creds: Option<Credentials>) -> Result<(Demuxed, usize), String> {
    let had_creds = creds.is_some();
    let options = SessionOptions::default()
        .creds(creds)
        .user_agent(concat!("graftd/", env!("CARGO_PKG_VERSION")).into())
        // The stream is on this connection alone, and ends with it.
        .teardown(TeardownPolicy::Never);
    let mut session = in_time(Session::describe(url, options)).await.map_err(|error| match error {
        Refusal::Status(401 | 403, _) if had_creds => "it refuses the user or the password".to_owned(),
        Refusal::Status(401 | 403, _) => {
            "it wants a user and a password; write them into camera.source, as in rtsp://user:password@host/"
                .to_owned()
        }
        Refusal::Status(404, _) => "there is no such stream; is the path right?".to_owned(),
        other => other.words(),
    })?;
    let found = session.streams().iter().map(|stream| (stream.media(), stream.encoding_name()));
    let videos: Vec<(usize, String)> = found
        .enumerate()
        .filter(|(_, (media, _))| *media == "video")
        .map(|(index, (_, encoding))| (index, encoding.to_owned()))
        .collect();
    let Some(&(video, _)) = videos.iter().find(|(_, encoding)| encoding == "h264") else {
        let names: Vec<&str> = videos.iter().map(|(_, encoding)| encoding.as_str()).collect();
        return Err(format!(
            "it gives {}, and graftd reads H.264; choose that in the camera's settings",
            if names.is_empty() { "no video".to_owned() } else { names.join(", ") }
        ));
    };
    let options = SetupOptions::default().frame_format(FrameFormat::SIMPLE);
    in_time(session.setup(video, options)).await.map_err(Refusal::words)?;
    let playing = in_time(session.play(PlayOptions::default())).await.map_err(Refusal::words)?;
    Ok((playing.demuxed().map_err(|error| error.to_string())?, video))
}

/// Why the camera does not do what it is asked.
enum Refusal {
    Late,
    Status(u16, String),
    Other(String),
}

impl Refusal {
    fn words(self) -> String {
        match self {
            Refusal::Late => "it does not answer in time".into(),
            Refusal::Status(_, words) | Refusal::Other(words) => words,
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, retina::Error>>) -> Result<T, Refusal> {
    match timeout(PATIENCE, asked).await {
        Err(_) => Err(Refusal::Late),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match error.status_code() {
            Some(status) => Refusal::Status(status, error.to_string()),
            None => Refusal::Other(error.to_string()),
        }),
    }
}

/// The first line, with nothing in it that may be a secret.
fn plain(reason: &str, url: &str, shown: &str) -> String {
    reason.lines().next().unwrap_or_default().replace(url, shown)
}
