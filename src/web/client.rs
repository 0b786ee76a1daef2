//! Speaks to the daemon on this device, for the command line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::socket::SOCKET;

/// Longer than the daemon takes for anything.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// Longer than the daemon's pause between two comments.
const EVENT_WITHIN: Duration = Duration::from_secs(45);
const MAX_HEAD: usize = 16 * 1024;

/// Why the daemon did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It may not be asked.
    #[error("{}: {source}; become a user who may write it (a member of its group, or root)", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not answer.
    #[error("{}: the daemon does not answer: {source}; its log says more", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It refused.
    #[error("{reason}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// Why, and what to do.
        reason: String,
    },
}

/// Knows where a running daemon is.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The daemon that holds the state in a folder; none when none runs.
    ///
    /// # Errors
    /// When one may run and this user may not speak to it.
    pub fn find(state_dir: &Path) -> Result<Option<Client>, ClientError> {
        let client = Client { path: state_dir.join(SOCKET) };
        match UnixStream::connect(&client.path) {
            Ok(_) => Ok(Some(client)),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Denied { path: client.path, source })
            }
            // Nothing is there, nobody listens, or the path is too long for a socket to be there.
            Err(_) => Ok(None),
        }
    }

    /// What a path says.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask("GET", path, b"")
    }

    /// Hands a command in, with its arguments.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub fn command(&self, command: &str, arguments: &Value) -> Result<Value, ClientError> {
        self.ask("POST", &format!("/cmd/{command}"), arguments.to_string().as_bytes())
    }

    /// Reports as they go.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub fn events(&self) -> Result<Events, ClientError> {
        let (status, mut reader) =
            self.send("GET", "/events", b"", EVENT_WITHIN).map_err(|error| self.silent(error))?;
        if status == 200 {
            return Ok(Events { reader });
        }
        let body = read_to_end(&mut reader).map_err(|error| self.silent(error))?;
        Err(refusal(status, &body))
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &[u8]) -> Result<T, ClientError> {
        let exchange = || -> io::Result<(u16, Vec<u8>)> {
            let (status, mut reader) = self.send(method, path, body, ANSWER_WITHIN)?;
            Ok((status, read_to_end(&mut reader)?))
        };
        let (status, answer) = exchange().map_err(|error| self.silent(error))?;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &answer));
        }
        // One that was cut off in the middle is no JSON.
        serde_json::from_slice(&answer).map_err(|error| self.silent(error.into()))
    }

    /// Sends a request; the answer's status, and the answer's body to be read to its end.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        patience: Duration,
    ) -> io::Result<(u16, BufReader<UnixStream>)> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: graftd\r\nContent-Length: {length}\r\n\r\n");
        match stream.write_all(&[head.as_bytes(), body].concat()) {
            // It answered before it had read everything; the answer says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent?,
        }
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = reader.by_ref().take(MAX_HEAD as u64).read_until(b'\n', &mut head)?;
            if read == 0 || head.len() > MAX_HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed =
            response.parse(&head).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match (parsed.is_complete(), response.code) {
            (true, Some(status)) => Ok((status, reader)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn silent(&self, source: io::Error) -> ClientError {
        ClientError::Silent { path: self.path.clone(), source }
    }
}

/// The rest of an answer. A daemon that has not read the whole request ends with a reset, behind its answer.
fn read_to_end(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(bytes),
        read => read.map(|_| bytes),
    }
}

fn refusal(status: u16, body: &[u8]) -> ClientError {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let reason = value["error"].as_str().map_or_else(|| format!("the daemon says {status}"), String::from);
    ClientError::Refused { status, reason }
}

/// Reports, `{"topic": …, "payload": …}` each; ends when the daemon does.
pub struct Events {
    reader: BufReader<UnixStream>,
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            // A daemon that has ended, or says nothing where it should, is one that is gone.
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).ok();
            }
        }
    }
}
