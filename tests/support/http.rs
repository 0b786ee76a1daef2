//! A camera on the network that misbehaves on purpose: snapshots and an MJPEG stream on a loopback port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use graftd::picture::Picture;

use super::port::{Now, Port};

/// What the camera does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What it should.
    Fine,
    /// Takes the question and never answers.
    Silent,
    /// Half of a frame, and then nothing more.
    StallsInFrame,
    /// Half of a frame, and then the connection ends.
    BreaksOff,
    /// Ends the connection at once.
    HangsUp,
    /// Answers 503.
    Unavailable,
    /// Bytes that are no picture, as a picture.
    Garbage,
    /// A JPEG without its second half, with the length that it has.
    CutShort,
    /// A page for people.
    Page,
    /// A frame that never ends.
    Endless,
    /// Sends to itself, again and again.
    RedirectsForEver,
    /// Sends to where the frames are. No fault.
    Redirects,
    /// Lengths that are wrong, garbage in front of parts. No fault of a stream.
    Sloppy,
}

const BOUNDARY: &str = "--myboundary";

/// A camera.
pub type Camera = Port<Mode>;

struct Shared {
    now: Arc<Now<Mode>>,
    frames: AtomicU64,
    /// What `Authorization` must say.
    wanted: Option<String>,
}

impl Camera {
    /// One that wants this `Authorization`, if any.
    pub fn start(wanted: Option<&str>) -> Self {
        let now = Now::new(Mode::Fine);
        let (frames, wanted) = (AtomicU64::new(0), wanted.map(str::to_owned));
        let shared = Shared { now: Arc::clone(&now), frames, wanted };
        Port::open(now, move |stream| shared.serve(stream))
    }
}

impl Shared {
    /// A picture that no other is.
    fn jpeg(&self) -> Vec<u8> {
        let number = self.frames.fetch_add(1, Ordering::Relaxed);
        let mut picture = Picture::filled(160, 120, [90; 3]);
        let left = (number * 7 % 120) as f32;
        picture.draw_box([left, 30.0, left + 30.0, 80.0], 20, [200, (number % 251) as u8, 40]);
        picture.to_jpeg(80).unwrap()
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let Some(head) = read_head(&mut stream)? else { return Ok(()) };
            if self.now.is_down() {
                return Ok(());
            }
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let told = head.lines().find_map(|line| line.strip_prefix("authorization: "));
            if self.wanted.as_deref().is_some_and(|wanted| told != Some(wanted)) {
                answer(&mut stream, "401 Unauthorized", "text/plain", b"who is there?")?;
                continue;
            }
            let mode = self.now.mode();
            match mode {
                Mode::Silent => {
                    self.now.hold(mode);
                    return Ok(());
                }
                Mode::HangsUp => return Ok(()),
                Mode::Unavailable => answer(&mut stream, "503 Service Unavailable", "text/plain", b"busy")?,
                Mode::Page => answer(&mut stream, "200 OK", "text/html; charset=utf-8", b"<h1>Camera</h1>")?,
                Mode::RedirectsForEver => redirect(&mut stream, &path)?,
                Mode::Redirects if !path.starts_with("/moved") => {
                    redirect(&mut stream, &format!("/moved{path}"))?;
                }
                _ if path.ends_with("stream") => return self.stream(&mut stream),
                _ => self.snapshot(&mut stream, mode)?,
            }
        }
    }

    fn snapshot(&self, stream: &mut TcpStream, mode: Mode) -> std::io::Result<()> {
        let jpeg = self.jpeg();
        let half = &jpeg[..jpeg.len() / 2];
        match mode {
            Mode::StallsInFrame | Mode::BreaksOff => {
                head(stream, "200 OK", "image/jpeg", jpeg.len())?;
                stream.write_all(half)?;
                if mode == Mode::StallsInFrame {
                    self.now.hold(mode);
                }
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
            Mode::Garbage => answer(stream, "200 OK", "image/jpeg", &[7; 4000]),
            Mode::CutShort => answer(stream, "200 OK", "image/jpeg", half),
            Mode::Endless => {
                head(stream, "200 OK", "image/jpeg", 1 << 40)?;
                self.endless(stream, mode)
            }
            _ => answer(stream, "200 OK", "image/jpeg", &jpeg),
        }
    }

    fn stream(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n")?;
        while !self.now.is_down() {
            let mode = self.now.mode();
            let jpeg = self.jpeg();
            let half = &jpeg[..jpeg.len() / 2];
            let part = |stream: &mut TcpStream, length: usize, content: &[u8]| {
                write!(stream, "{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n")?;
                stream.write_all(content)
            };
            match mode {
                Mode::Fine | Mode::Redirects => {
                    part(stream, jpeg.len(), &jpeg)?;
                    stream.write_all(b"\r\n")?;
                }
                Mode::Sloppy => {
                    stream.write_all(b"garbage --myboundary between\r\n")?;
                    let wrong = [3, jpeg.len() + 50, usize::MAX, 0];
                    part(stream, wrong[self.frames.load(Ordering::Relaxed) as usize % 4], &jpeg)?;
                }
                Mode::StallsInFrame => {
                    part(stream, jpeg.len(), half)?;
                    self.now.hold(mode);
                    return Ok(());
                }
                Mode::Garbage => {
                    part(stream, 4000, &[7; 4000])?;
                    stream.write_all(b"\r\n")?;
                }
                Mode::CutShort => {
                    part(stream, half.len(), half)?;
                    stream.write_all(b"\r\n")?;
                }
                Mode::Endless => {
                    part(stream, 0, b"")?;
                    return self.endless(stream, mode);
                }
                Mode::BreaksOff => return part(stream, jpeg.len(), half),
                // What is done at the next question.
                _ => return Ok(()),
            }
            thread::sleep(Duration::from_millis(40));
        }
        Ok(())
    }

    fn endless(&self, stream: &mut TcpStream, mode: Mode) -> std::io::Result<()> {
        while self.now.mode() == mode && !self.now.is_down() {
            stream.write_all(&[9; 65536])?;
        }
        Ok(())
    }
}

fn head(stream: &mut TcpStream, status: &str, kind: &str, length: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
}

fn answer(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) -> std::io::Result<()> {
    head(stream, status, kind, body.len())?;
    stream.write_all(body)
}

fn redirect(stream: &mut TcpStream, path: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 302 Found\r\nlocation: {path}\r\ncontent-length: 0\r\n\r\n")
}

/// A request's head; none when the connection ends.
pub fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}
