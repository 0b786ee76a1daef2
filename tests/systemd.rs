//! Under a service manager: the unit is right and tight, the daemon says when it is ready, reloads, stops in time,
//! and the watchdog hears from it only while it really goes on.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::broker::{PATIENCE, Watcher};
use support::device::{Device, ROOT, is_online};

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|error| panic!("{program}: {error} (install the package `systemd`)"))
}

/// The unit as it is, but that it starts the program under test.
fn unit(folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(files().join("graftd.service")).unwrap();
    let path = folder.join("graftd.service");
    std::fs::write(&path, text.replace("/usr/bin/graftd", env!("CARGO_BIN_EXE_graftd"))).unwrap();
    path
}

#[test]
fn the_unit_has_nothing_that_systemd_does_not_understand() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(Command::new("systemd-analyze").arg("verify").arg(unit(folder.path())));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Before systemd 253 there was no such type; the line before it is taken then.
    let wrong: Vec<&str> = said.lines().filter(|line| !line.ends_with("notify-reload")).collect();
    assert!(wrong.is_empty() && output.status.success(), "{said}");
    let users = run(Command::new("systemd-sysusers").arg("--dry-run").arg(files().join("sysusers.conf")));
    assert!(users.status.success(), "{}", String::from_utf8_lossy(&users.stderr));
}

#[test]
fn the_unit_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager", "--threshold=15"]).arg(unit(folder.path()));
    let output = run(&mut analyze);
    assert!(output.status.success(), "above 1.5:\n{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Overall exposure level"));
}

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Listens to this device, with a watchdog of so many seconds.
    fn of(device: &mut Device, watchdog: u64) -> Self {
        let path = device.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        device.environment.extend([
            ("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned()),
            ("WATCHDOG_USEC".to_owned(), (watchdog * 1_000_000).to_string()),
        ]);
        Manager { socket }
    }

    /// The next message within this time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message that says this; gives it.
    fn wait(&self, word: &str) -> String {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.hear(PATIENCE) {
                Some(message) if message.contains(word) => return message,
                _ => {}
            }
        }
        panic!("waited in vain for {word}");
    }
}

#[test]
fn it_is_ready_when_the_store_is_open_and_the_broker_was_tried_even_in_vain() {
    let mut device = Device::new(3, 1, "");
    device.broker.down();
    let manager = Manager::of(&mut device, 60);
    device.start();
    let first = manager.wait("READY=1");
    assert!(device.path("state/models/current.onnx").exists(), "{first}");
    assert!(device.log().contains("trying again until it works"), "{}", device.log());
    manager.wait("WATCHDOG=1");
    device.broker.up();
    let watcher = Watcher::start(&device.broker, ROOT);
    watcher.wait("the daemon to be online", is_online);
    // The line that `systemctl status` shows.
    manager.wait("STATUS=slot 0");
    assert_eq!(device.end("-TERM"), Some(0));
    manager.wait("STOPPING=1");
}

#[test]
fn a_loop_that_hangs_starves_the_watchdog() {
    let mut device = Device::new(3, 1, "");
    let limit = 40;
    let manager = Manager::of(&mut device, limit);
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    manager.wait("READY=1");
    manager.wait("WATCHDOG=1");
    manager.wait("WATCHDOG=1");
    // Stops the thread that decides, in the middle of its next call to the kernel, and no other.
    let pid = device.daemon.id();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let is_loop = |name: &str| name.trim() == "daemon";
    let thread = tasks
        .filter(|task| is_loop(&std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()))
        .map(|task| task.file_name().into_string().unwrap())
        .next()
        .expect("a thread of this name");
    let mut strace = Command::new("strace")
        .args(["-o", "/dev/null", "-e", "inject=all:delay_enter=600s", "-p", &thread])
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("strace: {error} (install the package `strace`)"));
    let begun = Instant::now();
    while !device.log().contains("the loop has not gone on") {
        assert!(begun.elapsed() < Duration::from_secs(3 * limit), "{}", device.log());
        manager.hear(Duration::from_secs(1));
    }
    // More than twice the time between two of its messages: nothing comes that would feed the watchdog.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(limit / 4 * 2 + 2) {
        let heard = manager.hear(Duration::from_secs(1));
        assert!(heard.as_deref().is_none_or(|message| !message.contains("WATCHDOG=1")), "{heard:?}");
    }
    strace.kill().unwrap();
    strace.wait().unwrap();
}

#[test]
fn a_new_configuration_is_applied_or_refused_and_the_old_one_kept() {
    let mut device = Device::new(3, 1, "");
    let manager = Manager::of(&mut device, 60);
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    manager.wait("READY=1");
    let reload = |device: &Device| {
        let pid = device.daemon.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let message = manager.wait("RELOADING=1");
        assert!(message.contains("MONOTONIC_USEC="), "{message}");
        manager.wait("READY=1");
    };
    let waits_for = |id: &str| {
        let state = watcher.command(ROOT, "state", id, json!({}));
        state["result"]["waits_for"][0].as_str().unwrap().to_owned()
    };
    assert!(waits_for("s1").contains("a train command"));

    device.configure("when = \"02:00-05:00\"\nnew_labels = 7\n");
    reload(&device);
    assert!(waits_for("s2").contains("7 new labels"));

    // Nothing of a configuration that is wrong is taken, and it is said what is wrong.
    device.configure("when = \"02:00-05:00\"\nnew_labels = 9\nepoch = 3\n");
    reload(&device);
    assert!(waits_for("s3").contains("7 new labels"));
    let state = watcher.command(ROOT, "state", "s4", json!({}));
    let faults = state["result"]["faults"].to_string();
    assert!(faults.contains("epoch") && faults.contains("graftd.toml:"), "{faults}");

    // What needs a restart is said, and the rest is taken.
    device.configure("when = \"02:00-05:00\"\nnew_labels = 8\n[store]\nmax_samples = 77\n");
    reload(&device);
    assert!(waits_for("s5").contains("8 new labels"));
    let state = watcher.command(ROOT, "state", "s6", json!({}));
    let faults = state["result"]["faults"].to_string();
    assert!(faults.contains("store.max_samples") && faults.contains("restart"), "{faults}");
    assert_eq!(device.end("-TERM"), Some(0));
}

#[test]
fn it_stops_within_seconds_with_a_run_going_on_and_everything_sent() {
    let mut device = Device::new(12, 4, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    device.label_all(&watcher);
    let train = json!({"status": "init", "epochs": 100_000, "patience": 0});
    watcher.publish(&format!("{ROOT}/cmd/train/long"), train.to_string());
    watcher.wait("an epoch", |_, value| value["event"] == "epoch");
    let begun = Instant::now();
    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());
    // The promise is five; the machine may be busy with other tests.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    watcher.wait("offline", |topic, value| topic == format!("{ROOT}/status") && value == "offline");
    // Nothing waits that the broker could have had.
    let store = graftd::store::Store::open(&device.path("state")).unwrap();
    assert_eq!(store.outbox().len(), 0);
    assert!(device.path("state/features").read_dir().unwrap().count() > 0);
}
