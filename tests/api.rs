//! The API and what speaks through it: a real daemon, real HTTP over its socket, the real program.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use graftd::store::{SlotRecord, Store};
use serde_json::{Value, json};
use support::api::{Answer, Socket};
use support::broker::{Mosquitto, Watcher, wait_until};
use support::service::Service;
use support::{drawn, goldens, graftd};

const ROOT: &str = "graftd/test";

/// A device with drawn pictures before its camera, and a broker.
struct Device {
    // Dropped first: it writes into the folder.
    daemon: Service,
    broker: Mosquitto,
    socket: Socket,
    folder: tempfile::TempDir,
}

impl Device {
    fn new(pictures: usize, holdout: usize, extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path());
        let daemon = Service::new(folder.path());
        daemon.configure(&format!("broker = {:?}", broker.url()), extra);
        let names = ["crown", "weed", "pallet"];
        drawn::data_set(&folder.path().join("data"), &names, pictures, holdout, 160);
        for split in ["train", "val"] {
            for picture in std::fs::read_dir(folder.path().join("data/images").join(split)).unwrap() {
                let picture = picture.unwrap();
                let name = format!("{split}-{}", picture.file_name().to_string_lossy());
                std::fs::copy(picture.path(), folder.path().join("frames").join(name)).unwrap();
            }
        }
        Device { daemon, broker, socket: Socket::of(folder.path()), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the daemon and waits until it answers.
    fn start(&mut self) {
        self.daemon.start();
        wait_until("the socket answers", || self.socket.is_there());
    }

    /// Waits until so many frames are kept; their ids.
    fn kept(&self, count: usize) -> Vec<String> {
        let mut listed = Vec::new();
        wait_until("the frames are kept", || {
            // There may be no room for one more client at the moment.
            let answer = self.socket.get("/samples?limit=1000").json();
            listed = answer["samples"].as_array().cloned().unwrap_or_default();
            listed.len() == count
        });
        listed.iter().map(|sample| sample["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Labels every sample: a quarter of them, at least one, is held out.
    fn label_all(&self, samples: &[String]) {
        for (index, sample) in samples.iter().enumerate() {
            let boxes = json!([{"class": "weed", "cx": 0.5, "cy": 0.5, "w": 0.3, "h": 0.3}]);
            let said = json!({"sample": sample, "boxes": boxes, "holdout": index % 4 == 0});
            let answer = self.socket.post("/cmd/label", &said.to_string());
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        graftd().args(arguments).arg("--config").arg(self.path("graftd.toml")).output().unwrap()
    }

    /// What the program prints; it must succeed.
    fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().cloned().collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn everything_that_can_be_read_is_read_over_the_socket() {
    let mut device = Device::new(6, 2, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let socket = &device.socket;
    let mode = std::fs::metadata(&socket.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let ids = device.kept(8);

    let index = socket.get("/").json();
    assert!(index["GET /metrics"].is_string(), "{index}");
    assert_eq!(socket.get("/health").status, 200);
    // The same keys as at the broker, and the same values where these stay.
    let (_, retained) = watcher.wait("the state", |topic, _| topic == format!("{ROOT}/state"));
    let state = socket.get("/state").json();
    assert_eq!(keys(&state), keys(&retained));
    assert_eq!((&state["samples"], &state["slot"]), (&json!(8), &json!(0)));
    let newcomer = Watcher::start(&device.broker, ROOT);
    let (_, model) = newcomer.wait("the model", |topic, _| topic == format!("{ROOT}/model"));
    assert_eq!(socket.get("/model").json(), model);
    let models = socket.get("/models").json();
    assert_eq!((models.as_array().unwrap().len(), &models[0]["current"]), (1, &json!(true)));

    // Page by page, and by what they are.
    let first = socket.get("/samples?limit=3").json();
    assert_eq!(first["samples"].as_array().unwrap().len(), 3);
    assert_eq!(first["after"], ids[2].as_str());
    let second = socket.get(&format!("/samples?limit=5&after={}", ids[2])).json();
    assert_eq!((&second["samples"][0]["id"], &second["after"]), (&json!(ids[3]), &Value::Null));
    device.label_all(&ids[..4]);
    for (state, count) in [("unlabelled", 4), ("labelled", 3), ("holdout", 1)] {
        let page = socket.get(&format!("/samples?state={state}")).json();
        assert_eq!(page["samples"].as_array().unwrap().len(), count, "{state}");
    }
    let sample = socket.get(&format!("/samples/{}", ids[0])).json();
    assert_eq!(sample["labels"]["boxes"][0]["class"], 1);
    let frame = socket.get(&format!("/samples/{}/frame.jpg", ids[0]));
    let file = device.path("frames").join(sample["source"].as_str().unwrap());
    assert_eq!(frame.body, std::fs::read(file).unwrap());
    assert!(frame.head.contains("Content-Type: image/"), "{}", frame.head);
    assert_eq!(socket.get("/runs").json(), json!([]));

    wait_until("the folder is at its end", || socket.get("/state").json()["camera"] == "off");
    let metrics = String::from_utf8(socket.get("/metrics").body).unwrap();
    for line in [
        "# TYPE graftd_frames_total counter",
        "graftd_frames_total 8",
        "graftd_bad_frames_total 0",
        "graftd_kept_frames_total 8",
        "graftd_labels_total 4",
        "graftd_samples{state=\"unlabelled\"} 4",
        "graftd_camera_up 0",
        "graftd_run_in_progress 0",
        "graftd_model_slot 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    for name in ["graftd_outbox_messages", "graftd_disk_free_bytes", "process_resident_memory_bytes"] {
        assert!(metrics.contains(&format!("\n{name} ")), "{name} in\n{metrics}");
    }
    assert_eq!(device.daemon.end("-TERM"), Some(0));
    assert!(!device.socket.0.exists());
}

#[test]
fn what_cant_be_done_is_answered_with_a_reason() {
    let mut device = Device::new(1, 1, "");
    device.start();
    let id = &device.kept(2)[0];
    let none = "019aa0c4-7d1e-7c3a-9f00-3b6f0e4d2a11";
    for (path, status, word) in [
        ("/nothing", 404, "GET /"),
        ("/samples/7", 404, "sample id"),
        (&format!("/samples/{none}"), 404, "no sample"),
        (&format!("/samples/{none}/frame.jpg"), 404, "no sample"),
        (&format!("/samples/{id}/..%2F..%2Fgraftd.toml"), 404, "GET /"),
        ("/samples?limit=0", 400, "limit"),
        ("/samples?limit=1e9", 400, "limit"),
        ("/samples?state=lost", 400, "unlabelled"),
        ("/samples?after=x", 400, "sample id"),
        ("/samples?first=1", 400, "state, limit, after"),
        ("/cmd/state", 405, "POST"),
    ] {
        let answer = device.socket.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.error().contains(word), "{path}: {answer:?}");
    }
    let unlabelled =
        json!({"sample": id, "boxes": [{"class": "cow", "cx": 0.5, "cy": 0.5, "w": 0.2, "h": 0.2}]});
    for (path, body, status, word) in [
        ("/state", "{}", 405, "GET"),
        ("/cmd/fly", "{}", 404, "label"),
        ("/cmd/train", "{", 400, "JSON"),
        ("/cmd/train", r#"{"epoch": 3}"#, 400, "epoch"),
        ("/cmd/label", &unlabelled.to_string(), 409, "cow"),
        ("/cmd/train", "{}", 409, "label more"),
        ("/cmd/promote", r#"{"slot": 7}"#, 409, "no slot 7"),
        ("/cmd/rollback", "", 409, "nothing before"),
        ("/cmd/cancel", "{}", 409, "nothing to cancel"),
    ] {
        let answer = device.socket.post(path, body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert!(answer.error().contains(word), "{path} {body}: {answer:?}");
    }
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000)), 431),
        ("POST /cmd/state HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_owned(), 413),
    ] {
        let answer = device.socket.send(request.as_bytes());
        assert_eq!((answer.status, answer.error().is_empty()), (status, false));
    }
    assert_eq!(device.socket.post("/cmd/state", "").status, 200);
}

#[test]
fn a_device_without_room_is_not_healthy() {
    let mut device = Device::new(1, 1, "[store]\nmin_free_mb = 999999999\n");
    device.start();
    wait_until("it is seen", || device.socket.get("/health").status == 503);
    let answer = device.socket.get("/health");
    assert!(answer.error().contains("no frame is kept"), "{answer:?}");
    let page = device.printed(&["status"]);
    assert!(page.lines().any(|line| line.starts_with("faults    no frame is kept")), "{page}");
}

#[test]
fn a_stalled_client_holds_nobody_up_and_is_let_go() {
    let mut device = Device::new(1, 1, "");
    device.start();
    // All the room there is, taken by clients that never come to an end; one sends a byte now and then.
    let mut stalled: Vec<_> = (0..16).map(|_| device.socket.connect()).collect();
    for client in &mut stalled {
        client.write_all(b"GET /state HTT").unwrap();
    }
    wait_until("the room is taken", || {
        // It may be let in, or turned away before it has said anything.
        device.socket.get("/state").status == 503
    });
    // One of them is enough.
    drop(stalled.pop());
    wait_until("there is room", || device.socket.get("/state").status == 200);
    // The rest is turned away after a while, and the daemon works all the time.
    let answer = Answer::read(&mut stalled[0]);
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_eq!(device.socket.get("/state").status, 200);
    device.kept(2);
}

#[test]
fn a_port_is_open_to_those_with_the_token() {
    let mut device = Device::new(1, 1, "[api]\nlisten = \"127.0.0.1:0\"\n");
    let refused = device.run(&["run"]);
    assert_eq!(refused.status.code(), Some(2));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("api.token_file"), "{words}");

    let configured = |listen: &str| format!("[api]\nlisten = \"{listen}\"\ntoken_file = \"token\"\n");
    let broker = format!("broker = {:?}", device.broker.url());
    device.daemon.configure(&broker, &configured("127.0.0.1:0"));
    std::fs::write(device.path("token"), "short\n").unwrap();
    let refused = device.run(&["run"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(words.contains("16 characters"), "{words}");

    std::fs::write(device.path("token"), "0123456789abcdef\n").unwrap();
    device.start();
    let told = || device.daemon.log().split("the API listens on ").nth(1).map(str::to_owned);
    wait_until("the port is open", || told().is_some());
    let address = told().unwrap().split_whitespace().next().unwrap().to_owned();
    let get = |header: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(format!("GET /state HTTP/1.1\r\nHost: x\r\n{header}\r\n").as_bytes()).unwrap();
        Answer::read(&mut stream)
    };
    for wrong in
        ["", "Authorization: Bearer 0123456789abcdeX\r\n", "Authorization: Basic 0123456789abcdef\r\n"]
    {
        let answer = get(wrong);
        assert_eq!(answer.status, 401, "{wrong:?}");
        assert!(answer.head.contains("WWW-Authenticate: Bearer") && !answer.error().is_empty());
    }
    let answer = get("Authorization: Bearer 0123456789abcdef\r\n");
    assert_eq!((answer.status, &answer.json()["slot"]), (200, &json!(0)));
    assert!(!device.daemon.log().contains("0123456789abcdef"));
    // The socket needs none.
    assert_eq!(device.socket.get("/state").status, 200);
}

#[test]
fn what_a_killed_daemon_left_is_replaced() {
    let mut device = Device::new(1, 1, "");
    device.start();
    device.daemon.end("-KILL");
    assert!(device.socket.0.exists() && !device.socket.is_there());
    let page = device.printed(&["status"]);
    assert!(page.starts_with("test: the daemon does not run"), "{page}");
    device.start();
    assert_eq!(device.socket.get("/health").status, 200);
}

#[test]
fn samples_and_models_go_through_a_running_daemon() {
    let mut device = Device::new(5, 1, "");
    // A device that has promoted a model before.
    let base = std::fs::read(goldens("exports").join("yolo12n.onnx")).unwrap();
    {
        let store = Store::open(&device.path("state")).unwrap();
        let record = SlotRecord {
            classes: vec!["crown".into(), "weed".into(), "pallet".into()],
            ..Default::default()
        };
        store.models().promote(&base, record.clone()).unwrap();
        store.models().promote(&base, record).unwrap();
    }
    device.start();
    let mut events = device.socket.events();
    let ids = device.kept(6);
    let current = || std::fs::read_link(device.path("state/models/current.onnx")).unwrap();

    let listed = lines(&device.printed(&["models", "list", "--json"]));
    assert_eq!((listed.len(), &listed[1]["current"]), (2, &json!(true)));
    let back = lines(&device.printed(&["models", "rollback", "--json"]));
    assert_eq!((&back[0]["slot"], &back[0]["current"]), (&json!(0), &json!(true)));
    assert!(current().starts_with("0000"));
    // The daemon knows at once, and tells.
    assert_eq!(device.socket.get("/state").json()["slot"], 0);
    events.wait("the model in slot 0", |topic, payload| topic == "model" && payload["slot"] == 0);
    let again = device.run(&["models", "rollback"]);
    assert_eq!(again.status.code(), Some(3), "{}", String::from_utf8_lossy(&again.stderr));
    let promoted = lines(&device.printed(&["models", "promote", "1", "--json"]));
    assert_eq!(promoted[0]["slot"], 1);
    assert!(current().starts_with("0001"));
    let wrong = device.run(&["models", "promote", "7"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no slot 7"));

    let samples = lines(&device.printed(&["samples", "list", "--json"]));
    assert_eq!(samples.iter().map(|sample| sample["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    assert!(PathBuf::from(samples[0]["path"].as_str().unwrap()).exists());
    let said = ["samples", "label", &ids[0], "--box", "weed,0.5,0.5,0.2,0.2", "--holdout", "false", "--json"];
    let labelled = lines(&device.printed(&said));
    assert_eq!(labelled[0]["labels"]["boxes"][0]["class"], 1);
    assert_eq!(device.socket.get("/state").json()["labelled"], 1);
    let learn = lines(&device.printed(&["samples", "list", "--only", "learn", "--json"]));
    assert_eq!(learn, labelled);
    let shown: Value = serde_json::from_str(&device.printed(&["samples", "show", &ids[0]])).unwrap();
    assert_eq!(shown, labelled[0]);
    let wrong = device.run(&["samples", "label", &ids[0], "--box", "cow,0.5,0.5,0.2,0.2"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("cow"));

    // The rest says why not, and what to do.
    let pid = device.daemon.id().to_string();
    for command in [&["samples", "delete", &ids[0]][..], &["samples", "rebuild"], &["export", "/nowhere"]] {
        let refused = device.run(command);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{command:?}: {words}");
        assert!(words.contains(&format!("process {pid}")) && words.contains("systemctl stop"), "{words}");
    }

    // The same words of a stopped daemon's store.
    assert_eq!(device.daemon.end("-TERM"), Some(0));
    assert_eq!(lines(&device.printed(&["samples", "list", "--only", "learn", "--json"])), labelled);
    let back = lines(&device.printed(&["models", "rollback", "--json"]));
    assert_eq!(back[0]["slot"], 0);
}

#[test]
fn a_run_is_followed_and_remembered() {
    let mut device = Device::new(12, 4, "");
    device.start();
    let ids = device.kept(16);
    device.label_all(&ids);
    let mut events = device.socket.events();
    let mut watch = graftd();
    watch.args(["watch", "--json", "--count", "8", "--config"]).arg(device.path("graftd.toml"));
    let watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();

    let begun = device.socket.post("/cmd/train", r#"{"epochs": 100000, "patience": 0}"#);
    assert_eq!(begun.status, 202, "{begun:?}");
    let first = begun.json()["run"].as_str().unwrap().to_owned();
    let of_run = format!("event/run/{first}");
    events.wait("an epoch", |topic, payload| topic == of_run && payload["event"] == "epoch");
    // The state tells how far it is, and so does the page.
    let progress = || device.socket.get("/state").json()["progress"].clone();
    wait_until("the state tells of epochs", || progress()["stage"] == "epochs");
    assert_eq!(progress()["total"], 100_000);
    let page = device.printed(&["status"]);
    assert!(page.lines().any(|line| line.starts_with("run       ") && line.contains("of 100000")), "{page}");
    let metrics = String::from_utf8(device.socket.get("/metrics").body).unwrap();
    assert!(metrics.contains("\ngraftd_run_in_progress 1\n"), "{metrics}");
    assert!(metrics.contains("\ngraftd_run_epochs 100000\n"), "{metrics}");
    let second = device.socket.post("/cmd/train", "{}");
    assert!(second.status == 409 && second.error().contains(&first), "{second:?}");
    let watched = watch.wait_with_output().unwrap();
    assert!(watched.status.success());
    let watched = lines(&String::from_utf8(watched.stdout).unwrap());
    assert_eq!(watched.len(), 8);
    assert_eq!((&watched[0]["topic"], &watched[1]["topic"]), (&json!("state"), &json!("model")));
    assert!(watched.iter().any(|event| event["topic"] == of_run.as_str()), "{watched:?}");
    assert_eq!(device.socket.post("/cmd/cancel", "{}").json()["run"], first.as_str());
    events.wait("the end", |topic, payload| topic == of_run && payload["event"] == "failed");

    let begun = device.socket.post("/cmd/train", r#"{"epochs": 2}"#).json();
    let second = begun["run"].as_str().unwrap().to_owned();
    let end = events.wait("the end", |topic, payload| {
        let ended = matches!(payload["event"].as_str(), Some("finished" | "refused" | "failed"));
        topic == format!("event/run/{second}") && ended
    });
    assert_ne!(end["event"], "failed", "{end}");

    let known = |device: &Device| device.socket.get("/runs").json();
    let runs = known(&device);
    assert_eq!(runs.as_array().unwrap().len(), 2, "{runs}");
    assert_eq!((&runs[0]["run"], &runs[0]["event"]), (&json!(first), &json!("failed")));
    assert!(runs[0]["reason"].as_str().unwrap().contains("cancelled"), "{runs}");
    assert_eq!((&runs[1]["run"], &runs[1]["event"]), (&json!(second), &end["event"]));
    assert_eq!((&runs[1]["samples"], &runs[1]["holdout"]), (&json!(12), &json!(4)));
    for when in ["before", "after"] {
        assert_eq!(runs[1][when]["mAP50_95"], end[when]["mAP50_95"]);
    }
    assert_eq!((&runs[1]["slot"], &runs[1]["reason"]), (&end["slot"], &end["reason"]));
    assert_eq!(lines(&device.printed(&["runs", "--json"])), *runs.as_array().unwrap());

    // Across restarts, with a daemon and without.
    device.daemon.end("-KILL");
    let svg = device.path("runs.svg");
    let table = device.printed(&["runs", "--svg", svg.to_str().unwrap()]);
    assert!(table.lines().count() == 3 && table.contains("  failed  "), "{table}");
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg ") && svg.matches("<circle").count() == 1, "{svg}");
    device.start();
    assert_eq!(known(&device), runs);
}

#[test]
fn the_page_is_the_same_from_afar() {
    let mut device = Device::new(3, 1, "");
    device.start();
    device.kept(4);
    let url = device.broker.url();
    let afar = |what: &str, more: &[&str]| {
        let mut command = graftd();
        command.args([what, "--broker", &url, "--device", "test"]).args(more);
        command.output().unwrap()
    };
    let page = |output: Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Retained, the state may be a second behind; the first line tells since when the daemon runs, the
    // room on the disk changes by itself.
    let steady = |page: &str| -> Vec<String> {
        let lines = page.lines().skip(1).filter(|line| !line.starts_with("machine"));
        lines.map(|line| line.split(" (").next().unwrap().to_owned()).collect()
    };
    wait_until("both pages are the same", || {
        steady(&page(afar("status", &[]))) == steady(&device.printed(&["status"]))
    });
    let here = device.printed(&["status"]);
    assert!(here.starts_with("test: online, graftd "), "{here}");
    assert!(here.contains("samples   4 kept: 0 to learn from, 0 held out, 4 wait for labels"), "{here}");
    assert!(here.contains("faults    none"), "{here}");
    let json: Value = serde_json::from_str(&page(afar("status", &["--json"]))).unwrap();
    assert_eq!((&json["online"], &json["state"]["samples"]), (&json!(true), &json!(4)));
    assert_eq!(json["model"], device.socket.get("/model").json());

    let watched = page(afar("watch", &["--count", "3"]));
    for word in ["status    online", "state     slot 0, 4 samples", "model     slot 0"] {
        assert!(watched.lines().any(|line| line.starts_with(word)), "{word} in {watched}");
    }
    device.daemon.end("-TERM");
    let offline = page(afar("status", &[]));
    assert!(offline.starts_with("test: offline; what was known last:"), "{offline}");
    assert!(offline.contains("samples   4 kept"), "{offline}");
    // What its store says, here.
    let here = device.printed(&["status"]);
    assert!(here.starts_with("test: the daemon does not run") && here.contains("samples   4 kept"), "{here}");

    let mut stranger = graftd();
    let stranger = stranger.args(["status", "--broker", &url, "--device", "nobody"]).output().unwrap();
    assert_eq!(stranger.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("nothing of a device \"nobody\""));
    device.broker.down();
    let gone = afar("status", &[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("is it running"));
}

#[test]
fn a_watcher_outlives_the_daemon() {
    let mut device = Device::new(1, 1, "");
    device.start();
    device.kept(2);
    let mut watch = graftd();
    watch.args(["watch", "--json", "--config"]).arg(device.path("graftd.toml"));
    let mut watch =
        watch.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut stdout = watch.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut models = |wanted: usize| {
        let mut chunk = [0; 4096];
        while String::from_utf8_lossy(&seen).matches(r#""topic":"model""#).count() < wanted {
            let read = stdout.read(&mut chunk).unwrap();
            assert_ne!(read, 0, "the watcher has ended");
            seen.extend_from_slice(&chunk[..read]);
        }
    };
    models(1);
    assert_eq!(device.daemon.end("-TERM"), Some(0));
    device.start();
    models(2);
    watch.kill().unwrap();
    watch.wait().unwrap();
}
