//! Teach class B to a model that knows class A, with pictures labelled for B alone.
//!
//! ```sh
//! make forgetting                      # three seeds, 18 runs of 15 to 30 CPU seconds each
//! make forgetting ARGS="--seeds 1"
//! ```
//!
//! The world is drawn (`tests/support/shapes.rs`): A are ellipses, B rectangles, and triangles are
//! nothing. The bundled base learns A from pictures labelled for A, which is when the memory is filled;
//! then B is added, and each row of the table learns from the same further pictures, on which both are
//! to be seen. Every figure is AP50-95 on pictures that no run has seen, labelled for both.
//!
//! A last line tells what 8 bits cost: the bundled base, trained on the demo's pictures, on its hold-out
//! with features as the cache keeps them and as the memory does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the benchmark")]

#[path = "../tests/support/heads.rs"]
mod heads;
#[path = "../tests/support/shapes.rs"]
mod shapes;
#[path = "../tests/support/variant.rs"]
mod variant;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use graftd::dataset::{DataSet, Example};
use graftd::detect::Detector;
use graftd::label::LabelBox;
use graftd::onnx::Model;
use graftd::picture::Picture;
use graftd::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions};
use graftd::train::{Control, Distill, Folders, Outcome, TrainOptions, TrainingSet, fine_tune};
use graftd::yolo::export::Export;
use graftd::yolo::geometry::iou;
use graftd::yolo::nms::Keep;
use shapes::{labelled_for, scenes};

const NAMES: [&str; 2] = ["ellipse", "rectangle"];

/// The ways to learn B that are compared.
const WAYS: [Way; 5] = [
    Way {
        name: "labelled for B: plain fine-tuning",
        labels: Labels::B,
        distill: Distill::Off,
        memory: false,
    },
    Way {
        name: "labelled for B, the base's finds as labels for A",
        labels: Labels::BAndFinds,
        distill: Distill::Off,
        memory: false,
    },
    Way {
        name: "labelled for B: taught by the base",
        labels: Labels::B,
        distill: Distill::Auto,
        memory: false,
    },
    Way {
        name: "labelled for B: taught, and the memory",
        labels: Labels::B,
        distill: Distill::Auto,
        memory: true,
    },
    Way { name: "labelled for A and B", labels: Labels::AAndB, distill: Distill::Off, memory: false },
];

struct Way {
    name: &'static str,
    labels: Labels,
    distill: Distill,
    memory: bool,
}

/// What the further pictures are labelled for.
enum Labels {
    B,
    /// Boxes that the base finds (confidence 0.25) and no label of B covers count as labels for A.
    BAndFinds,
    AAndB,
}

/// AP50-95 of A and B.
type Figures = [f64; 2];

/// The size of everything.
#[derive(Debug, Clone, Copy)]
struct Scale {
    side: usize,
    train: usize,
    holdout: usize,
    test: usize,
    epochs: u32,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: usize| -> usize {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().unwrap())
    };
    let scale = Scale {
        side: value("--side", 160),
        train: value("--train", 40),
        holdout: value("--holdout", 16),
        test: value("--test", 100),
        epochs: value("--epochs", 20) as u32,
    };
    let seeds = value("--first", 0)..value("--first", 0) + value("--seeds", 3);
    let rows: Vec<Vec<Figures>> = seeds.map(|seed| one_seed(scale, seed as u64)).collect::<Result<_>>()?;
    let mean = |row: usize, class: usize| rows.iter().map(|r| r[row][class]).sum::<f64>() / rows.len() as f64;

    println!("AP50-95 on {} pictures, mean of {} seeds; {scale:?}", scale.test, rows.len());
    println!("| | A | B | A fell by | B below the last row |\n|---|--:|--:|--:|--:|");
    let names = ["before"].into_iter().chain(WAYS.iter().map(|way| way.name));
    for (row, name) in names.enumerate() {
        let (a, b) = (mean(row, 0), mean(row, 1));
        let (fell, below) = (mean(0, 0) - a, mean(WAYS.len(), 1) - b);
        println!("| {name} | {a:.3} | {b:.3} | {fell:.3} | {below:.3} |");
    }
    if !arguments.iter().any(|argument| argument == "--no-bits") {
        eight_bits()?;
    }
    Ok(())
}

struct World<'a> {
    folder: &'a Path,
    scale: Scale,
    seed: u64,
    runtime: &'a dyn Runtime,
    test: Vec<Example>,
}

fn open_runtime() -> Result<Box<dyn Runtime>> {
    Ok(runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None })?)
}

/// Before, and then each of [`WAYS`].
fn one_seed(scale: Scale, seed: u64) -> Result<Vec<Figures>> {
    let folder = tempfile::tempdir()?;
    let runtime = open_runtime()?;
    let draw = |name: &str, count: usize, offset: u64| {
        scenes(&folder.path().join(name), count, scale.side as u32, 1000 * seed + offset)
    };
    let test = draw("test", scale.test, 5);
    let world = World { folder: folder.path(), scale, seed, runtime: &*runtime, test };
    let old = [draw("old", scale.train, 1), draw("old-holdout", scale.holdout, 2)];
    let new = [draw("new", scale.train, 3), draw("new-holdout", scale.holdout, 4)];

    let start = folder.path().join("start.onnx");
    let base = variant::resized(Path::new("models/base.onnx"), scale.side, NAMES[0]);
    std::fs::write(&start, base.encode())?;
    let memory = folder.path().join("memory");
    let only = |class: u32, parts: &[Vec<Example>; 2]| [0, 1].map(|i| labelled_for(&parts[i], class));
    let outcome = world.learn(&start, &NAMES[..1], only(0, &old), Distill::Off, Some(&memory))?;
    anyhow::ensure!(outcome.verdict.promoted, "A was not learnt: {}", outcome.verdict.reason);
    let base = folder.path().join("base.onnx");
    std::fs::write(&base, variant::with_class(Model::parse(&outcome.model)?, &NAMES).encode())?;

    let mut figures = vec![world.measure(&base)?];
    eprintln!("seed {seed}: before {:.3?}", figures[0]);
    for way in &WAYS {
        let started = Instant::now();
        let parts = match way.labels {
            Labels::B => only(1, &new),
            Labels::BAndFinds => world.with_finds(&base, only(1, &new))?,
            Labels::AAndB => new.clone(),
        };
        let outcome = world.learn(&base, &NAMES, parts, way.distill, way.memory.then_some(&*memory))?;
        let model = folder.path().join("after.onnx");
        std::fs::write(&model, &outcome.model)?;
        let after = world.measure(&model)?;
        eprintln!("seed {seed}: {:48} {after:.3?} in {:.0?}", way.name, started.elapsed());
        figures.push(after);
    }
    Ok(figures)
}

impl World<'_> {
    fn learn(
        &self,
        base: &Path,
        names: &[&str],
        [train, holdout]: [Vec<Example>; 2],
        distill: Distill,
        memory: Option<&Path>,
    ) -> Result<Outcome> {
        let classes = names.iter().map(|name| (*name).to_owned()).collect();
        let set = TrainingSet { classes, train, holdout };
        let options = TrainOptions {
            epochs: self.scale.epochs,
            seed: self.seed,
            views: 4,
            patience: 0,
            threads: 1,
            distill,
            ..TrainOptions::default()
        };
        let cache = self.folder.join("features");
        let folders = Folders { cache: &cache, memory };
        Ok(fine_tune(base, &set, &options, self.runtime, folders, &mut |_| {}, &Control::new())?)
    }

    /// Adds what the model finds of A.
    fn with_finds(&self, model: &Path, mut parts: [Vec<Example>; 2]) -> Result<[Vec<Example>; 2]> {
        let mut detector = Detector::open(model, None, self.runtime, &SessionOptions { threads: 1 })?;
        let side = self.scale.side as u32;
        for example in parts.iter_mut().flatten() {
            let found = detector.detect(&Picture::open(&example.picture)?, &Keep::to_use())?;
            let told = example.labels.clone();
            for detection in found.iter().filter(|detection| detection.class == 0) {
                let corners = detection.corners().map(f64::from);
                let same = |label: &LabelBox| iou(corners, label.to_pixels(side, side).map(f64::from)) >= 0.5;
                if !told.iter().any(same) {
                    let [x1, y1, x2, y2] = detection.corners().map(|value| value / side as f32);
                    let (cx, cy) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
                    example.labels.push(LabelBox { class: 0, cx, cy, w: x2 - x1, h: y2 - y1 });
                }
            }
        }
        Ok(parts)
    }

    fn measure(&self, model: &Path) -> Result<Figures> {
        let mut detector = Detector::open(model, None, self.runtime, &SessionOptions { threads: 1 })?;
        let evaluation = detector.evaluate(&self.test, |_| {})?;
        let of = |name: &str| evaluation.per_class.iter().find(|class| class.class == name);
        Ok(NAMES.map(|name| of(name).map_or(0.0, |class| class.ap50_95)))
    }
}

/// What it costs that the memory keeps features in 8 bits.
fn eight_bits() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = open_runtime()?;
    let data = DataSet::open(Path::new("demo/treecrowns/data.yaml"))?;
    let examples = [data.val.clone(), data.train.clone()].concat();
    let set = TrainingSet { classes: data.classes, train: data.train, holdout: data.val };
    let options = TrainOptions { epochs: 12, threads: 1, ..TrainOptions::default() };
    let base = Path::new("models/base.onnx");
    let outcome = fine_tune(base, &set, &options, &*runtime, folder.path(), &mut |_| {}, &Control::new())?;
    let export = Export::new(Model::parse(&outcome.model)?)?;
    for (name, examples) in [("its hold-out", &set.holdout), ("all its pictures", &examples)] {
        let map = |change: fn(&mut [f32], usize)| {
            heads::evaluate(&export, examples, &*runtime, change).map50_95.unwrap_or(0.0)
        };
        let (half, bytes) = (map(heads::in_half), map(heads::in_eight_bits));
        println!(
            "the demo, {name}: mAP50-95 {half:.4} with features in f16, {bytes:.4} in 8 bits ({:+.4})",
            bytes - half
        );
    }
    Ok(())
}
