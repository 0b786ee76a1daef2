//! HTTP over the daemon's socket, byte by byte, with nothing of the program's own client.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::broker::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer to its end.
    pub fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            // Behind its answer, when it has not read the whole request.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            read => drop(read.unwrap()),
        }
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The reason of an error, which every one has.
    pub fn error(&self) -> String {
        assert!(self.status >= 400, "{self:?}");
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// The API of a daemon.
pub struct Socket(pub PathBuf);

impl Socket {
    /// Of the state directory in a folder.
    pub fn of(folder: &Path) -> Self {
        Socket(folder.join("state/api.sock"))
    }

    pub fn connect(&self) -> UnixStream {
        let stream =
            UnixStream::connect(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Whether somebody answers there.
    pub fn is_there(&self) -> bool {
        UnixStream::connect(&self.0).is_ok()
    }

    pub fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        match stream.write_all(bytes) {
            // Turned away before it has said anything; the answer says why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
        Answer::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes(),
        )
    }

    /// Events from now on.
    pub fn events(&self) -> Events {
        let mut stream = self.connect();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0);
        }
        Events(reader)
    }
}

pub struct Events(BufReader<UnixStream>);

impl Events {
    /// The next event that the predicate wants.
    pub fn wait(&mut self, what: &str, mut wanted: impl FnMut(&str, &Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            self.0.get_ref().set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut line = String::new();
            let read = self.0.read_line(&mut line);
            assert!(read.is_ok_and(|read| read > 0), "waited in vain for {what}");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            if wanted(event["topic"].as_str().unwrap(), &event["payload"]) {
                return event["payload"].clone();
            }
        }
    }
}
