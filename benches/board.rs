//! What the daemon takes of a small board: bytes written to its card, and memory.
//!
//! ```sh
//! cargo bench --bench board -- writes                       # 200 kept frames, five idle minutes
//! cargo bench --bench board -- writes 1000 3600             # more of both, seconds
//! cargo bench --bench board -- memory                       # an hour in 150 MB and one in 300 MB, as root
//! cargo bench --bench board -- memory 10 yolo11n.onnx 320   # ten minutes of each, with another export
//! cargo bench --bench board -- memory 10 yolo11n.onnx 320 150 500   # and other limits, MB; 0 leaves that part out
//! ```
//!
//! Written is what the kernel counts for the process (`/proc/<pid>/io`): whole pages that have become dirty, not
//! what the file system adds. Memory is limited by a control group where one can be made, so that the kernel kills
//! what takes more; elsewhere it is measured and nothing else, and that is said.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use graftd::dataset::DataSet;
use graftd::picture::Picture;
use serde_json::{Value, json};

#[path = "../tests/support/mod.rs"]
mod support;

use support::api::Socket;
use support::broker::{Mosquitto, wait_until};

/// A camera's usual size.
const FRAME: (u32, u32) = (640, 480);
const MB: f64 = 1024.0 * 1024.0;
/// Samples that runs learn from.
const LABELLED: u64 = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |place: usize, default: u64| -> u64 {
        arguments.get(place).map_or(default, |text| text.parse().expect("a number"))
    };
    let base = arguments.get(2).map_or("models/base.onnx", String::as_str);
    match arguments.first().map(String::as_str) {
        Some("writes") => writes(number(1, 200), Duration::from_secs(number(2, 300))),
        Some("memory") => {
            let side = arguments.get(3).map(|side| side.parse().expect("a side in pixels"));
            let limits = [number(4, 150), number(5, 300)];
            memory(Duration::from_secs(60 * number(1, 60)), Path::new(base), side, limits);
        }
        // As `cargo bench` without a name runs it.
        _ => println!("say what is wanted: writes [FRAMES SECONDS], or memory [MINUTES MODEL SIDE MB MB]"),
    }
}

/// The daemon before a folder of frames, with a broker.
struct Board {
    daemon: Child,
    socket: Socket,
    parts: Option<Parts>,
}

/// What outlives the daemon: its folder and its broker.
struct Parts {
    folder: tempfile::TempDir,
    broker: Mosquitto,
}

impl Parts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("frames")).unwrap();
        let broker = Mosquitto::start(folder.path());
        Parts { folder, broker }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // It may have ended already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Board {
    /// Starts it with this configuration, in a control group if one is given.
    fn start(parts: Parts, config: &str, group: Option<&Group>) -> Self {
        let file = parts.path("graftd.toml");
        let broker = parts.broker.url();
        fs::write(&file, format!("state_dir = \"state\"\n[mqtt]\nbroker = {broker:?}\n{config}")).unwrap();
        let members = group.map_or(PathBuf::from("/dev/null"), |group| group.folder.join("cgroup.procs"));
        let log = fs::File::options().create(true).append(true).open(parts.path("log")).unwrap();
        let daemon = Command::new("sh")
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(members)
            .arg(env!("CARGO_BIN_EXE_graftd"))
            .args(["run", "--config"])
            .arg(&file)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let board = Board { daemon, socket: Socket::of(parts.folder.path()), parts: Some(parts) };
        wait_until("the daemon answers", || board.socket.is_there());
        board
    }

    /// Ends it in good order; what is left can be started again.
    fn stop(mut self) -> Parts {
        let kill = Command::new("kill").args(["-TERM", &self.daemon.id().to_string()]).status().unwrap();
        assert!(kill.success() && self.daemon.wait().unwrap().success());
        self.parts.take().expect("only here it is taken")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parts.as_ref().expect("it runs").path(name)
    }

    fn log(&self) -> String {
        let log = self.parts.as_ref().map(|parts| fs::read_to_string(parts.path("log")));
        log.and_then(Result::ok).unwrap_or_default()
    }

    fn state(&self) -> Value {
        self.socket.get("/state").json()
    }

    fn samples(&self) -> u64 {
        self.state()["samples"].as_u64().unwrap()
    }

    /// What it has had written, bytes.
    fn written(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.daemon.id())).unwrap();
        let of = |name: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        of("write_bytes:") - of("cancelled_write_bytes:")
    }

    /// What it holds, MB: now, the most there was, and what of the first is no file's.
    fn resident(&self) -> [f64; 3] {
        let text = fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
        ["VmRSS:", "VmHWM:", "RssAnon:"].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0.0, |line| line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
        })
    }

    fn is_alive(&mut self) -> bool {
        self.daemon.try_wait().unwrap().is_none()
    }
}

/// Frames as a camera gives them, no two alike: the demo's tiles, each time another cut and another light.
fn frames(count: u64, quality: u8) -> Vec<Vec<u8>> {
    let set = DataSet::open(Path::new("demo/treecrowns/data.yaml")).unwrap();
    let tiles: Vec<Picture> = set.train.iter().map(|e| Picture::open(&e.picture).unwrap()).collect();
    let frame = |number: u64| {
        let mut frame = Picture::filled(FRAME.0, FRAME.1, [0; 3]);
        let (mut x, mut turn) = (0, number as usize);
        while x < FRAME.0 {
            let mut y = 0;
            while y < FRAME.1 {
                let tile = &tiles[turn % tiles.len()];
                frame.paste(tile, x, y);
                y += tile.height();
                turn += 1 + number as usize / tiles.len();
            }
            x += tiles[0].width();
        }
        let light = 0.7 + 0.6 * (number as f32 * 0.618).fract();
        let rgb = frame.rgb().iter().map(|&value| (f32::from(value) * light).min(255.0) as u8).collect();
        Picture::from_rgb(FRAME.0, FRAME.1, rgb).to_jpeg(quality).unwrap()
    };
    (0..count).map(frame).collect()
}

fn writes(count: u64, idle: Duration) {
    const FIRST: u64 = 20;
    let parts = Parts::new();
    let config = "[camera]\nsource = \"frames\"\nwatch = true\nfps = 20.0\n\
                  [select]\nrandom_share = 1.0\nleast_difference = 0.0\nper_hour = 1000000\n";
    let board =
        Board::start(parts, &format!("{config}[model]\nbase = {:?}\n", path("models/base.onnx")), None);
    // It says what it gives once it watches.
    wait_until("the folder is watched", || board.state()["camera_gives"].is_string());
    let mut kept = 0;
    let mut show = |jpeg: &Vec<u8>| {
        fs::write(board.path("new.jpg"), jpeg).unwrap();
        fs::rename(board.path("new.jpg"), board.path(&format!("frames/{kept:06}.jpg"))).unwrap();
        kept += 1;
        wait_until("the frame is kept", || {
            sleep(Duration::from_millis(20));
            board.samples() == kept
        });
    };
    frames(FIRST, 90).iter().for_each(&mut show);
    println!("| what | written | aim |\n|---|--:|---|");
    for quality in [85, 40] {
        let frames = frames(count, quality);
        let before = board.written();
        frames.iter().for_each(&mut show);
        let written = (board.written() - before) as f64 / count as f64;
        let payload = frames.iter().map(Vec::len).sum::<usize>() as f64 / count as f64;
        println!(
            "| a kept frame of {:.0} kB | {:.0} kB, {:.2} times the payload | at most 2 times |",
            payload / 1024.0,
            written / 1024.0,
            written / payload
        );
    }

    // The camera goes on, and shows the same again and again: nothing of it is worth keeping but by chance.
    let parts = board.stop();
    let config = "[camera]\nsource = \"frames\"\nrepeat = true\nfps = 1.0\n[select]\nrandom_share = 0.0\n";
    for entry in fs::read_dir(parts.path("frames")).unwrap().skip(1) {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let board =
        Board::start(parts, &format!("{config}[model]\nbase = {:?}\n", path("models/base.onnx")), None);
    // What a start writes is no part of an hour.
    sleep(Duration::from_secs(40));
    let (before, kept) = (board.written(), board.samples());
    sleep(idle);
    let hour = (board.written() - before) as f64 / MB * 3600.0 / idle.as_secs_f64();
    println!("| an idle hour, from {} s | {hour:.2} MB | at most 5 MB |", idle.as_secs());
    let more = board.samples() - kept;
    assert_eq!(more, 0, "that was no idle time: frames were kept");
    board.stop();
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A control group of our own, which limits memory.
struct Group {
    folder: PathBuf,
    is_v2: bool,
}

impl Group {
    /// Makes one; what the kernel says where it can't be.
    fn new(limit_mb: u64) -> Result<Self, std::io::Error> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let parent = if is_v2 { root.to_owned() } else { root.join("memory") };
        if is_v2 {
            fs::write(parent.join("cgroup.subtree_control"), "+memory")?;
        }
        let folder = parent.join(format!("graftd-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let group = Group { folder, is_v2 };
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(group.folder.join(file), (limit_mb << 20).to_string())?;
        // Memory that is swapped out would not be counted.
        let swap =
            if is_v2 { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", limit_mb << 20) };
        if group.folder.join(swap.0).exists() {
            fs::write(group.folder.join(swap.0), swap.1.to_string())?;
        }
        Ok(group)
    }

    /// How often the kernel killed somebody in it.
    fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.map_or(0, |number| number.trim().parse().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty a moment after the last process has ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("{} stays: somebody is in it", self.folder.display());
    }
}

fn memory(time: Duration, base: &Path, side: Option<usize>, limits: [u64; 2]) {
    let frames = frames(120, 85);
    let parts = Parts::new();
    for (number, jpeg) in frames.iter().enumerate() {
        fs::write(parts.path(&format!("frames/{number:06}.jpg")), jpeg).unwrap();
    }
    let base = fs::canonicalize(base).unwrap();
    let side = side.map_or(String::new(), |side| format!("imgsz = {side}\n"));
    let config = format!(
        "[model]\nbase = {base:?}\n{side}[camera]\nsource = \"frames\"\nrepeat = true\nfps = 5.0\n[select]\nrandom_share = 1.0\nper_hour = 200\n[train]\nidle = false\n"
    );
    println!("{} for {} minutes each", base.display(), time.as_secs() / 60);
    println!("| what | limit | resident, most | of these no file's | kills |\n|---|--:|--:|--:|--:|");
    let parts = within(limits[0], "camera, detection, store, MQTT", parts, &config, |board| {
        watch(board, time, |_| {})
    });
    let class = support::classes(&base)[0].clone();
    let parts = within(limits[1], "the same and runs, one after the other", parts, &config, |board| {
        for _ in board.samples()..LABELLED {
            let kept = board.socket.post("/cmd/capture", "{}");
            assert_eq!(kept.status, 200, "{kept:?}");
        }
        label(board, &class);
        let mut runs = 0;
        let most = watch(board, time, |board| {
            if board.state()["run"].is_null() {
                let begun = board.socket.post("/cmd/train", r#"{"epochs": 5}"#);
                // A run that has just begun may not be in the state yet.
                assert!([202, 409].contains(&begun.status), "{begun:?}");
                runs += u32::from(begun.status == 202);
            }
        });
        eprintln!("{runs} runs were begun");
        most
    });
    drop(parts);
}

/// Does something with the daemon in a group of so much memory, or nothing where that is 0. `work` gives the most that
/// was no file's, MB.
fn within(limit: u64, what: &str, parts: Parts, config: &str, work: impl FnOnce(&mut Board) -> f64) -> Parts {
    if limit == 0 {
        return parts;
    }
    let group = Group::new(limit);
    if let Err(error) = &group {
        println!("no control group can be made here ({error}): memory is measured, and not limited");
    }
    let group = group.ok();
    let mut board = Board::start(parts, config, group.as_ref());
    let anon = work(&mut board);
    let [_, most, _] = board.resident();
    let kills = group.as_ref().map_or("not limited".into(), |group| group.kills().to_string());
    println!("| {what} | {limit} MB | {most:.0} MB | {anon:.0} MB | {kills} |");
    board.stop()
}

/// So long, and something at every look; the most that was no file's, MB.
fn watch(board: &mut Board, time: Duration, mut at_each: impl FnMut(&Board)) -> f64 {
    let (start, mut most) = (Instant::now(), 0.0_f64);
    while start.elapsed() < time {
        assert!(board.is_alive(), "the daemon was killed; it had held {most:.0} MB that were no file's");
        let [_, _, anon] = board.resident();
        most = most.max(anon);
        at_each(board);
        sleep(Duration::from_millis(200));
    }
    most
}

/// Labels some samples, a quarter of them held out.
fn label(board: &Board, class: &str) {
    let page = board.socket.get(&format!("/samples?limit={LABELLED}")).json();
    for (number, sample) in page["samples"].as_array().unwrap().iter().enumerate() {
        let boxes = json!([{"class": class, "cx": 0.4, "cy": 0.5, "w": 0.3, "h": 0.3}]);
        let said = json!({"sample": sample["id"], "boxes": boxes, "holdout": number % 4 == 0});
        let answer = board.socket.post("/cmd/label", &said.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
