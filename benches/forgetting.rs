//! Teach class B to a model that knows class A, with pictures labelled for B alone.
//!
//! ```sh
//! make forgetting                      # three seeds
//! make forgetting ARGS="--seeds 1"
//! ```
//!
//! The world is drawn (`tests/support/shapes.rs`): A are ellipses, B rectangles, and triangles are
//! nothing. The bundled base learns A from pictures labelled for A; then B is added, and each row of
//! the table learns from the same further pictures, on which both are to be seen. Every figure is
//! mAP50-95 on pictures that no run has seen, labelled for both.

#![allow(clippy::unwrap_used, reason = "what fails here fails the benchmark")]

#[path = "../tests/support/shapes.rs"]
mod shapes;
#[path = "../tests/support/variant.rs"]
mod variant;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use graftd::dataset::Example;
use graftd::detect::Detector;
use graftd::onnx::Model;
use graftd::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions};
use graftd::train::{Distill, Outcome, TrainEvent, TrainOptions, TrainingSet, fine_tune};
use shapes::{labelled_for, scenes};

const NAMES: [&str; 2] = ["ellipse", "rectangle"];

/// The size of everything.
#[derive(Clone, Copy)]
struct Scale {
    side: usize,
    train: usize,
    holdout: usize,
    test: usize,
    epochs: u32,
}

/// AP50-95 of A and B.
type Figures = [f64; 2];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: usize| -> usize {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().unwrap())
    };
    let scale = Scale {
        side: value("--side", 256),
        train: value("--train", 48),
        holdout: value("--holdout", 16),
        test: value("--test", 100),
        epochs: value("--epochs", 30) as u32,
    };
    let first = value("--first", 0);
    for seed in first..first + value("--seeds", 3) {
        one_seed(scale, seed as u64)?;
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

fn one_seed(scale: Scale, seed: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None })?;
    let draw = |name: &str, count: usize, offset: u64| {
        scenes(&folder.path().join(name), count, scale.side as u32, 1000 * seed + offset)
    };
    let world =
        World { folder: folder.path(), scale, seed, runtime: &*runtime, test: draw("test", scale.test, 5) };
    let (old, old_holdout) = (draw("old", scale.train, 1), draw("old-holdout", scale.holdout, 2));
    let (new, new_holdout) = (draw("new", scale.train, 3), draw("new-holdout", scale.holdout, 4));

    let cached =
        PathBuf::from(format!("/tmp/forget-{}-{}-{}-{seed}.onnx", scale.side, scale.train, scale.epochs));
    let knows_a = if cached.exists() {
        Model::read(&cached)?
    } else {
        let start = folder.path().join("start.onnx");
        let base = variant::resized(Path::new("models/base.onnx"), scale.side, NAMES[0]);
        std::fs::write(&start, base.encode())?;
        let outcome = world.learn(
            &start,
            &NAMES[..1],
            &labelled_for(&old, 0),
            &labelled_for(&old_holdout, 0),
            Distill::Auto,
        )?;
        std::fs::write(&cached, &outcome.model)?;
        Model::parse(&outcome.model)?
    };
    let base = folder.path().join("base.onnx");
    std::fs::write(&base, variant::with_class(knows_a, &NAMES).encode())?;
    let before = world.measure(&base)?;
    println!("seed {seed} before {before:.3?}");
    let only = |examples: &[Example]| labelled_for(examples, 1);
    for (name, train, holdout, distill) in [
        ("plain", only(&new), only(&new_holdout), Distill::Off),
        ("distil", only(&new), only(&new_holdout), Distill::Auto),
        ("upper", new.clone(), new_holdout.clone(), Distill::Auto),
    ] {
        if std::env::var("ONLY").is_ok_and(|only| !only.split(',').any(|o| o == name)) {
            continue;
        }
        let start = Instant::now();
        let outcome = world.learn(&base, &NAMES, &train, &holdout, distill)?;
        let out = folder.path().join(format!("{name}.onnx"));
        std::fs::write(&out, &outcome.model)?;
        let after = world.measure(&out)?;
        println!(
            "seed {seed} {name:8} {after:.3?} fell {:.3} {:.0?} epochs {}",
            before[0] - after[0],
            start.elapsed(),
            outcome.epochs
        );
    }
    Ok(())
}

impl World<'_> {
    fn learn(
        &self,
        base: &Path,
        names: &[&str],
        train: &[Example],
        holdout: &[Example],
        distill: Distill,
    ) -> Result<Outcome> {
        let set = TrainingSet {
            classes: names.iter().map(|name| (*name).to_owned()).collect(),
            train: train.to_vec(),
            holdout: holdout.to_vec(),
        };
        let options = TrainOptions {
            epochs: self.scale.epochs,
            seed: self.seed,
            views: 4,
            patience: 0,
            threads: 1,
            distill,
            ..TrainOptions::default()
        };
        let mut tell = |event: TrainEvent| {
            if std::env::var("TELL").is_ok() {
                println!("{event:?}");
            }
        };
        Ok(fine_tune(
            base,
            &set,
            &options,
            self.runtime,
            &self.folder.join("features"),
            &mut tell,
            &AtomicBool::new(false),
        )?)
    }

    fn measure(&self, model: &Path) -> Result<Figures> {
        let mut detector = Detector::open(model, None, self.runtime, &SessionOptions { threads: 1 })?;
        let evaluation = detector.evaluate(&self.test, |_| {})?;
        let ap = |name: &str| {
            evaluation
                .per_class
                .iter()
                .find(|class| class.class == name)
                .map_or(f64::NAN, |class| class.ap50_95)
        };
        Ok(NAMES.map(ap))
    }
}
