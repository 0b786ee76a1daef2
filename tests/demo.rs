//! The demo through the real program: with a broker of its own and with mosquitto, and interrupted.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::broker::Mosquitto;
use support::graftd;

#[test]
fn the_demo_gets_better_at_the_trees() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path());
    let out = folder.path().join("out");
    let output = graftd()
        .args(["demo", "--json", "--epochs", "8", "--broker", &broker.url(), "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&outcome["promoted"], &outcome["before"]["boxes"]), (&true.into(), &106.into()));
    let figure = |when: &str| outcome[when]["mAP50"].as_f64().unwrap();
    assert!(figure("after") > figure("before") + 0.05, "{} to {}", figure("before"), figure("after"));
    for key in ["epochs", "seconds", "cpu_seconds", "peak_rss_mb", "reason"] {
        assert!(!outcome[key].is_null(), "{key} is missing");
    }
    let pictures = outcome["pictures"].as_array().unwrap();
    assert_eq!(pictures.len(), 6);
    assert!(pictures.iter().all(|path| std::path::Path::new(path.as_str().unwrap()).is_file()));

    // Nothing stays on a broker that others use.
    let port = broker.port.to_string();
    let retained = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-t", "graftd/#", "-v", "--retained-only", "-W", "2"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&retained.stdout), "");

    // The drop-in is worth what the demo says.
    let eval = graftd()
        .args(["eval", "--json", "--data", "demo/treecrowns/data.yaml", "--model"])
        .arg(out.join("model.onnx"))
        .output()
        .unwrap();
    let eval: Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert!((eval["mAP50"].as_f64().unwrap() - figure("after")).abs() < 1e-6, "{eval}");
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = graftd()
        .args(["demo", "--out"])
        .arg(folder.path().join("out"))
        .env("TMPDIR", folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // With a broker of its own; interrupted in the middle of the run.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("epoch 1/")), "the run begins");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(1), "{:?}", lines.collect::<Vec<_>>());
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["out"]);
    assert_eq!(std::fs::read_dir(folder.path().join("out")).unwrap().count(), 0);
}

#[test]
fn a_broker_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let output = graftd()
        .args(["demo", "--broker", "mqtt://127.0.0.1:1", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.lines().last().unwrap().contains("mqtt://127.0.0.1:1"), "{message}");
}
