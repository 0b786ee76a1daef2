//! A camera that speaks RTSP on a loopback port: H.264 inside the connection, in RTP packets.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use graftd::picture::Picture;
use openh264::encoder::Encoder;
use openh264::formats::{RgbSliceU8, YUVBuffer};
use openh264::nal_units;

use super::http::read_head;
use super::port::{Now, Port};

/// What the camera does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What it should.
    Fine,
    /// Takes the question and never answers.
    Silent,
    /// Sends nothing more.
    Stalls,
    /// Ends the connection.
    BreaksOff,
    /// Sends what is no RTSP.
    Noise,
    /// Packets as they should be, with garbage for frames.
    Garbage,
    /// Frames that say what has changed since others that were never sent.
    NoKeyFrames,
    /// Says that it gives H.265.
    Other,
    /// Says that it gives sound and nothing else.
    Sound,
    /// Answers 404.
    NoSuchStream,
    /// Is slow to send the first frame that stands by itself. No fault.
    LateKeyFrame,
}

impl Mode {
    /// Whether it shows when a stream is asked for, and not in one that goes on.
    fn is_of_the_start(self) -> bool {
        use Mode::*;
        matches!(self, Silent | NoKeyFrames | Other | Sound | NoSuchStream | LateKeyFrame)
    }
}

/// How it wants to know who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    Nobody,
    Basic,
    Digest,
}

/// A key frame comes each so many frames.
const KEY_EVERY: u32 = 10;
/// RTP packets carry so much, so that a frame takes several.
const PACKET: usize = 1000;
const SIZE: (usize, usize) = (160, 120);

const USER: &str = "barn";
const PASSWORD: &str = "se@cret";
/// A digest is of these too (RFC 2069, 2.1).
const REALM: &str = "cam";
const NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c0";

/// A camera.
pub type RtspCamera = Port<Mode>;

impl RtspCamera {
    pub fn start(login: Login) -> Self {
        let now = Now::new(Mode::Fine);
        let camera = Served { now: Arc::clone(&now), login };
        Port::open(now, move |stream| camera.serve(stream))
    }
}

struct Served {
    now: Arc<Now<Mode>>,
    login: Login,
}

/// The picture of this number: a light box on a blue ground, which moves.
fn frame(number: u32) -> Picture {
    let mut picture = Picture::filled(SIZE.0 as u32, SIZE.1 as u32, [30, 40, 160]);
    let left = (number * 5 % 120) as f32;
    picture.draw_box([left, 40.0, left + 30.0, 90.0], 15, [220, 210, 60]);
    picture
}

fn nals(encoder: &mut Encoder, number: u32) -> Vec<Vec<u8>> {
    let yuv = YUVBuffer::from_rgb_source(RgbSliceU8::new(frame(number).rgb(), SIZE));
    let stream = encoder.encode(&yuv).unwrap().to_vec();
    let start = |nal: &[u8]| nal.iter().position(|&byte| byte == 1).unwrap() + 1;
    nal_units(&stream).map(|nal| nal[start(nal)..].to_vec()).collect()
}

impl Served {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        while let Some(head) = read_head(&mut stream)? {
            let mode = self.now.mode();
            if mode == Mode::Silent {
                self.now.hold(mode);
                return Ok(());
            }
            let header = |name: &str| {
                let find = |line: &str| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                };
                head.lines().find_map(find)
            };
            let sequence = header("cseq").unwrap();
            let answer = |stream: &mut TcpStream, status: &str, headers: &str, body: &str| {
                let length = body.len();
                write!(
                    stream,
                    "RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
                )
            };
            let method = head.split(' ').next().unwrap();
            if !self.lets_in(method, header("authorization").as_deref()) {
                let wanted = match self.login {
                    Login::Digest => format!("Digest realm=\"{REALM}\", nonce=\"{NONCE}\""),
                    _ => format!("Basic realm=\"{REALM}\""),
                };
                answer(&mut stream, "401 Unauthorized", &format!("WWW-Authenticate: {wanted}\r\n"), "")?;
                continue;
            }
            match method {
                "DESCRIBE" if mode == Mode::NoSuchStream => answer(&mut stream, "404 Not Found", "", "")?,
                "DESCRIBE" => {
                    answer(&mut stream, "200 OK", "Content-Type: application/sdp\r\n", &described(mode))?
                }
                "SETUP" => {
                    let headers =
                        "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000007\r\nSession: 5\r\n";
                    answer(&mut stream, "200 OK", headers, "")?;
                }
                "PLAY" => {
                    answer(&mut stream, "200 OK", "Session: 5\r\nRange: npt=0-\r\n", "")?;
                    return self.play(&mut stream);
                }
                _ => answer(&mut stream, "200 OK", "Session: 5\r\n", "")?,
            }
        }
        Ok(())
    }

    fn lets_in(&self, method: &str, told: Option<&str>) -> bool {
        match (self.login, told) {
            (Login::Nobody, _) => true,
            (Login::Basic, Some(told)) => {
                told == format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")))
            }
            (Login::Digest, Some(told)) => {
                let field = |name: &str| {
                    let from = told.split_once(&format!("{name}=\""))?.1;
                    Some(from.split_once('"')?.0.to_owned())
                };
                let secret = md5(&format!("{USER}:{REALM}:{PASSWORD}"));
                let asked = md5(&format!("{method}:{}", field("uri").unwrap()));
                field("response") == Some(md5(&format!("{secret}:{NONCE}:{asked}")))
            }
            (_, None) => false,
        }
    }

    fn play(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut encoder = Encoder::new().unwrap();
        let mut sequence = 0u16;
        let first = self.now.mode();
        for number in 0.. {
            let mode = self.now.mode();
            if self.now.is_down() || mode != first && mode.is_of_the_start() {
                return Ok(());
            }
            match mode {
                Mode::Stalls => self.now.hold(mode),
                Mode::BreaksOff => return Ok(()),
                Mode::Noise => stream.write_all(&[7; 100])?,
                _ => {}
            }
            if number % KEY_EVERY == 0 {
                encoder.force_intra_frame();
            }
            let mut nals = nals(&mut encoder, number);
            // The type is in the lower five bits: 5 is a slice that stands by itself (ITU-T H.264, 7.3.1).
            let is_key = nals.iter().any(|nal| nal[0] & 31 == 5);
            if mode == Mode::Garbage {
                for byte in
                    nals.iter_mut().filter(|nal| matches!(nal[0] & 31, 1 | 5)).flat_map(|nal| &mut nal[1..])
                {
                    *byte = 0xaa;
                }
            }
            // 40 frames are 2 s.
            if !(is_key && (first == Mode::NoKeyFrames || first == Mode::LateKeyFrame && number < 40)) {
                let count = nals.len();
                for (index, nal) in nals.iter().enumerate() {
                    send(stream, &mut sequence, number * 4500, nal, index + 1 == count)?;
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The answer to DESCRIBE (RFC 8866, and RFC 6184, 8.2.1).
fn described(mode: Mode) -> String {
    let mut encoder = Encoder::new().unwrap();
    let first = nals(&mut encoder, 0);
    let sets: Vec<String> = first.iter().take(2).map(|set| BASE64_STANDARD.encode(set)).collect();
    let media = match mode {
        Mode::Sound => "m=audio 0 RTP/AVP 0\r\na=control:track1\r\n".to_owned(),
        _ => format!(
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 {}/90000\r\na=control:track1\r\n\
             a=fmtp:96 packetization-mode=1;sprop-parameter-sets={}\r\n",
            if mode == Mode::Other { "H265" } else { "H264" },
            sets.join(",")
        ),
    };
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\na=control:*\r\n{media}")
}

/// By the system's program: no crate is worth this one hash.
fn md5(text: &str) -> String {
    let mut command = Command::new("md5sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..32].to_owned()
}

/// A NAL unit as it is, or in pieces (RFC 6184, 5.6 and 5.8), each behind the four bytes that RTSP puts in front
/// of data inside the connection (RFC 2326, 10.12).
fn send(
    stream: &mut TcpStream,
    sequence: &mut u16,
    time: u32,
    nal: &[u8],
    is_last: bool,
) -> std::io::Result<()> {
    let mut packet = |payload: &[u8], marker: bool| {
        let mut bytes = vec![0x80, 96 | u8::from(marker) << 7];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(time.to_be_bytes());
        bytes.extend(7u32.to_be_bytes());
        bytes.extend(payload);
        *sequence = sequence.wrapping_add(1);
        stream.write_all(&[&[b'$', 0][..], &(bytes.len() as u16).to_be_bytes(), &bytes].concat())
    };
    if nal.len() <= PACKET {
        return packet(nal, is_last);
    }
    let pieces = nal[1..].chunks(PACKET).count();
    for (index, piece) in nal[1..].chunks(PACKET).enumerate() {
        let (first, last) = (index == 0, index + 1 == pieces);
        let head = [nal[0] & 0xe0 | 28, u8::from(first) << 7 | u8::from(last) << 6 | nal[0] & 31];
        packet(&[&head[..], piece].concat(), is_last && last)?;
    }
    Ok(())
}
