//! A camera that speaks RTSP on a loopback port: H.264 inside the connection, in RTP packets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use graftd::picture::Picture;
use openh264::encoder::Encoder;
use openh264::formats::{RgbSliceU8, YUVBuffer};
use openh264::nal_units;

/// What the camera does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What it should.
    Fine,
    /// Sends nothing more.
    Stalls,
    /// Ends the connection.
    BreaksOff,
    /// Frames that say what has changed since others that were never sent.
    NoKeyFrames,
    /// Says that it gives H.265.
    Other,
    /// Is slow to send the first frame that stands by itself.
    LateKeyFrame,
}

/// A key frame comes each so many frames.
const KEY_EVERY: u32 = 10;
/// RTP packets carry so much, so that a frame takes several.
const PACKET: usize = 1000;
const SIZE: (usize, usize) = (160, 120);

/// A camera; its thread ends with the test.
pub struct RtspCamera {
    pub port: u16,
    mode: Arc<Mutex<Mode>>,
}

impl RtspCamera {
    /// One that wants this `Authorization`.
    pub fn start(wanted: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(Mutex::new(Mode::Fine));
        let shared = Arc::clone(&mode);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mode = Arc::clone(&shared);
                // Whoever asked may have gone.
                thread::spawn(move || drop(serve(stream.unwrap(), wanted, &mode)));
            }
        });
        RtspCamera { port, mode }
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
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

fn serve(mut stream: TcpStream, wanted: &str, mode: &Mutex<Mode>) -> std::io::Result<()> {
    let now = || *mode.lock().unwrap();
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
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
        if header("authorization").as_deref() != Some(wanted) {
            answer(&mut stream, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"cam\"\r\n", "")?;
            continue;
        }
        match head.split(' ').next().unwrap() {
            "DESCRIBE" => {
                let mut encoder = Encoder::new().unwrap();
                let first = nals(&mut encoder, 0);
                let sets: Vec<String> = first.iter().take(2).map(|set| BASE64_STANDARD.encode(set)).collect();
                let name = if now() == Mode::Other { "H265" } else { "H264" };
                let body = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\na=control:*\r\n\
                     m=video 0 RTP/AVP 96\r\na=rtpmap:96 {name}/90000\r\na=control:track1\r\n\
                     a=fmtp:96 packetization-mode=1;sprop-parameter-sets={}\r\n",
                    sets.join(",")
                );
                answer(&mut stream, "200 OK", "Content-Type: application/sdp\r\n", &body)?;
            }
            "SETUP" => {
                let headers =
                    "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=00000007\r\nSession: 5\r\n";
                answer(&mut stream, "200 OK", headers, "")?;
            }
            "PLAY" => {
                answer(&mut stream, "200 OK", "Session: 5\r\nRange: npt=0-\r\n", "")?;
                return play(&mut stream, now);
            }
            _ => answer(&mut stream, "200 OK", "Session: 5\r\n", "")?,
        }
    }
}

fn play(stream: &mut TcpStream, now: impl Fn() -> Mode) -> std::io::Result<()> {
    let mut encoder = Encoder::new().unwrap();
    let mut sequence = 0u16;
    // 40 frames are 2 s.
    let late = now() == Mode::LateKeyFrame;
    for number in 0.. {
        match now() {
            Mode::Stalls => {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            Mode::BreaksOff => return Ok(()),
            _ => {}
        }
        if number % KEY_EVERY == 0 {
            encoder.force_intra_frame();
        }
        let nals = nals(&mut encoder, number);
        // The type is in the lower five bits: 5 is a slice that stands by itself (ITU-T H.264, 7.3.1).
        let is_key = nals.iter().any(|nal| nal[0] & 31 == 5);
        if !(is_key && (now() == Mode::NoKeyFrames || late && number < 40)) {
            let count = nals.len();
            for (index, nal) in nals.iter().enumerate() {
                send(stream, &mut sequence, number * 4500, nal, index + 1 == count)?;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
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
