//! What a run costs those who share the device with it: latency of detection, alone and beside a run.
//!
//! ```sh
//! cargo bench --bench guest                       # the bundled base
//! cargo bench --bench guest -- yolo11n.onnx 320   # another export, with its side where it is free
//! ```
//!
//! One process as the daemon is one: a thread detects ten frames a second on all cores, a run trains on all
//! cores. Rounds of each kind take turns, so that a machine that slows down slows all of them. Threads that
//! only count, with a guest's manners, show what a busy core costs by itself: clocks that fall, a neighbour on
//! the other half of a core, a host that shares its cores out.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use graftd::dataset::DataSet;
use graftd::picture::Picture;
use graftd::runtime::{self, RuntimeChoice, SessionOptions};
use graftd::train::{Control, Guest, TrainEvent, TrainOptions, TrainingSet, fine_tune};
use graftd::yolo::export::Export;
use graftd::yolo::nms::Keep;

const ROUNDS: usize = 4;
const FRAMES: usize = 100;
const EVERY: Duration = Duration::from_millis(100);

/// What goes on beside the detection.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Counting,
    Run { idle: bool },
}

impl Beside {
    const ALL: [Beside; 4] =
        [Beside::Nothing, Beside::Counting, Beside::Run { idle: true }, Beside::Run { idle: false }];

    fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "alone",
            Beside::Counting => "beside threads that only count",
            Beside::Run { idle: true } => "beside a run",
            Beside::Run { idle: false } => "beside a run that is no guest",
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let model = PathBuf::from(arguments.first().map_or("models/base.onnx", String::as_str));
    let side = arguments.get(1).and_then(|side| side.parse().ok());
    let data = DataSet::open(Path::new("demo/treecrowns/data.yaml"))?;
    let pictures = data.train.iter().map(|example| Picture::open(&example.picture));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let runtime = runtime::open(&RuntimeChoice::default())?;
    let mut detector = graftd::detect::Detector::open(&model, side, &*runtime, &SessionOptions::default())?;

    let mut latencies: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (beside, latencies) in Beside::ALL.into_iter().zip(&mut latencies) {
            let control = Control::new();
            let run = match beside {
                Beside::Nothing => None,
                Beside::Counting => Some(count(control.clone())),
                Beside::Run { idle } => {
                    let guest = Guest { idle, cpus: vec![] };
                    let (trains, run) = start(guest, model.clone(), side, control.clone())?;
                    trains.recv().context("the run ended before its first epoch")?;
                    Some(run)
                }
            };
            let mut next = Instant::now();
            for frame in 0..FRAMES {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                next += EVERY;
                let started = Instant::now();
                detector.detect(&pictures[frame % pictures.len()], &Keep::to_use())?;
                latencies.push(started.elapsed().as_secs_f64() * 1000.0);
            }
            control.cancel();
            if let Some(run) = run {
                let _ = run.join();
            }
        }
    }
    println!("{}, {} frames of each kind, {ROUNDS} rounds: latency in ms", model.display(), ROUNDS * FRAMES);
    println!("| detection | median | 95th percentile | against alone |\n|---|--:|--:|--:|");
    let percentile = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share) as usize];
    let mut alone = f64::NAN;
    for (beside, values) in Beside::ALL.iter().zip(&mut latencies) {
        let name = beside.name();
        values.sort_by(f64::total_cmp);
        let (median, high) = (percentile(values, 0.5), percentile(values, 0.95));
        alone = if alone.is_nan() { high } else { alone };
        println!("| {name} | {median:.1} | {high:.1} | {:+.0} % |", 100.0 * (high / alone - 1.0));
    }
    Ok(())
}

/// A guest's threads, one for each core, that count until they are cancelled.
fn count(control: Control) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let guest = Guest { idle: true, cpus: vec![] };
        let counted = guest.run(0, || {
            rayon::broadcast(|_| {
                let mut number = 0u64;
                while !control.is_cancelled() {
                    (0..1_000_000).for_each(|_| number = std::hint::black_box(number + 1));
                }
            })
        });
        counted.expect("threads that count");
    })
}

/// Starts a run that would go on for ever; the receiver is told when its first epoch is done.
fn start(
    guest: Guest,
    model: PathBuf,
    side: Option<usize>,
    control: Control,
) -> Result<(Receiver<()>, std::thread::JoinHandle<()>)> {
    let classes = Export::read(&model)?.classes;
    let data = DataSet::open(Path::new("demo/treecrowns/data.yaml"))?;
    let first = |examples: Vec<graftd::dataset::Example>| {
        let first = |mut example: graftd::dataset::Example| {
            example.labels.iter_mut().for_each(|label| label.class = 0);
            example
        };
        examples.into_iter().map(first).collect()
    };
    let set = TrainingSet { classes, train: first(data.train), holdout: first(data.val) };
    let options = TrainOptions {
        imgsz: side,
        epochs: 100_000,
        patience: 0,
        views: 1,
        threads: guest.threads(0),
        ..TrainOptions::default()
    };
    let (told, hears) = channel();
    let run = std::thread::spawn(move || {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let mut tell = |event: TrainEvent| {
            if matches!(event, TrainEvent::Epoch { epoch: 1, .. }) {
                let _ = told.send(());
            }
        };
        let ended = guest.run(options.threads, || {
            let runtime = runtime::open(&RuntimeChoice::default()).expect("it was opened before");
            fine_tune(&model, &set, &options, &*runtime, cache.path(), &mut tell, &control)
        });
        if let Ok(Err(error)) = ended
            && !control.is_cancelled()
        {
            eprintln!("the run ended: {error}");
        }
    });
    Ok((hears, run))
}
