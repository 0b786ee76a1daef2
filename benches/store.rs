//! What the store costs as it grows: samples and labels a second, opening, memory, room on the disk.
//!
//! ```sh
//! cargo bench --bench store                        # 1,000, 10,000 and 100,000 samples in the temporary folder
//! cargo bench --bench store -- /var/tmp 1000 5000  # elsewhere, other numbers
//! ```
//!
//! A frame here is 20 kB of noise: what is asked is how costs grow. Rates are taken over the last samples
//! before each number; each opening is a process of its own, with its own memory. Where the temporary folder
//! lies in memory, syncing costs nothing: name one on the disk in question.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use graftd::label::{LabelBox, Provenance};
use graftd::store::{FoundBox, Interest, Limits, NewLabels, NewSample, SampleId, Store};
use graftd::train::peak_rss_mb;

/// Samples that a rate is taken over.
const LAST: u64 = 200;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [one, dir] = &arguments[..]
        && one == "--open"
    {
        return open(Path::new(dir));
    }
    let (folder, numbers) = match arguments.split_first() {
        Some((first, rest)) if first.parse::<u64>().is_err() => (PathBuf::from(first), rest),
        _ => (std::env::temp_dir(), &arguments[..]),
    };
    let mut numbers: Vec<u64> =
        numbers.iter().map(|text| text.parse().context("a number of samples")).collect::<Result<_>>()?;
    if numbers.is_empty() {
        numbers = vec![1000, 10_000, 100_000];
    }
    let dir = tempfile::tempdir_in(folder)?;
    println!(
        "| samples | samples/s | labels/s | open, ms | of a killed one, ms | memory, MB | database, MB |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    let mut count = 0;
    for number in numbers {
        let [samples, labels] = fill(dir.path(), &mut count, number)?;
        let [opened, memory] = open_apart(dir.path())?;
        // As after a kill in the middle of a change: everything is compared.
        std::fs::remove_file(dir.path().join("changes"))?;
        let [compared, _] = open_apart(dir.path())?;
        let database = size_of(&dir.path().join("store"))? as f64 / 1e6;
        println!(
            "| {number} | {samples:.0} | {labels:.0} | {opened:.1} | {compared:.0} | {memory:.0} | {database:.0} |"
        );
    }
    Ok(())
}

fn limits() -> Limits {
    Limits { max_mb: u64::MAX >> 20, max_samples: u64::MAX, ..Limits::default() }
}

/// Adds samples up to a number; a quarter of them is labelled. Gives samples and labels a second.
fn fill(dir: &Path, count: &mut u64, number: u64) -> Result<[f64; 2]> {
    let store = Store::open_within(dir, &limits())?;
    let samples = store.samples();
    let add = |index: u64| -> Result<SampleId> {
        let mut frame = Vec::with_capacity(20_000);
        frame.extend(b"\xff\xd8");
        let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        while frame.len() < 20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            frame.extend(state.to_le_bytes());
        }
        let label = LabelBox { class: 0, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
        let new = NewSample {
            width: 640,
            height: 480,
            taken: SystemTime::now(),
            source: "camera".into(),
            why: "unsure: a box has confidence 0.41".into(),
            interest: Interest::Notable,
            found: vec![FoundBox { label, score: 0.4 }; 5],
        };
        Ok(samples.add(&frame, new)?.id)
    };
    let label = |id: SampleId| -> Result<()> {
        let boxes = vec![LabelBox { class: 0, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 }; 5];
        let new = NewLabels { boxes, covers: None, provenance: Provenance::Human, holdout: None };
        samples.label(id, new, 0.2)?;
        Ok(())
    };
    while *count < number.saturating_sub(LAST) {
        let id = add(*count)?;
        if count.is_multiple_of(4) {
            label(id)?;
        }
        *count += 1;
    }
    let start = Instant::now();
    let mut last = Vec::new();
    while *count < number {
        last.push(add(*count)?);
        *count += 1;
    }
    let added = last.len() as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    last.iter().try_for_each(|&id| label(id))?;
    Ok([added, last.len() as f64 / start.elapsed().as_secs_f64()])
}

/// Opens the store in a process of its own: milliseconds, and what it had resident at most, MB.
fn open_apart(dir: &Path) -> Result<[f64; 2]> {
    let output = Command::new(std::env::current_exe()?).arg("--open").arg(dir).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(opened)), Some(Ok(memory))) => Ok([opened, memory]),
        _ => anyhow::bail!("opening failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn open(dir: &Path) -> Result<()> {
    let start = Instant::now();
    let store = Store::open_within(dir, &limits())?;
    let opened = start.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(store.samples().counts().samples > 0, "there is nothing in it");
    println!("{opened} {}", peak_rss_mb().unwrap_or_default());
    Ok(())
}

fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}
