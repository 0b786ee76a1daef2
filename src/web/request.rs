//! Reading a request, with bounds on everything: what is sent, and how long it takes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

use crate::mqtt::MAX_PAYLOAD;

/// The request line and all headers, bytes.
const MAX_HEAD: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// Whatever a client does, its request is there within this time, or it is turned away.
const READ_WITHIN: Duration = Duration::from_secs(10);
const DRAIN_WITHIN: Duration = Duration::from_millis(500);

/// A connection, of either kind.
pub(super) trait Stream: Read + Write + Send {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    /// Another handle, to end the connection with.
    fn other_handle(&self) -> io::Result<Box<dyn Stream>>;
    fn end(&self);
    fn end_writing(&self);
}

macro_rules! stream {
    ($kind:ty) => {
        impl Stream for $kind {
            fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                <$kind>::set_read_timeout(self, timeout)
            }

            fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                <$kind>::set_write_timeout(self, timeout)
            }

            fn other_handle(&self) -> io::Result<Box<dyn Stream>> {
                Ok(Box::new(self.try_clone()?))
            }

            fn end(&self) {
                // It may have ended by itself.
                let _ = self.shutdown(Shutdown::Both);
            }

            fn end_writing(&self) {
                let _ = self.shutdown(Shutdown::Write);
            }
        }
    };
}

stream!(UnixStream);
stream!(TcpStream);

/// A request that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub method: String,
    /// The parts of the path, decoded.
    pub path: Vec<String>,
    /// What stands behind `?`, decoded.
    pub query: Vec<(String, String)>,
    pub authorization: Option<String>,
    pub body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The client has gone, or never said anything.
    Gone,
    /// What it sent can't be taken: the status, and what to do.
    Bad(u16, String),
}

/// What the head says.
struct Head {
    request: Request,
    length: usize,
    expects_continue: bool,
}

/// Reads a request.
pub(super) fn read(stream: &mut dyn Stream) -> Result<Request, NoRequest> {
    let deadline = Instant::now() + READ_WITHIN;
    let mut bytes = Vec::new();
    let (head_length, head) = loop {
        if let Some(found) = parse_head(&bytes)? {
            break found;
        }
        if bytes.len() >= MAX_HEAD {
            return Err(NoRequest::Bad(431, format!("the request's head is above {MAX_HEAD} bytes")));
        }
        read_some(stream, &mut bytes, deadline)?;
    };
    let Head { mut request, length, expects_continue } = head;
    let mut body = bytes.split_off(head_length);
    if length > MAX_PAYLOAD {
        let reason = format!("the body has {length} bytes; at most {MAX_PAYLOAD} are read");
        return Err(NoRequest::Bad(413, reason));
    }
    if expects_continue && body.len() < length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| NoRequest::Gone)?;
    }
    while body.len() < length {
        read_some(stream, &mut body, deadline)?;
    }
    body.truncate(length);
    request.body = body;
    Ok(request)
}

fn read_some(stream: &mut dyn Stream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<(), NoRequest> {
    let left = deadline.saturating_duration_since(Instant::now());
    let late = || NoRequest::Bad(408, format!("the request was not there within {READ_WITHIN:?}"));
    // A timeout of none would wait for ever.
    if left.is_zero() {
        return Err(late());
    }
    stream.set_read_timeout(Some(left)).map_err(|_| NoRequest::Gone)?;
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk) {
        Ok(0) => Err(NoRequest::Gone),
        Ok(count) => {
            bytes.extend_from_slice(&chunk[..count]);
            Ok(())
        }
        Err(error) => match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(late()),
            _ => Err(NoRequest::Gone),
        },
    }
}

/// Reads on until the client has closed its end, for a moment, after it has been answered.
pub(super) fn drain(stream: &mut dyn Stream) {
    let deadline = Instant::now() + DRAIN_WITHIN;
    stream.end_writing();
    let mut bytes = Vec::new();
    while bytes.len() < MAX_PAYLOAD && read_some(stream, &mut bytes, deadline).is_ok() {}
}

/// The head and its length, once it is there as a whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, NoRequest> {
    let bad = |reason: String| NoRequest::Bad(400, reason);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let end = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(bad(format!("this is no HTTP request: {error}"))),
    };
    let (mut length, mut authorization, mut expects_continue) = (None, None, false);
    for header in parsed.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let told: Option<usize> = value.parse().ok();
            let told = told.ok_or_else(|| bad(format!("content-length {value:?} is no length")))?;
            if length.is_some_and(|before| before != told) {
                return Err(bad("there are two content-lengths".into()));
            }
            length = Some(told);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(NoRequest::Bad(411, "send the body with a content-length, not in chunks".into()));
        } else if header.name.eq_ignore_ascii_case("authorization") {
            authorization = Some(value.to_owned());
        } else if header.name.eq_ignore_ascii_case("expect") {
            expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(String::from).map_err(|_| bad(format!("{text:?} is no UTF-8")))
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(key)?, decode(value)?))
    });
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.split('/').filter(|part| !part.is_empty()).map(decode).collect::<Result<_, _>>()?,
        query: pairs.collect::<Result<_, _>>()?,
        authorization,
        body: Vec::new(),
    };
    Ok(Some((end, Head { request, length: length.unwrap_or(0), expects_continue })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(bytes: &[u8]) -> Result<Request, NoRequest> {
        let (mut client, mut server) = UnixStream::pair().expect("a pair");
        client.write_all(bytes).expect("room");
        client.shutdown(Shutdown::Write).expect("a connection");
        read(&mut server)
    }

    fn refused(bytes: &[u8]) -> u16 {
        match sent(bytes) {
            Err(NoRequest::Bad(status, _)) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_read() {
        let text = b"POST /samples/a%20b?after=x%26y&limit=3 HTTP/1.1\r\nHost: x\r\n\
                     authorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}";
        let request = sent(text).expect("a request");
        assert_eq!((request.method.as_str(), request.path), ("POST", vec!["samples".into(), "a b".into()]));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(request.query, [pair("after", "x&y"), pair("limit", "3")]);
        assert_eq!(
            (request.authorization.as_deref(), request.body.as_slice()),
            (Some("Bearer t"), &b"{}"[..])
        );
    }

    #[test]
    fn what_is_too_much_or_no_request_is_refused() {
        assert_eq!(refused(b"nonsense\r\n\r\n"), 400);
        assert_eq!(refused(format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD)).as_bytes()), 431);
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(refused(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()), 400);
        assert_eq!(refused(b"POST / HTTP/1.1\r\ncontent-length: 999999999\r\n\r\n"), 413);
        assert_eq!(refused(b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n"), 400);
        assert_eq!(refused(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"), 411);
        assert_eq!(refused(b"GET /%ff HTTP/1.1\r\n\r\n"), 400);
        assert!(matches!(sent(b""), Err(NoRequest::Gone)));
        assert!(matches!(sent(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{}"), Err(NoRequest::Gone)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_head(&bytes);
        }
    }
}
