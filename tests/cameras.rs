//! Cameras that fail: through the daemon, a real broker and a camera that misbehaves on purpose. Each fault is
//! told, nothing else stops, and frames come again afterwards.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::broker::{Mosquitto, Watcher, wait_until};
use support::http::{Camera, Mode};
use support::port::Port;
use support::service::Service;
use support::{drawn, goldens};

const ROOT: &str = "graftd/cameras";
/// A fault must be told within so long: the 5 s that are promised, and as much again for a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Longer pauses between tries come with more faults in a row than this; some are two, the end of a stream and what
/// is said when it is asked for again.
const FAULTS_IN_A_ROW: usize = 2;
const USER: &str = "Basic YmFybjpzZUBjcmV0";

/// A device, its broker, and somebody who watches.
struct Device {
    // Dropped first: it writes into the folder.
    daemon: Service,
    folder: tempfile::TempDir,
    _broker: Mosquitto,
    watcher: Watcher,
    commands: u32,
}

impl Device {
    /// `camera` is the table of the configuration.
    fn new(camera: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path());
        let watcher = Watcher::start(&broker, ROOT);
        let base = goldens("exports").join("yolo12n.onnx");
        let text = format!(
            "device = \"cameras\"\nstate_dir = \"state\"\n[model]\nbase = {base:?}\n[mqtt]\nbroker = {:?}\n\
             [camera]\n{camera}\n[select]\nrandom_share = 1.0\nleast_difference = 0.0\nper_hour = 100000\n\
             [runtime]\nthreads = 1\n",
            broker.url()
        );
        std::fs::write(folder.path().join("graftd.toml"), text).unwrap();
        let daemon = Service::new(folder.path());
        let mut device = Device { daemon, folder, _broker: broker, watcher, commands: 0 };
        device.start();
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        self.daemon.start();
        let is_online = |topic: &str, value: &Value| topic == format!("{ROOT}/status") && value == "online";
        self.watcher.wait("the daemon to be online", is_online);
    }

    fn end(&mut self) {
        assert_eq!(self.daemon.end("-TERM"), Some(0), "{}", self.log());
    }

    fn log(&self) -> String {
        self.daemon.log()
    }

    fn command(&mut self, command: &str) -> Value {
        self.commands += 1;
        self.watcher.command(ROOT, command, &format!("c{}", self.commands), json!({}))
    }

    fn state(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.watcher.wait(what, |topic, value| topic == format!("{ROOT}/state") && wanted(value)).1
    }

    /// Waits for the state to say this of the camera, and for commands to be answered meanwhile.
    fn is_away(&mut self, word: &str) -> Value {
        let start = Instant::now();
        let reason = |state: &Value| state["camera_trouble"]["reason"].as_str().unwrap_or("").to_owned();
        // A fault may look like another at first: a stream that breaks off before what comes instead.
        let state = self.state(&format!("trouble with {word:?}"), |state| state["camera"] == "away");
        let took = start.elapsed();
        assert!(took < TOLD_WITHIN, "{word}: it took {took:?}");
        eprintln!("{word}: told after {took:.1?}");
        let state = match reason(&state).contains(word) {
            true => state,
            false => self.state(&format!("trouble with {word:?}"), |state| reason(state).contains(word)),
        };
        let answer = self.command("state");
        assert_eq!(answer["result"]["camera"], "away", "{answer}");
        let trouble = &answer["result"]["camera_trouble"];
        assert!(trouble["seconds"].is_u64() && trouble["tries"].is_u64() && trouble["next_try"].is_u64());
        let refused = self.command("capture");
        assert_eq!(refused["status"], "failed", "{refused}");
        assert!(refused["reason"].as_str().unwrap().contains("camera "), "{refused}");
        state
    }

    /// Waits for frames, and for one that is asked for.
    fn is_back(&mut self) -> Value {
        let on = |state: &Value| state["camera"] == "on" && state["camera_trouble"].is_null();
        let state = self.state("the camera to be back", |state| on(state) && state["frames"] != 0);
        let kept = self.command("capture");
        assert_eq!(kept["status"], "successful", "{kept}");
        state
    }

    fn sample(&self) -> Value {
        self.watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample")).1
    }
}

/// Every fault is told, and what comes after it is well. After some of them the daemon is started again: the
/// pauses between tries grow with each fault.
fn goes_through<M>(camera: &mut Port<M>, source: &str, fine: M, faults: &[(M, &str)]) -> Device
where
    M: Copy + PartialEq + Send + 'static,
{
    let mut device = Device::new(&format!("source = {source:?}\nfps = 4.0"));
    for faults in faults.chunks(FAULTS_IN_A_ROW) {
        device.is_back();
        for (mode, word) in faults {
            camera.set(*mode);
            device.is_away(word);
            camera.set(fine);
            device.is_back();
        }
        device.end();
        device.start();
    }
    device.is_back();
    camera.down();
    let state = device.is_away("refused");
    camera.up();
    let back = device.is_back();
    for told in [state.to_string(), back.to_string(), device.sample().to_string(), device.log()] {
        assert!(!told.contains("cret") && !told.contains("barn:"), "{told}");
        assert!(!told.contains("YmFybj"), "{told}");
    }
    device
}

fn over_http(path: &str, faults: &[(Mode, &str)]) {
    let mut camera = Camera::start(Some(USER));
    let source = format!("http://barn:se%40cret@{}{path}", camera.address());
    goes_through(&mut camera, &source, Mode::Fine, faults).end();
}

#[test]
fn snapshots_that_fail_in_every_way() {
    over_http(
        "/snapshot",
        &[
            (Mode::StallsInFrame, "nothing has come from it"),
            (Mode::BreaksOff, "connection broke"),
            (Mode::Garbage, "nothing but garbage"),
            (Mode::Unavailable, "status 503"),
            (Mode::CutShort, "without an end"),
            (Mode::Silent, "does not answer in time"),
            (Mode::Page, "neither a picture nor a stream"),
            (Mode::Endless, "more than 32 MB"),
            (Mode::RedirectsForEver, "redirect"),
        ],
    );
}

#[test]
fn streams_that_fail_in_every_way() {
    over_http(
        "/stream",
        &[
            (Mode::StallsInFrame, "nothing has come from it"),
            (Mode::BreaksOff, "stream ended"),
            (Mode::Garbage, "nothing but garbage"),
            (Mode::Unavailable, "status 503"),
            (Mode::CutShort, "without an end"),
            (Mode::HangsUp, "camera http://127.0.0.1"),
            (Mode::Endless, "a part does not end"),
            (Mode::Page, "neither a picture nor a stream"),
        ],
    );
}

#[test]
fn what_cameras_do_all_the_time_is_no_fault() {
    for (path, mode) in
        [("/stream", Mode::Sloppy), ("/stream", Mode::Redirects), ("/snapshot", Mode::Redirects)]
    {
        let camera = Camera::start(Some(USER));
        camera.set(mode);
        let source = format!("http://barn:se%40cret@{}{path}", camera.address());
        let mut device = Device::new(&format!("source = {source:?}\nfps = 20.0"));
        for _ in 0..8 {
            let sample = device.sample();
            assert_eq!((&sample["width"], &sample["height"]), (&json!(160), &json!(120)), "{sample}");
        }
        let state = device.command("state")["result"].clone();
        assert_eq!((&state["camera"], &state["bad_frames"]), (&json!("on"), &json!(0)), "{state}");
        let gives = if path == "/stream" { "an MJPEG stream" } else { "snapshots" };
        assert_eq!(state["camera_gives"], gives, "{state}");
        device.end();
    }
}

#[test]
fn a_wrong_password_is_said_to_be_one() {
    let camera = Camera::start(Some(USER));
    let source = format!("http://barn:wrong@{}/snapshot", camera.address());
    let mut device = Device::new(&format!("source = {source:?}"));
    device.is_away("refuses the user or the password");
    assert!(!device.log().contains("wrong@"), "{}", device.log());
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let mut device = Device::new("source = \"frames\"\nfps = 20.0\nrepeat = true");
    device.is_away("No such file");
    let made = device.path("made");
    drawn::data_set(&made, &["weed"], 3, 1, 96);
    std::fs::rename(made.join("images/train"), device.path("frames")).unwrap();
    device.is_back();
    std::fs::rename(device.path("frames"), device.path("gone")).unwrap();
    device.is_away("No such file");
    std::fs::rename(device.path("gone"), device.path("frames")).unwrap();
    device.is_back();
    device.end();
}

#[test]
fn files_that_come_into_a_watched_folder_are_looked_at_when_they_are_complete() {
    let mut device = Device::new("source = \"frames\"\nfps = 20.0\nwatch = true");
    device.is_away("No such file");
    std::fs::create_dir(device.path("frames")).unwrap();
    device.state("the camera to be on", |state| state["camera"] == "on");
    drawn::data_set(&device.path("made"), &["weed"], 2, 1, 96);
    let bytes = std::fs::read(device.path("made/images/train/000.png")).unwrap();
    let mut file = std::fs::File::create(device.path("frames/slow.png")).unwrap();
    for piece in bytes.chunks(bytes.len() / 4 + 1) {
        std::io::Write::write_all(&mut file, piece).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    drop(file);
    assert_eq!(device.sample()["source"], "slow.png");
    std::fs::rename(device.path("made/images/train/001.png"), device.path("frames/moved.png")).unwrap();
    assert_eq!(device.sample()["source"], "moved.png");
    std::fs::write(device.path("frames/none.jpg"), b"no picture").unwrap();
    wait_until("the file that is no picture is told of", || device.log().contains("none.jpg"));
    let state = device.command("state")["result"].clone();
    assert_eq!((&state["camera"], &state["bad_frames"]), (&json!("on"), &json!(1)), "{state}");
    device.end();
}

#[test]
fn a_device_without_a_camera_has_something_to_show() {
    let mut device = Device::new("source = \"test\"\nwidth = 320\nheight = 240\nfps = 5.0");
    let sample = device.sample();
    assert_eq!((&sample["source"], &sample["width"]), (&json!("test 1"), &json!(320)), "{sample}");
    device.is_back();
    device.end();
}

#[cfg(feature = "v4l2")]
#[test]
fn a_camera_that_is_not_plugged_in_is_waited_for() {
    let mut device = Device::new("source = \"/dev/video97\"");
    device.is_away("/dev/video97: it is not there; plug it in");
    device.end();
}

/// The kernel's own cameras, virtual ones (`vivid`, `v4l2loopback`) among them.
#[cfg(feature = "v4l2")]
#[test]
fn a_camera_of_the_kernels_gives_frames() {
    let names = std::fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path());
    let mut cameras: Vec<PathBuf> =
        names.filter(|path| path.to_string_lossy().starts_with("/dev/video")).collect();
    cameras.sort();
    let Some(first) = cameras.first() else {
        eprintln!(
            "NOT RUN: this machine has no /dev/video*; `modprobe vivid` makes one where the kernel has it"
        );
        return;
    };
    let mut device = Device::new(&format!("source = {first:?}\nfps = 5.0"));
    let state = device.is_back();
    eprintln!("{}: {}", first.display(), state["camera_gives"]);
    assert!(state["camera_gives"].as_str().unwrap().contains('×'), "{state}");
    device.end();
}

#[cfg(feature = "rtsp")]
mod rtsp {
    use super::*;
    use graftd::picture::Picture;
    use support::rtsp::{Login, Mode, RtspCamera};

    fn source(camera: &RtspCamera, password: &str) -> String {
        format!("rtsp://barn:{password}@{}/live", camera.address())
    }

    #[test]
    fn streams_that_fail_in_every_way() {
        let mut camera = RtspCamera::start(Login::Digest);
        let source = source(&camera, "se%40cret");
        let faults = [
            (Mode::Stalls, "no frame has come"),
            (Mode::BreaksOff, "stream ended"),
            (Mode::Other, "it gives h265"),
            (Mode::NoKeyFrames, "key frames"),
            (Mode::Noise, "stream broke"),
            (Mode::Garbage, "nothing but garbage"),
            (Mode::Sound, "it gives no video"),
            (Mode::NoSuchStream, "is the path right"),
            (Mode::Silent, "does not answer in time"),
        ];
        let mut device = goes_through(&mut camera, &source, Mode::Fine, &faults);
        // A key frame that is late is waited for.
        camera.set(Mode::LateKeyFrame);
        device.is_away("stream ended");
        let state = device.is_back();
        assert_eq!(state["camera_gives"], "H.264 of 160×120", "{state}");
        device.end();
        what_is_kept_is_what_was_drawn(&device);
    }

    /// A light box on blue.
    fn what_is_kept_is_what_was_drawn(device: &Device) {
        let folders = std::fs::read_dir(device.path("state/blobs")).unwrap().flatten();
        let files = folders.filter_map(|entry| std::fs::read_dir(entry.path()).ok()).flatten().flatten();
        let frames =
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "jpg"));
        let pictures: Vec<Picture> = frames.map(|path| Picture::open(&path).unwrap()).collect();
        assert!(!pictures.is_empty());
        let near = |found: &[u8], wanted: [u8; 3]| {
            found.iter().zip(wanted).all(|(&found, wanted)| found.abs_diff(wanted) < 40)
        };
        for picture in pictures {
            assert_eq!((picture.width(), picture.height()), (160, 120));
            assert!(near(&picture.rgb()[..3], [30, 40, 160]), "{:?}", &picture.rgb()[..3]);
            let light = picture.rgb().chunks(3).filter(|pixel| near(pixel, [220, 210, 60])).count();
            assert!((1000..2000).contains(&light), "{light} pixels of the box");
        }
    }

    #[test]
    fn a_wrong_password_is_said_to_be_one_and_a_missing_one_asked_for() {
        for login in [Login::Basic, Login::Digest] {
            let camera = RtspCamera::start(login);
            let mut device = Device::new(&format!("source = {:?}", source(&camera, "wrong")));
            device.is_away("refuses the user or the password");
            assert!(!device.log().contains("wrong@"), "{}", device.log());
            let source = format!("rtsp://{}/live", camera.address());
            let mut device = Device::new(&format!("source = {source:?}"));
            device.is_away("wants a user and a password");
        }
        for login in [Login::Nobody, Login::Basic] {
            let camera = RtspCamera::start(login);
            let mut device = Device::new(&format!("source = {:?}\nfps = 4.0", source(&camera, "se%40cret")));
            device.is_back();
            device.end();
        }
    }
}
