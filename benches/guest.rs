//! What a run costs those who share the device with it: latency of detection, alone and beside a run.
//!
//! ```sh
//! cargo bench --bench guest                       # the bundled base
//! cargo bench --bench guest -- yolo11n.onnx 320   # another export, with its side where it is free
//! ```
//!
//! One process as the daemon is one: a thread detects ten frames a second on all cores, a run trains on all
//! cores. Rounds of each kind take turns, so that a machine that slows down slows all of them.

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

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let model = PathBuf::from(arguments.first().map_or("models/base.onnx", String::as_str));
    let side = arguments.get(1).and_then(|side| side.parse().ok());
    let data = DataSet::open(Path::new("demo/treecrowns/data.yaml"))?;
    let pictures = data.train.iter().map(|example| Picture::open(&example.picture));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let runtime = runtime::open(&RuntimeChoice::default())?;
    let mut detector = graftd::detect::Detector::open(&model, side, &*runtime, &SessionOptions::default())?;

    let kinds =
        [("alone", None), ("beside a run", Some(true)), ("beside a run that is no guest", Some(false))];
    let mut latencies: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (idle, latencies) in kinds.iter().map(|(_, idle)| idle).zip(&mut latencies) {
            let control = Control::new();
            let (trains, run) = match idle {
                None => (None, None),
                Some(idle) => {
                    let guest = Guest { idle: *idle, cpus: vec![] };
                    let (hears, run) = start(guest, model.clone(), side, control.clone())?;
                    (Some(hears), Some(run))
                }
            };
            if let Some(trains) = trains {
                trains.recv().context("the run ended before its first epoch")?;
            }
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
    for ((name, _), values) in kinds.iter().zip(&mut latencies) {
        values.sort_by(f64::total_cmp);
        let (median, high) = (percentile(values, 0.5), percentile(values, 0.95));
        alone = if alone.is_nan() { high } else { alone };
        println!("| {name} | {median:.1} | {high:.1} | {:+.0} % |", 100.0 * (high / alone - 1.0));
    }
    Ok(())
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
