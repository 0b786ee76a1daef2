//! What a store has acknowledged, and whether it still holds it.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use graftd::label::LabelBox;
use graftd::store::{
    Limits, Message, NewLabels, PendingRun, Remembered, SampleId, SlotRecord, Store, StoreError,
};

use super::samples::{new_labels, new_sample};

/// A folder in memory where there is such a thing: what is tried hundreds of times need not wear a disk.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

/// The limits of stores that are cut: a disk is laid out hundreds of times.
pub fn limits() -> Limits {
    Limits { ballast_mb: 1, min_free_mb: 1, patience_s: 20, ..Limits::default() }
}

/// So often a thing is tried on a full disk.
const ATTEMPTS: usize = 40;

/// The frame of a round: of several pages, and different in each.
pub fn frame(round: u32) -> Vec<u8> {
    let rows = (0..600 + round % 7 * 100).map(|row| format!("frame {round} row {row}\n"));
    rows.collect::<String>().into_bytes()
}

/// The model of a round.
pub fn model(round: u32) -> Vec<u8> {
    (0..1200).map(|row| format!("model {round} row {row}\n")).collect::<String>().into_bytes()
}

fn labels(version: u32) -> NewLabels {
    let a_box = LabelBox { class: 0, cx: version as f32 / 1024.0, cy: 0.5, w: 0.2, h: 0.2 };
    NewLabels { boxes: vec![a_box], ..new_labels(None) }
}

fn answer(round: u32) -> Vec<u8> {
    format!("answer {round}").repeat(20).into_bytes()
}

fn run(version: u32) -> PendingRun {
    PendingRun { run: version.to_string(), command: None, arguments: vec![7; 300], slot: 0, attempts: 0 }
}

/// Goes through everything that a device does with its store, `rounds` times. Before and after each thing
/// a line is written to `marks`: what is about to be done, and that it has been acknowledged.
pub fn work(dir: &Path, rounds: std::ops::Range<u32>, marks: &mut File) -> Result<(), StoreError> {
    let mut mark = |line: String| {
        // One write per line, so that it is one mark.
        let line = format!("{line}\n");
        while marks.write_all(line.as_bytes()).is_err() {}
    };
    let store = patiently(|| Store::open_within(dir, &limits()))?;
    // What is told from here on counts as acknowledged, whatever a fault before left of it.
    tell(&store, rounds.start, &mut mark)?;
    let samples = store.samples();
    let mut kept: Vec<(SampleId, u32)> = Vec::new();
    for round in rounds {
        mark(format!("will classes {round}"));
        patiently(|| samples.set_classes(&[format!("class {round}")]))?;
        mark(format!("done classes {round}"));

        let sample = patiently(|| samples.add(&frame(round), new_sample(&format!("{round}.jpg"))))?;
        mark(format!("sample {} {round}", sample.id));
        kept.push((sample.id, round));

        mark(format!("will command {round} 0"));
        patiently(|| store.commands().set("label", &round.to_string(), Remembered::Executing))?;
        mark(format!("done command {round} 0"));
        // This one, and an older one again.
        let older = kept[kept.len() / 2];
        for (id, _) in [older, (sample.id, round)] {
            mark(format!("will label {id} {round}"));
            match samples.label(id, labels(round + 1), 0.3) {
                Ok(_) => mark(format!("done label {id} {round}")),
                Err(error @ StoreError::Uncertain { .. }) => say(&error),
                // Not tried again: it stays as it was told.
                Err(error) if is_full(&error) => {
                    say(&error);
                    mark(format!("failed label {id} {round}"));
                }
                Err(error) => return Err(error),
            }
        }
        mark(format!("will command {round} 1"));
        let message =
            Message { topic: round.to_string(), payload: answer(round), droppable: false, correlation: None };
        let settled = || Remembered::Settled(answer(round));
        patiently(|| store.outbox().answer("label", &round.to_string(), settled(), &message))?;
        mark(format!("done command {round} 1"));
        mark(format!("message {round}"));
        if round % 3 == 2 {
            let (number, message) = patiently(|| store.outbox().next(None))?.expect("one was pushed");
            mark(format!("gone message {}", message.topic));
            patiently(|| store.outbox().acknowledge(number))?;
        }

        mark(format!("will pending {round}"));
        patiently(|| store.pending().set(Some(&run(round))))?;
        mark(format!("done pending {round}"));

        mark(format!("will model {round}"));
        patiently(|| store.models().promote(&model(round), SlotRecord::default()))?;
        mark(format!("done model {round}"));
        if round % 4 == 3 {
            mark(format!("will model {}", round - 1));
            patiently(|| store.models().rollback())?;
            mark(format!("done model {}", round - 1));
        }
        if round % 5 == 4 {
            let (id, round) = kept.remove(0);
            mark(format!("gone sample {id} {round}"));
            match patiently(|| samples.delete(id)) {
                // Done at an attempt that was told to have failed.
                Err(StoreError::NoSample(_)) => {}
                deleted => deleted?,
            }
            mark(format!("deleted {id}"));
        }
    }
    Ok(())
}

/// Says what a store holds that has just been opened.
fn tell(store: &Store, rounds: u32, mark: &mut impl FnMut(String)) -> Result<(), StoreError> {
    let mut names: Vec<String> = ["classes", "pending", "model"].map(str::to_owned).into();
    for sample in store.samples().iter() {
        let sample = sample?;
        let Some(round) = sample.source.strip_suffix(".jpg") else { continue };
        mark(format!("sample {} {round}", sample.id));
        names.push(format!("label {}", sample.id));
    }
    names.extend((0..rounds).map(|round| format!("command {round}")));
    for name in names {
        match value(store, &name).unwrap_or_else(|lack| panic!("{lack}")) {
            Some(value) => mark(format!("done {name} {value}")),
            None => mark(format!("none {name}")),
        }
    }
    let mut after = None;
    while let Some((number, message)) = store.outbox().next(after)? {
        after = Some(number);
        mark(format!("message {}", message.topic));
    }
    Ok(())
}

/// Tries again while the disk is full, as a device does; says each time that it was, or why it gives up.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..ATTEMPTS {
        match attempt() {
            Err(error) if is_full(&error) => say(&error),
            done => return done,
        }
    }
    attempt()
}

fn say(error: &StoreError) {
    // Not by `eprintln`, which panics where the fault is in this very call.
    let _ = std::io::stderr().write_all(format!("the disk is full: {error}\n").as_bytes());
}

/// Whether an error names a full disk, or says that the database has to wait for one.
fn is_full(error: &StoreError) -> bool {
    let text = error.to_string();
    text.contains("No space left") || matches!(error, StoreError::Away { .. }) || error.is_full()
}

/// What may be there of a thing that changes: what was acknowledged last, or what was begun after it.
type MayBe = Vec<u32>;

/// The acknowledgements up to a moment.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    samples: BTreeMap<String, u32>,
    deleted: BTreeSet<String>,
    messages: BTreeSet<u32>,
    /// Messages that a broker has taken, or was about to.
    gone: BTreeSet<u32>,
    /// By name; a value is none while nothing was acknowledged.
    values: BTreeMap<String, (bool, MayBe)>,
}

impl Ledger {
    /// Takes a line of [`work`] down.
    pub fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u32>().expect("a number");
        match words[..] {
            [when @ ("will" | "done"), ref name @ .., value] => {
                let (is_sure, may_be) = self.values.entry(name.join(" ")).or_default();
                if when == "done" {
                    *is_sure = true;
                    may_be.clear();
                }
                may_be.push(number(value));
            }
            ["failed", ref name @ .., value] => {
                let (_, may_be) = self.values.entry(name.join(" ")).or_default();
                let failed = may_be.iter().rposition(|&may| may == number(value));
                failed.map(|failed| may_be.remove(failed));
            }
            ["none", ref name @ ..] => {
                // Where something was acknowledged it is missed by the check.
                let (is_sure, may_be) = self.values.entry(name.join(" ")).or_default();
                if !*is_sure {
                    may_be.clear();
                }
            }
            ["sample", id, round] => {
                self.samples.insert(id.into(), number(round));
            }
            ["message", round] => {
                self.messages.insert(number(round));
            }
            ["gone", "message", round] => {
                self.messages.remove(&number(round));
                self.gone.insert(number(round));
            }
            ["gone", "sample", id, _] => {
                self.samples.remove(id);
                self.values.remove(&format!("label {id}"));
            }
            ["deleted", id] => {
                self.deleted.insert(id.into());
            }
            _ => panic!("{line:?} is no mark"),
        }
    }

    /// Whether the store in `dir` holds all of it, and can be gone on with; otherwise what it lacks.
    pub fn check(&self, dir: &Path) -> Result<(), String> {
        let store =
            Store::open_within(dir, &limits()).map_err(|error| format!("it does not open: {error}"))?;
        self.hold(&store)?;
        let fresh = use_it(&store).map_err(|error| format!("it can't be used: {error}"))?;
        drop(store);
        let store = Store::open_within(dir, &limits()).map_err(|error| format!("not again: {error}"))?;
        self.hold(&store).map_err(|lack| format!("after use: {lack}"))?;
        let is_there = store.samples().get(fresh).is_ok_and(|sample| sample.labels.is_some());
        is_there.then_some(()).ok_or_else(|| "what was added after the cut is gone".into())
    }

    fn hold(&self, store: &Store) -> Result<(), String> {
        let samples = store.samples();
        let get = |id: &str| samples.get(id.parse().expect("an id"));
        for (id, &round) in &self.samples {
            let sample = get(id).map_err(|error| format!("sample {id}: {error}"))?;
            let bytes =
                std::fs::read(samples.frame_path(&sample)).map_err(|error| format!("frame: {error}"))?;
            same(&format!("the frame of sample {round}"), bytes == frame(round), true)?;
            same("its source", &sample.source, &format!("{round}.jpg"))?;
        }
        for id in &self.deleted {
            same(&format!("whether deleted sample {id} is there"), get(id).is_ok(), false)?;
        }
        // One that damage in the outbox took would be left out of these.
        let mut waiting = Vec::new();
        let mut after = None;
        while let Some((number, message)) = store.outbox().next(after).map_err(|error| error.to_string())? {
            after = Some(number);
            let round = message.topic.parse::<u32>().map_err(|error| error.to_string())?;
            same(&format!("the payload of message {round}"), message.payload, answer(round))?;
            waiting.push(round);
        }
        same("whether messages are in order", waiting.is_sorted(), true)?;
        for round in &self.messages {
            same(&format!("whether message {round} waits"), waiting.contains(round), true)?;
        }
        for (name, (is_sure, may_be)) in &self.values {
            let found = value(store, name)?;
            let fits = found.map_or(!is_sure, |found| may_be.contains(&found));
            if !fits {
                return Err(format!("{name}: there is {found:?}, and it should be one of {may_be:?}"));
            }
            if let Some(round) = name.strip_prefix("command ").and_then(|round| round.parse().ok())
                && !self.gone.contains(&round)
            {
                let what = format!("command {round} is settled without its answer, or the other way round:");
                same(&what, waiting.contains(&round), found == Some(1))?;
            }
        }
        store.models().list().map(|_| ()).map_err(|error| format!("the slots: {error}"))
    }
}

/// The value that the store holds of a thing that changes.
fn value(store: &Store, name: &str) -> Result<Option<u32>, String> {
    let text = |error: StoreError| format!("{name}: {error}");
    let words: Vec<&str> = name.split(' ').collect();
    Ok(match words[..] {
        ["classes"] => {
            let classes = store.samples().classes().map_err(text)?;
            classes.first().and_then(|name| name.strip_prefix("class ")?.parse().ok())
        }
        ["command", round] => match store.commands().get("label", round).map_err(text)? {
            None => None,
            Some(Remembered::Executing) => Some(0),
            Some(Remembered::Settled(found)) => {
                same(name, found, answer(round.parse().expect("a number")))?;
                Some(1)
            }
        },
        ["label", id] => {
            let sample = store.samples().get(id.parse().expect("an id")).map_err(text)?;
            let labels = sample.labels.and_then(|labels| labels.boxes.first().copied());
            labels.map(|a_box| (a_box.cx * 1024.0).round() as u32 - 1)
        }
        ["pending"] => {
            let found = store.pending().run().map_err(text)?;
            found.and_then(|pending| pending.run.parse().ok())
        }
        ["model"] => {
            let Some(slot) = store.models().current().map_err(text)? else { return Ok(None) };
            let bytes =
                std::fs::read(store.models().current_path()).map_err(|error| format!("model: {error}"))?;
            let whole = String::from_utf8_lossy(&bytes);
            let round = whole.split(' ').nth(1).and_then(|round| round.parse().ok());
            let round: u32 = round.ok_or(format!("slot {} holds no model", slot.slot))?;
            same("the current model", bytes == model(round), true)?;
            Some(round)
        }
        _ => panic!("{name:?} is nothing that is kept"),
    })
}

fn use_it(store: &Store) -> Result<SampleId, StoreError> {
    let sample = store.samples().add(b"a frame after the cut", new_sample("after"))?;
    store.samples().label(sample.id, labels(1), 0.3)?;
    Ok(sample.id)
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    let is_same = found == expected;
    is_same.then_some(()).ok_or_else(|| format!("{what}: {found:?} instead of {expected:?}"))
}
