//! Arrows point down only: no file uses a room that the list in `src/lib.rs` has above its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom, as `src/lib.rs` lists them. The plain values come last and may be used by all.
const ROOMS: [&str; 21] = [
    "cli", "demo", "daemon", "web", "mqtt", "config", "store", "train", "detect", "select", "dataset",
    "yolo", "grad", "runtime", "onnx", "capture", "label", "picture", "tensor", "files", "pulse",
];

/// Arrows that would point down, and must not be there all the same.
const FORBIDDEN: [(&str, &str); 5] =
    [("store", "train"), ("store", "detect"), ("store", "yolo"), ("yolo", "dataset"), ("select", "dataset")];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    let rank = |room: &str| ROOMS.iter().position(|known| *known == room);
    for path in found {
        let inside = path.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let room = inside.split(['/', '.']).next().unwrap();
        let Some(own) = rank(room) else { continue };
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for used in code.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                let Some(other) = rank(used) else { continue };
                let forbidden = FORBIDDEN.contains(&(room, used));
                assert!(
                    other >= own && !forbidden,
                    "src/{inside}:{}: {room} must not use {used}",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let is_main = path.ends_with("src/main.rs");
        assert!(text.starts_with("//!") || is_main, "{} does not open with //!", path.display());
    }
}
