//! What a run costs as samples grow: CPU per sample and epoch, memory, disk; and what new samples cost a
//! second run.
//!
//! ```sh
//! cargo bench --bench linear                     # 100, 1,000 and 10,000 drawn samples
//! cargo bench --bench linear -- 200 400          # other numbers
//! ```
//!
//! The model is a small YOLO11 of random weights at 160 px: what is asked here is how costs grow, not how
//! well it learns. Each run is a process of its own.

#[path = "../tests/support/drawn.rs"]
#[allow(clippy::unwrap_used, missing_docs, reason = "shared with the tests")]
mod drawn;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

const BASE: &str = "tests/data/goldens/exports/yolo11n.onnx";
const HOLDOUT: usize = 20;

fn main() -> Result<()> {
    let counts: Vec<usize> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(|argument| argument.parse().with_context(|| format!("{argument} is no number of samples")))
        .collect::<Result<_>>()?;
    let counts = if counts.is_empty() { vec![100, 1_000, 10_000] } else { counts };
    println!(
        "| samples | backbone, CPU ms a sample | epoch, CPU ms a sample | memory MB | features MB | again with a tenth more, CPU s | of it features |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for count in counts {
        let folder = tempfile::tempdir()?;
        let (data, more) = (folder.path().join("data"), folder.path().join("more"));
        let export = graftd::yolo::export::Export::read(Path::new(BASE))?;
        let classes: Vec<&str> = export.classes.iter().map(String::as_str).collect();
        let more_yaml = drawn::data_set(&more, &classes, count + count / 10, HOLDOUT, 160);
        let yaml = first(&more, &more_yaml, &data, count)?;
        let cache = folder.path().join("cache");
        let one = run(&yaml, &cache, folder.path(), 1)?;
        let size = std::fs::read_dir(&cache)?
            .flatten()
            .filter_map(|entry| entry.path().join("features.f16").metadata().ok())
            .map(|file| file.len())
            .sum::<u64>();
        // The second run finds its features in the cache.
        let two = run(&yaml, &cache, folder.path(), 3)?;
        let again = run(&yaml, &cache, folder.path(), 1)?;
        let added = run(&more_yaml, &cache, folder.path(), 1)?;
        let each = 1000.0 / count as f64;
        println!(
            "| {count} | {:.2} | {:.2} | {:.0} | {} | {:.1} | {:.1} |",
            (one.cpu - again.cpu) * each,
            (two.cpu - again.cpu) * each / 2.0,
            two.memory.max(one.memory),
            size >> 20,
            added.cpu,
            (one.cpu - again.cpu) / 10.0,
        );
    }
    Ok(())
}

/// A data set of the first `count` samples of another.
fn first(from: &Path, yaml: &Path, to: &Path, count: usize) -> Result<PathBuf> {
    std::fs::create_dir_all(to)?;
    let list = |split: &str, count: usize| -> Result<()> {
        let lines: String = (0..count)
            .map(|i| format!("{}\n", from.join(format!("images/{split}/{i:03}.png")).display()))
            .collect();
        Ok(std::fs::write(to.join(format!("{split}.txt")), lines)?)
    };
    list("train", count)?;
    list("val", HOLDOUT)?;
    let text = std::fs::read_to_string(yaml)?
        .replace("train: images/train", "train: train.txt")
        .replace("val: images/val", "val: val.txt");
    let yaml = to.join("data.yaml");
    std::fs::write(&yaml, text)?;
    Ok(yaml)
}

struct Cost {
    cpu: f64,
    memory: f64,
}

fn run(data: &Path, cache: &Path, folder: &Path, epochs: u32) -> Result<Cost> {
    let output = Command::new(env!("CARGO_BIN_EXE_graftd"))
        .args(["train", "--json", "--force", "--scope", "head", "--views", "1", "--patience", "0"])
        .args(["--epochs", &epochs.to_string(), "--base", BASE, "--data"])
        .arg(data)
        .arg("--cache")
        .arg(cache)
        .arg("--out")
        .arg(folder.join("out.onnx"))
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(text.lines().last().context("the run said nothing")?)?;
    let figure = |key: &str| last[key].as_f64().with_context(|| format!("no {key} in {last}"));
    Ok(Cost { cpu: figure("cpu_seconds")?, memory: figure("peak_rss_mb")? })
}
