//! Writing a response, for a client that may read slowly or not at all.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::request::Stream;

/// A client that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(10);
/// A whole response but one of events is taken within this time.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
const CHUNK: usize = 64 * 1024;
/// A listener that nothing is told gets a comment so often, so that one that has gone is noticed.
const STILL_HERE: Duration = Duration::from_secs(15);

pub(super) const JSON: &str = "application/json";

/// What a client gets.
pub(super) struct Response {
    status: u16,
    content_type: &'static str,
    body: Body,
}

enum Body {
    Bytes(Vec<u8>),
    /// Lines that there are already, and those that come.
    Events(Vec<String>, Receiver<String>),
}

impl Response {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response { status, content_type, body: Body::Bytes(body.into()) }
    }

    pub fn json(status: u16, value: &impl Serialize) -> Self {
        Response::new(status, JSON, serde_json::to_vec(value).expect("plain values can be written"))
    }

    pub fn error(status: u16, reason: impl std::fmt::Display) -> Self {
        Response::json(status, &json!({"error": reason.to_string()}))
    }

    pub fn events(now: Vec<String>, later: Receiver<String>) -> Self {
        Response { status: 200, content_type: "text/event-stream", body: Body::Events(now, later) }
    }

    /// Writes it. An error says that the client has gone, or takes nothing.
    pub fn write(self, stream: &mut dyn Stream) -> io::Result<()> {
        stream.set_write_timeout(Some(STALLED))?;
        let (status, reason) = (self.status, reason(self.status));
        let mut head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {}\r\n", self.content_type);
        head += "Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
        if status == 401 {
            head += "WWW-Authenticate: Bearer\r\n";
        }
        match self.body {
            Body::Bytes(body) => {
                head += &format!("Content-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes())?;
                let deadline = Instant::now() + WRITE_WITHIN;
                for chunk in body.chunks(CHUNK) {
                    if Instant::now() > deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    stream.write_all(chunk)?;
                }
                stream.flush()
            }
            Body::Events(now, later) => {
                head += "\r\n";
                stream.write_all(head.as_bytes())?;
                now.iter().try_for_each(|line| event(stream, line))?;
                loop {
                    match later.recv_timeout(STILL_HERE) {
                        Ok(line) => event(stream, &line)?,
                        Err(RecvTimeoutError::Timeout) => stream.write_all(b":\n\n")?,
                        Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    }
                }
            }
        }
    }
}

fn event(stream: &mut dyn Stream, line: &str) -> io::Result<()> {
    stream.write_all(format!("data: {line}\n\n").as_bytes())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}
