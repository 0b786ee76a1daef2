//! The API: a real daemon, real HTTP over its socket and its port.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use support::api::Answer;
use support::broker::{Watcher, wait_until};
use support::device::{Device, ROOT};

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().cloned().collect()
}

#[test]
fn everything_that_can_be_read_is_read_over_the_socket() {
    let mut device = Device::new(6, 2, "");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start_up();
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
    device.label_each(&ids[..4]);
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
    device.start_up();
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
    device.start_up();
    wait_until("it is seen", || device.socket.get("/health").status == 503);
    let answer = device.socket.get("/health");
    assert!(answer.error().contains("no frame is kept"), "{answer:?}");
    let page = device.printed(&["status"]);
    assert!(page.lines().any(|line| line.starts_with("faults    no frame is kept")), "{page}");
}

#[test]
fn a_stalled_client_holds_nobody_up_and_is_let_go() {
    let mut device = Device::new(1, 1, "");
    device.start_up();
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
    device.start_up();
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
    device.start_up();
    device.daemon.end("-KILL");
    assert!(device.socket.0.exists() && !device.socket.is_there());
    let page = device.printed(&["status"]);
    assert!(page.starts_with("test: the daemon does not run"), "{page}");
    device.start_up();
    assert_eq!(device.socket.get("/health").status, 200);
}
