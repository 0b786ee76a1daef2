//! A run that is killed goes on where it stood, and ends with the same model as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use support::{classes, drawn, goldens, graftd};

/// Kills, unless `GRAFTD_KILLS` says another number.
const KILLS: usize = 50;

fn command(base: &Path, data: &Path, out: &Path, cache: &Path) -> Command {
    let mut command = graftd();
    command.arg("train").arg("--base").arg(base).arg("--data").arg(data).arg("--out").arg(out);
    command.args(["--json", "--force", "--views", "3", "--patience", "0"]);
    command.args(["--threads", "1", "--batch", "4"]).arg("--cache").arg(cache);
    command
}

fn data_for(base: &Path, folder: &Path, train: usize, val: usize) -> PathBuf {
    let classes = classes(base);
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    drawn::data_set(folder, &classes, train, val, 160)
}

fn events(child: &mut Child) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap())
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let base = goldens("exports").join("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 14, 4);
    let kills = std::env::var("GRAFTD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let epochs = (kills * 3 / 2).max(12);
    let command = |out: &Path, cache: &Path| {
        let mut command = command(&base, &data, out, cache);
        command.args(["--epochs", &epochs.to_string()]);
        command
    };
    let (undisturbed, out) = (folder.path().join("undisturbed.onnx"), folder.path().join("out.onnx"));
    let status = command(&undisturbed, &folder.path().join("a")).stdout(Stdio::null()).status();
    assert!(matches!(status.unwrap().code(), Some(0 | 3)));

    let mut random = ChaCha8Rng::seed_from_u64(4);
    let cache = folder.path().join("b");
    let (mut resumed, mut done) = (0, 0);
    for kill in 0..kills {
        let mut child = command(&out, &cache).stdout(Stdio::piped()).spawn().unwrap();
        // The moment: after so many epochs more, or while features are made, and then a little. As many
        // epochs as there are would be done before the last kill, so a run that is far gets none.
        let far = done as usize > 1 + (epochs - 2) * kill / kills;
        let more = if far || random.random_bool(0.2) { 0 } else { random.random_range(1..3) };
        let (least, pause) = (random.random_range(0..7), random.random_range(0..40));
        let (mut new, mut seen) = (0, 0);
        for event in events(&mut child) {
            match event["event"].as_str() {
                Some("resumed") => {
                    resumed += 1;
                    let epoch = event["epoch"].as_u64().unwrap();
                    assert!(epoch >= done, "{done} epochs were told, it goes on after {epoch}");
                }
                Some("epoch") => {
                    done = event["epoch"].as_u64().unwrap();
                    new += 1;
                }
                Some("not_resumed") => panic!("{event}"),
                _ => {}
            }
            seen += 1;
            if new >= more && (new > 0 || seen > least) {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(resumed >= kills / 3, "only {resumed} of {kills} runs went on");
    let status = command(&out, &cache).stdout(Stdio::null()).status().unwrap();
    assert!(matches!(status.code(), Some(0 | 3)));
    let read = |path: &Path| std::fs::read(path).unwrap();
    assert!(read(&undisturbed) == read(&out), "the interrupted run ended with another model");
    println!("{kills} kills, {resumed} times resumed");
}

#[test]
fn a_checkpoint_of_another_run_is_not_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let base = goldens("exports").join("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 6, 2);
    let (out, cache) = (folder.path().join("out.onnx"), folder.path().join("cache"));
    let mut child =
        command(&base, &data, &out, &cache).args(["--epochs", "12"]).stdout(Stdio::piped()).spawn().unwrap();
    events(&mut child).find(|event| event["event"] == "epoch").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // As a kill within the writing of a checkpoint leaves it.
    let left = cache.join(".new-a1b2c3");
    std::fs::copy(cache.join("run.checkpoint"), &left).unwrap();
    let output =
        command(&base, &data, &out, &cache).args(["--epochs", "12", "--seed", "9"]).output().unwrap();
    assert!(!left.exists(), "what the killed run left is still there");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().find(|line| line.contains("not_resumed")).unwrap();
    assert!(told.contains("another run"), "{told}");
    let first = text.lines().find(|line| line.contains("\"epoch\",")).unwrap();
    assert!(first.contains("\"epoch\":1,"), "{first}");
    // The end takes the checkpoint away.
    assert!(!cache.join("run.checkpoint").exists());
}

#[test]
fn a_run_whose_loss_explodes_is_rolled_back_once_and_then_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = goldens("exports").join("yolo11n.onnx");
    let data = data_for(&base, folder.path(), 6, 2);
    let (out, cache) = (folder.path().join("out.onnx"), folder.path().join("cache"));
    let output = command(&base, &data, &out, &cache).args(["--lr", "1e30"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("rolled_back").count(), 1, "{text}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("smaller learning rate") && stderr.contains("5e29"), "{stderr}");
    assert!(!out.exists() && !cache.join("run.checkpoint").exists());
}
