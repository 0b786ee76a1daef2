//! The program beside a daemon: samples, models, runs, `status` and `watch`, on the device and from afar.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::io::Read;
use std::path::PathBuf;
use std::process::Output;

use graftd::store::{SlotRecord, Store};
use serde_json::{Value, json};
use support::broker::wait_until;
use support::device::Device;
use support::{goldens, graftd};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
    device.start_up();
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
    device.start_up();
    let ids = device.kept(16);
    device.label_each(&ids);
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
    device.start_up();
    assert_eq!(known(&device), runs);
}

#[test]
fn the_page_is_the_same_from_afar() {
    let mut device = Device::new(3, 1, "");
    device.start_up();
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
    device.start_up();
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
    device.start_up();
    models(2);
    watch.kill().unwrap();
    watch.wait().unwrap();
}
