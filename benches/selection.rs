//! How many labels it takes: frames that the selection keeps against frames taken at random.
//!
//! ```sh
//! make selection                       # five seeds on the drawn stream
//! make selection ARGS="--seeds 1"
//! ```
//!
//! The stream (`tests/support/stream.rs`) is what a fixed camera sees: scenes of some frames, many of them dull,
//! two classes common and two rare. Both ways begin with the same few frames taken at random. Then, in rounds as a
//! device lives them, some frames of the next stretch are kept and labelled with the truth, the head is trained on
//! all labels there are, and the model that comes of it looks at the next stretch. The selection is the daemon's
//! own, with its budget, its floor of random frames and its other defaults; the other way takes as many frames of
//! the same stretch at random. The hold-out is random for both, and not counted. Figures are mAP50 on pictures
//! that no run has seen, every class as frequent as the others.

#![allow(clippy::unwrap_used, reason = "what fails here fails the benchmark")]

#[path = "../tests/support/stream.rs"]
mod stream;
#[path = "../tests/support/variant.rs"]
mod variant;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use graftd::dataset::Example;
use graftd::detect::Detector;
use graftd::picture::Picture;
use graftd::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions};
use graftd::select::{SelectOptions, Selector};
use graftd::train::{Control, Folders, TrainOptions, TrainingSet, Turns, fine_tune, forget_checkpoint};
use graftd::yolo::nms::Keep;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stream::{CLASSES, Stream};

/// The size of everything.
#[derive(Debug, Clone, Copy)]
struct Scale {
    side: usize,
    /// Labels that both begin with, and that each round adds.
    labels: usize,
    rounds: usize,
    /// Frames of a round's stretch.
    frames: usize,
    holdout: usize,
    test: usize,
    epochs: u32,
}

/// A way to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Random,
    Selected,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: usize| -> usize {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().unwrap())
    };
    let scale = Scale {
        side: value("--side", 160),
        labels: value("--labels", 10),
        rounds: value("--rounds", 4),
        frames: value("--frames", 500),
        holdout: value("--holdout", 16),
        test: value("--test", 80),
        epochs: value("--epochs", 20) as u32,
    };
    let seeds: Vec<u64> =
        (value("--first", 0)..value("--first", 0) + value("--seeds", 5)).map(|s| s as u64).collect();
    let rows: Vec<[Vec<f64>; 2]> = seeds.iter().map(|&seed| drawn(scale, seed)).collect::<Result<_>>()?;
    println!("The drawn stream, {scale:?}");
    table(&rows, |round| scale.labels * (round + 1));
    Ok(())
}

/// Means over the seeds, and with how many labels the selection has what chance has with all.
fn table(rows: &[[Vec<f64>; 2]], labels: impl Fn(usize) -> usize) {
    let rounds = rows[0][0].len();
    println!(
        "| labels | random: mAP50 | selected: mAP50 | selected is better by | in seeds |\n|--:|--:|--:|--:|--:|"
    );
    let mean = |way: usize, round: usize| rows.iter().map(|r| r[way][round]).sum::<f64>() / rows.len() as f64;
    for round in 0..rounds {
        let wins = rows.iter().filter(|row| row[1][round] > row[0][round]).count();
        let (random, selected) = (mean(0, round), mean(1, round));
        println!(
            "| {} | {random:.3} | {selected:.3} | {:+.3} | {wins} of {} |",
            labels(round),
            selected - random,
            rows.len()
        );
    }
    let last = mean(0, rounds - 1);
    match (0..rounds).find(|&round| mean(1, round) >= last) {
        Some(round) => println!(
            "\nWhat {} random labels reach ({last:.3}), {} selected ones reach.\n",
            labels(rounds - 1),
            labels(round)
        ),
        None => println!("\nThe selection does not reach what {} random labels do.\n", labels(rounds - 1)),
    }
}

fn open_runtime() -> Result<Box<dyn Runtime>> {
    Ok(runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None })?)
}

/// mAP50 after each round, at random and selected.
fn drawn(scale: Scale, seed: u64) -> Result<[Vec<f64>; 2]> {
    let folder = tempfile::tempdir()?;
    let runtime = open_runtime()?;
    let names = CLASSES.map(|(name, _)| name);
    let start = folder.path().join("start.onnx");
    let mut base = variant::resized(Path::new("models/base.onnx"), scale.side, names[0]);
    for classes in 2..=names.len() {
        base = variant::with_class(base, &names[..classes]);
    }
    std::fs::write(&start, base.encode())?;
    let side = scale.side as u32;
    let mut even = Stream::even(side, seed, 1000 * seed + 1);
    let test =
        (0..scale.test).map(|i| even.frame().save(&folder.path().join("test"), &i.to_string())).collect();
    let mut before = Stream::new(side, seed, 1000 * seed + 2);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |count: usize, name: &str| -> Vec<Example> {
        let mut picked = Vec::new();
        while picked.len() < count {
            let frame = before.frame();
            if random.random_range(0..20) == 0 {
                picked.push(frame.save(&folder.path().join(name), &picked.len().to_string()));
            }
        }
        picked
    };
    let mut holdout = pick(scale.holdout, "holdout");
    while holdout.iter().all(|example| example.labels.is_empty()) {
        holdout = pick(scale.holdout, "holdout");
    }
    let world = World {
        folder: folder.path(),
        names: &names,
        scale,
        seed,
        runtime: &*runtime,
        start: &start,
        turns: TrainOptions::default().turns,
        holdout,
        test,
    };
    let mut first = pick(scale.labels, "first");
    while first.iter().all(|example| example.labels.is_empty()) {
        first = pick(scale.labels, "first");
    }
    let mut figures = [Vec::new(), Vec::new()];
    for (way, figures) in [Way::Random, Way::Selected].into_iter().zip(&mut figures) {
        let started = Instant::now();
        let mut labelled = first.clone();
        let mut model = world.train(&labelled)?;
        figures.push(world.measure(&model)?);
        let mut selector = world.selector(scale.labels, scale.frames);
        let mut stream = Stream::new(side, seed, 1000 * seed + 3);
        let mut clock = Instant::now();
        for round in 1..scale.rounds {
            let mut frames = (0..scale.frames).map(|_| stream.frame()).collect::<Vec<_>>();
            let kept = match way {
                Way::Random => world.at_random(frames.len(), round),
                Way::Selected => {
                    let pictures: Vec<&Picture> = frames.iter().map(|frame| &frame.picture).collect();
                    world.selected(&model, &pictures, &mut selector, &mut clock)?
                }
            };
            let of = |class: u32| {
                kept.iter().filter(|&&i| frames[i].labels.iter().any(|label| label.class == class)).count()
            };
            let shown = [0, 1, 2, 3].map(of);
            let dull = kept.iter().filter(|&&i| frames[i].labels.is_empty()).count();
            for (number, &index) in kept.iter().enumerate() {
                let folder = world.folder.join(format!("{way:?}"));
                labelled.push(frames[index].save(&folder, &format!("{round}-{number}")));
            }
            frames.clear();
            model = world.train(&labelled)?;
            figures.push(world.measure(&model)?);
            eprintln!("  {way:?} round {round}: {} kept, classes on {shown:?}, dull {dull}", kept.len());
        }
        eprintln!("seed {seed}: {way:?} {figures:.3?} in {:.0?}", started.elapsed());
    }
    Ok(figures)
}

struct World<'a> {
    folder: &'a Path,
    names: &'a [&'a str],
    scale: Scale,
    seed: u64,
    runtime: &'a dyn Runtime,
    start: &'a Path,
    turns: Turns,
    holdout: Vec<Example>,
    test: Vec<Example>,
}

impl World<'_> {
    /// The head trained on these from the start; the file.
    fn train(&self, labelled: &[Example]) -> Result<PathBuf> {
        let classes = self.names.iter().map(|name| (*name).to_owned()).collect();
        let set = TrainingSet { classes, train: labelled.to_vec(), holdout: self.holdout.clone() };
        let options = TrainOptions {
            epochs: self.scale.epochs,
            seed: self.seed,
            views: 4,
            patience: 0,
            threads: 1,
            turns: self.turns,
            ..TrainOptions::default()
        };
        let cache = self.folder.join("features");
        let folders = Folders { cache: &cache, memory: None };
        let outcome =
            fine_tune(self.start, &set, &options, self.runtime, folders, &mut |_| {}, &Control::new())?;
        forget_checkpoint(&cache)?;
        let model = self.folder.join("model.onnx");
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
        pictures: &[&Picture],
        selector: &mut Selector,
        clock: &mut Instant,
    ) -> Result<Vec<usize>> {
        let mut detector = self.detector(model)?;
        selector.follow(detector.classes());
        let mut kept = Vec::new();
        for (index, picture) in pictures.iter().enumerate() {
            *clock += Duration::from_secs(1);
            let look = detector.look(picture, &Keep::to_use())?;
            if selector.decide(picture, &look, false, *clock).is_some() && kept.len() < self.scale.labels {
                kept.push(index);
            }
        }
        Ok(kept)
    }

    fn at_random(&self, frames: usize, round: usize) -> Vec<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(100 * self.seed + round as u64);
        let mut order: Vec<usize> = (0..frames).collect();
        order.shuffle(&mut random);
        order.truncate(self.scale.labels);
        order
    }
}
