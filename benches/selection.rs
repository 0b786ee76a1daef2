//! How many labels it takes: frames that the selection keeps against frames taken at random.
//!
//! ```sh
//! make selection                                    # five seeds of three streams
//! make selection ARGS="--stream field --seeds 1"    # one of them: yard, field or flight
//! make selection ARGS="--first 100"                 # seeds 100 to 104
//! ```
//!
//! *Yard* is the drawn stream that the selection was tuned on, with seeds below 100; *field* is drawn too, of other
//! things, as dull as it happens, and nothing was tuned on it (`tests/support/stream.rs`). *Flight* is a drone's over
//! the bundled pictures (`tests/support/flight.rs`).
//!
//! Both ways begin with the same few frames taken at random. Then, in rounds as a device lives them, as many frames
//! of the next stretch as there are labels are kept and labelled with the truth, the head is trained on all labels
//! there are, and the model that comes of it looks at the next stretch. The selection is the daemon's own, with its budget, its floor of
//! random frames and its other defaults; the other way takes as many frames of the same stretch at random, or as
//! many as were due where the selection kept fewer. Every training has about as many steps as one with all labels
//! has in `--epochs`, so that it is labels that make the difference and not steps. The hold-out is random for both,
//! and not counted. Figures are mAP50 on pictures that no run has seen; of the drawn streams every class is as
//! frequent on these as the others.

#![allow(clippy::unwrap_used, reason = "what fails here fails the benchmark")]

#[path = "../tests/support/flight.rs"]
mod flight;
#[path = "../tests/support/stream.rs"]
mod stream;
#[path = "../tests/support/variant.rs"]
mod variant;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use flight::{Country, Flight};
use graftd::dataset::Example;
use graftd::detect::Detector;
use graftd::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions};
use graftd::select::{SelectOptions, Selector};
use graftd::train::{Control, Folders, TrainOptions, TrainingSet, fine_tune, forget_checkpoint};
use graftd::yolo::nms::Keep;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stream::{FIELD, Frame, Stream, World, YARD};

/// The size of everything.
#[derive(Debug, Clone, Copy)]
struct Scale {
    side: usize,
    /// Labels that both begin with; each round doubles them.
    labels: usize,
    rounds: usize,
    /// Frames of the first stretch; the next are longer as more of their frames are kept.
    frames: usize,
    holdout: usize,
    test: usize,
    epochs: u32,
}

impl Scale {
    /// Labels after a round.
    fn after(&self, round: usize) -> usize {
        self.labels << round
    }

    /// Frames that a round's stretch has, and that are kept of it.
    fn stretch(&self, round: usize) -> (usize, usize) {
        (self.frames << (round - 1), self.labels << (round - 1))
    }
}

/// A way to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Random,
    Selected,
}

/// Where frames come from.
enum Source {
    Drawn(&'static World),
    Flight(Country),
}

impl Source {
    fn names(&self) -> Vec<&'static str> {
        match self {
            Source::Drawn(world) => world.classes.map(|(name, ..)| name).to_vec(),
            Source::Flight(_) => vec!["tree"],
        }
    }

    fn frames(&self, side: u32, seed: u64, stretch: u64) -> Box<dyn Iterator<Item = Frame> + '_> {
        let own = 1000 * seed + stretch;
        match self {
            Source::Drawn(world) => {
                let mut stream = Stream::new(world, side, seed, own);
                Box::new(std::iter::repeat_with(move || stream.frame()))
            }
            Source::Flight(country) => Box::new(Flight::new(country, side, own)),
        }
    }

    fn test(&self, scale: Scale, seed: u64) -> Vec<Frame> {
        match self {
            Source::Drawn(world) => {
                let mut even = Stream::even(world, scale.side as u32, seed, 1000 * seed + 1);
                (0..scale.test).map(|_| even.frame()).collect()
            }
            Source::Flight(country) => country.test(scale.side as u32),
        }
    }

    fn holdout(&self, scale: Scale, seed: u64, random: &mut ChaCha8Rng) -> Vec<Frame> {
        match self {
            Source::Drawn(_) => pick(self.frames(scale.side as u32, seed, 4), scale.holdout, random),
            Source::Flight(country) => {
                let held = country.held(scale.side as u32, random);
                held.into_iter().take(scale.holdout).collect()
            }
        }
    }
}

/// So many frames far from each other, with a thing on one at least.
fn pick(mut frames: impl Iterator<Item = Frame>, count: usize, random: &mut ChaCha8Rng) -> Vec<Frame> {
    loop {
        let picked: Vec<Frame> = (0..count).filter_map(|_| frames.nth(random.random_range(10..40))).collect();
        if picked.iter().any(|frame| !frame.labels.is_empty()) {
            return picked;
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map(|at| arguments[at + 1].as_str())
    };
    let value = |name: &str, default: usize| word(name).map_or(default, |word| word.parse().unwrap());
    let scale = Scale {
        side: value("--side", 160),
        labels: value("--labels", 10),
        rounds: value("--rounds", 2),
        frames: value("--frames", 400),
        holdout: value("--holdout", 16),
        test: value("--test", 60),
        epochs: value("--epochs", 12) as u32,
    };
    let first = value("--first", 0);
    let seeds: Vec<u64> = (first..first + value("--seeds", 5)).map(|seed| seed as u64).collect();
    println!("{scale:?}, seeds {seeds:?}");
    for name in ["yard", "field", "flight"] {
        if word("--stream").is_some_and(|wanted| wanted != name) {
            continue;
        }
        let source = match name {
            "yard" => Source::Drawn(&YARD),
            "field" => Source::Drawn(&FIELD),
            _ => Source::Flight(Country::open()),
        };
        let rows: Vec<[Vec<f64>; 2]> =
            seeds.iter().map(|&seed| one_seed(&source, scale, seed)).collect::<Result<_>>()?;
        println!("\n{name}");
        table(&rows, scale);
    }
    Ok(())
}

/// Means over the seeds, and with how many labels the selection has what chance has with all.
fn table(rows: &[[Vec<f64>; 2]], scale: Scale) {
    let rounds = scale.rounds;
    println!(
        "| labels | random: mAP50 | selected: mAP50 | selected is better by | in seeds |\n|--:|--:|--:|--:|--:|"
    );
    let means = |way: usize| -> Vec<f64> {
        (0..=rounds)
            .map(|round| rows.iter().map(|r| r[way][round]).sum::<f64>() / rows.len() as f64)
            .collect()
    };
    let [random, selected] = [means(0), means(1)];
    for round in 0..=rounds {
        let wins = rows.iter().filter(|row| row[1][round] > row[0][round]).count();
        println!(
            "| {} | {:.3} | {:.3} | {:+.3} | {wins} of {} |",
            scale.after(round),
            random[round],
            selected[round],
            selected[round] - random[round],
            rows.len()
        );
    }
    let (last, all) = (random[rounds], scale.after(rounds));
    match reached(&selected, last) {
        Some(round) => {
            let needed = scale.labels as f64 * round.exp2();
            let share = 100.0 * needed / all as f64;
            println!(
                "\nWhat {all} random labels reach ({last:.3}), {needed:.0} selected ones reach: {share:.0} %."
            );
        }
        None => println!("\nThe selection does not reach what {all} random labels do ({last:.3})."),
    }
}

/// The round, and the part of the one after it, in which a curve comes to a value.
fn reached(curve: &[f64], value: f64) -> Option<f64> {
    let after = curve.iter().position(|&figure| figure >= value)?;
    let Some(before) = after.checked_sub(1) else { return Some(0.0) };
    Some(before as f64 + (value - curve[before]) / (curve[after] - curve[before]))
}

fn open_runtime() -> Result<Box<dyn Runtime>> {
    Ok(runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None })?)
}

/// mAP50 after each round, at random and selected.
fn one_seed(source: &Source, scale: Scale, seed: u64) -> Result<[Vec<f64>; 2]> {
    let folder = tempfile::tempdir()?;
    let runtime = open_runtime()?;
    let names = source.names();
    let start = folder.path().join("start.onnx");
    let mut base = variant::resized(Path::new("models/base.onnx"), scale.side, names[0]);
    for classes in 2..=names.len() {
        base = variant::with_class(base, &names[..classes]);
    }
    std::fs::write(&start, base.encode())?;
    let side = scale.side as u32;
    let save = |frames: &[Frame], name: &str| -> Vec<Example> {
        let save =
            |(number, frame): (usize, &Frame)| frame.save(&folder.path().join(name), &number.to_string());
        frames.iter().enumerate().map(save).collect()
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let test = save(&source.test(scale, seed), "test");
    let holdout = save(&source.holdout(scale, seed, &mut random), "holdout");
    let first = save(&pick(source.frames(side, seed, 2), scale.labels, &mut random), "first");
    let bench = Bench {
        folder: folder.path(),
        names: &names,
        scale,
        seed,
        runtime: &*runtime,
        start: &start,
        holdout,
        test,
    };
    let begun = bench.train(&first)?;
    let begun_at = bench.measure(&begun)?;
    let mut figures = [vec![begun_at], vec![begun_at]];
    for (way, figures) in [Way::Random, Way::Selected].into_iter().zip(&mut figures) {
        let started = Instant::now();
        let mut labelled = first.clone();
        let mut model = begun.clone();
        let mut selector = bench.selector(scale.labels, scale.frames);
        let mut stream = source.frames(side, seed, 3);
        let mut clock = Instant::now();
        for round in 1..=scale.rounds {
            let (length, due) = scale.stretch(round);
            let frames: Vec<Frame> = stream.by_ref().take(length).collect();
            let kept = match way {
                Way::Random => bench.at_random(length, due, round),
                Way::Selected => bench.selected(&model, &frames, due, &mut selector, &mut clock)?,
            };
            let shown: Vec<usize> = (0..names.len() as u32)
                .map(|class| {
                    let shows = |&&i: &&usize| frames[i].labels.iter().any(|label| label.class == class);
                    kept.iter().filter(shows).count()
                })
                .collect();
            let dull = kept.iter().filter(|&&i| frames[i].labels.is_empty()).count();
            for (number, &index) in kept.iter().enumerate() {
                let folder = bench.folder.join(format!("{way:?}"));
                labelled.push(frames[index].save(&folder, &format!("{round}-{number}")));
            }
            model = bench.train(&labelled)?;
            figures.push(bench.measure(&model)?);
            eprintln!("  {way:?} round {round}: {} kept, classes on {shown:?}, dull {dull}", kept.len());
        }
        eprintln!("seed {seed}: {way:?} {figures:.3?} in {:.0?}", started.elapsed());
    }
    Ok(figures)
}

struct Bench<'a> {
    folder: &'a Path,
    names: &'a [&'a str],
    scale: Scale,
    seed: u64,
    runtime: &'a dyn Runtime,
    start: &'a Path,
    holdout: Vec<Example>,
    test: Vec<Example>,
}

impl Bench<'_> {
    /// The head trained on these from the start; the file.
    fn train(&self, labelled: &[Example]) -> Result<PathBuf> {
        let classes = self.names.iter().map(|name| (*name).to_owned()).collect();
        let set = TrainingSet { classes, train: labelled.to_vec(), holdout: self.holdout.clone() };
        let all = self.scale.after(self.scale.rounds);
        let options = TrainOptions {
            epochs: (self.scale.epochs as usize * all / labelled.len()) as u32,
            seed: self.seed,
            patience: 0,
            threads: 1,
            ..TrainOptions::default()
        };
        let cache = self.folder.join("features");
        let folders = Folders { cache: &cache, memory: None };
        let outcome =
            fine_tune(self.start, &set, &options, self.runtime, folders, &mut |_| {}, &Control::new())?;
        forget_checkpoint(&cache)?;
        let model = self.folder.join(format!("model-{}.onnx", labelled.len()));
        std::fs::write(&model, &outcome.model)?;
        Ok(model)
    }

    fn measure(&self, model: &Path) -> Result<f64> {
        let mut detector = self.detector(model)?;
        Ok(detector.evaluate(&self.test, |_| {})?.map50.unwrap_or(0.0))
    }

    fn detector(&self, model: &Path) -> Result<Detector> {
        Ok(Detector::open(model, None, self.runtime, &SessionOptions { threads: 1 })?)
    }

    /// The daemon's, with a budget that comes to so many frames of a stretch at a frame per second.
    fn selector(&self, kept: usize, of: usize) -> Selector {
        let per_hour = (kept * 3600).div_ceil(of);
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        Selector::new(SelectOptions { per_hour, ..SelectOptions::default() }, &names, self.seed)
    }

    fn selected(
        &self,
        model: &Path,
        frames: &[Frame],
        due: usize,
        selector: &mut Selector,
        clock: &mut Instant,
    ) -> Result<Vec<usize>> {
        let mut detector = self.detector(model)?;
        selector.follow(detector.classes());
        let mut kept = Vec::new();
        for (index, Frame { picture, .. }) in frames.iter().enumerate() {
            *clock += Duration::from_secs(1);
            let look = detector.look(picture, &Keep::to_use())?;
            if selector.decide(picture, &look, false, *clock).is_some() && kept.len() < due {
                kept.push(index);
            }
        }
        Ok(kept)
    }

    fn at_random(&self, frames: usize, due: usize, round: usize) -> Vec<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(100 * self.seed + round as u64);
        let mut order: Vec<usize> = (0..frames).collect();
        order.shuffle(&mut random);
        order.truncate(due);
        order
    }
}
