//! `multipart/x-mixed-replace`: one JPEG after the other in one answer, each with a small head.
//!
//! RFC 2046, section 5.1. Cameras take it lightly: lengths are missing or wrong, boundaries come with and
//! without their dashes, with and without a line's end in front. So a length is believed only where a whole
//! JPEG has exactly that, which spares the wait for the next picture; any other part goes from its head to the
//! next boundary. The last part need not have one.

use std::io::{self, Read};

/// A part may be so large, bytes; what is larger is garbage.
const MAX_PART: usize = 32 * 1024 * 1024;
/// A part's head may be so large, bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Reads parts.
pub(super) struct Parts<R> {
    reader: R,
    boundary: Vec<u8>,
    /// Read and not used yet.
    buffer: Vec<u8>,
    chunk: Vec<u8>,
}

impl<R: Read> Parts<R> {
    /// `boundary` as the content type names it.
    pub fn new(reader: R, boundary: &str) -> Self {
        // With dashes in the parameter too, or without: what counts is what stands in the stream.
        let boundary = format!("--{}", boundary.trim_start_matches('-')).into_bytes();
        Parts { reader, boundary, buffer: Vec::new(), chunk: vec![0; 64 * 1024] }
    }

    /// The next part's content; none at the end of the stream.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            // To the head behind a boundary.
            let Some(start) = self.find_boundary()? else { return Ok(None) };
            self.buffer.drain(..start + self.boundary.len());
            let Some((head, told)) = self.head()? else { return Ok(None) };
            self.buffer.drain(..head);
            let Some(end) = self.find_end(told)? else {
                // The last part, whole if its length says so.
                let mut rest = std::mem::take(&mut self.buffer);
                let is_whole = told > 0 && rest.len() >= told;
                rest.truncate(told);
                return Ok(is_whole.then_some(rest));
            };
            let part = &self.buffer[..end];
            let part = part.strip_suffix(b"\r\n").or(part.strip_suffix(b"\n")).unwrap_or(part).to_vec();
            self.buffer.drain(..end);
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
    }

    /// The length of the head, and how much it announces.
    fn head(&mut self) -> io::Result<Option<(usize, usize)>> {
        loop {
            let crlf = find(&self.buffer, b"\r\n\r\n").map(|at| at + 4);
            let lf = find(&self.buffer, b"\n\n").map(|at| at + 2);
            if let Some(length) = crlf.into_iter().chain(lf).min() {
                let text = String::from_utf8_lossy(&self.buffer[..length]).to_ascii_lowercase();
                let told = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                let told = told.and_then(|told| told.trim().parse::<usize>().ok()).unwrap_or(0);
                return Ok(Some((length, told)));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a part's head does not end"));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Where the next boundary begins, after reading as far as it takes.
    fn find_boundary(&mut self) -> io::Result<Option<usize>> {
        self.find_end(0)
    }

    /// Where the part ends that is said to be `told` bytes long: there, if that makes a whole JPEG, else where
    /// the next boundary begins. Some boundaries are so short that a picture may hold them by chance, so one
    /// counts behind a line's end, a JPEG's end, or nothing alone.
    fn find_end(&mut self, told: usize) -> io::Result<Option<usize>> {
        let mut from = 0;
        loop {
            if self.buffer.get(..told).is_some_and(is_jpeg) {
                return Ok(Some(told));
            }
            while let Some(at) = find(&self.buffer[from..], &self.boundary).map(|at| from + at) {
                let before = &self.buffer[..at];
                if before.is_empty() || before.ends_with(b"\n") || before.ends_with(&[0xff, 0xd9]) {
                    return Ok(Some(at));
                }
                from = at + 1;
            }
            if self.buffer.len() > MAX_PART {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a part does not end"));
            }
            // It may lie across what is there and what comes.
            from = (self.buffer.len() + 1).saturating_sub(self.boundary.len()).max(from);
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let read = self.reader.read(&mut self.chunk)?;
        self.buffer.extend_from_slice(&self.chunk[..read]);
        Ok(read > 0)
    }
}

/// From its first marker to its last (ITU-T T.81, B.2.1).
fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9])
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of these sizes.
    struct Pieces<'a>(&'a [u8], Vec<usize>);

    impl Read for Pieces<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let size = self.1.pop().unwrap_or(usize::MAX).clamp(1, to.len()).min(self.0.len());
            to[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    fn all(stream: &[u8], pieces: Vec<usize>) -> Vec<Vec<u8>> {
        let mut parts = Parts::new(Pieces(stream, pieces), "frame");
        std::iter::from_fn(|| parts.next().expect("readable")).collect()
    }

    /// A part with the length that it has, none, or a wrong one.
    fn part(content: &[u8], length: Option<usize>) -> Vec<u8> {
        let told = length.map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
        [b"--frame\r\nContent-Type: image/jpeg\r\n", told.as_bytes(), b"\r\n", content, b"\r\n"].concat()
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_parts(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..5),
            honest in any::<bool>(),
            jpeg in any::<bool>(),
            pieces in prop::collection::vec(1usize..50, 0..60),
        ) {
            let mut stream = b"garbage --frame before\r\n".to_vec();
            let mut wanted = Vec::new();
            for mut content in contents {
                // A picture ends with its marker, not with a line's end.
                content.extend([0xff, 0xd9]);
                if jpeg {
                    content.splice(..0, [0xff, 0xd8]);
                }
                stream.extend(part(&content, honest.then_some(content.len())));
                wanted.push(content);
            }
            stream.extend(b"--frame--\r\n");
            prop_assert_eq!(all(&stream, pieces), wanted);
        }
    }

    #[test]
    fn wrong_lengths_are_seen_through() {
        let stream = [
            part(b"one", Some(1)),
            part(b"two", Some(40)),
            part(b"three", Some(usize::MAX)),
            part(b"four --frame, not the end", Some(4)),
            b"--frame\r\n\r\nfive\xff\xd9".to_vec(),
            part(b"six", Some(3)),
        ]
        .concat();
        let wanted = [&b"one"[..], b"two", b"three", b"four --frame, not the end", b"five\xff\xd9", b"six"];
        assert_eq!(all(&stream, vec![]), wanted);
    }

    #[test]
    fn a_whole_picture_is_given_before_the_next_one_comes() {
        // A camera that sends one picture in ten seconds: to read on is to wait for the next.
        struct Never;
        impl Read for Never {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("the picture was there")
            }
        }
        let picture = b"\xff\xd8a picture\xff\xd9";
        let stream = part(picture, Some(picture.len()));
        let (now, later) = stream.split_at(stream.len() - 2);
        let mut parts = Parts::new(now.chain(Never), "frame");
        assert_eq!(parts.next().expect("readable").as_deref(), Some(&picture[..]));
        // What comes later is read as before.
        let second = [later, &part(b"two", None), &part(b"three", None)].concat();
        assert_eq!(all(&[now, &second[..]].concat(), vec![]), [&picture[..], b"two"]);
    }

    #[test]
    fn a_part_that_never_ends_is_not_held() {
        let endless = io::repeat(7);
        let start = &b"--frame\r\n\r\n"[..];
        let mut parts = Parts::new(start.chain(endless), "frame");
        assert!(parts.next().is_err());
        assert!(parts.buffer.len() < MAX_PART + 100_000);
    }

    #[test]
    fn what_never_ends_is_an_error_and_a_stream_that_breaks_off_an_end() {
        let endless = [b"--frame\r\n".to_vec(), vec![b'x'; MAX_HEAD + 70_000]].concat();
        assert!(Parts::new(&endless[..], "frame").next().is_err());
        let broken = part(b"one", Some(300));
        assert_eq!(all(&broken, vec![]), Vec::<Vec<u8>>::new());
    }
}
