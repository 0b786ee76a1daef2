//! From a camera's frame to boxes, against what ONNX Runtime alone needs for the same model on the finished
//! tensor: what graftd adds.
//!
//! ```sh
//! cargo bench --bench frame                       # the bundled base
//! cargo bench --bench frame -- yolo11n.onnx 320   # another export, with its side where it is free
//! ```
//!
//! Both take turns, frame by frame, so that a noisy machine disturbs them alike; the median of each counts.
//! The file is run as it is, with its own decoding; what it does not do, the suppression of overlapping boxes,
//! only graftd pays for.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use graftd::dataset::DataSet;
use graftd::detect::Detector;
use graftd::picture::Picture;
use graftd::runtime::{self, RuntimeChoice, Session, SessionOptions, Value};
use graftd::tensor::Tensor;
use graftd::train::cpu_seconds;
use graftd::yolo::backbone::input_size;
use graftd::yolo::export::Export;
use graftd::yolo::letterbox::{Fit, letterbox};
use graftd::yolo::nms::Keep;

const ROUNDS: usize = 12;
/// A camera's usual size.
const FRAME: (u32, u32) = (640, 480);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let model = arguments.first().map_or("models/base.onnx", String::as_str);
    let side = arguments.get(1).and_then(|side| side.parse().ok());
    let export = Export::read(Path::new(model)).with_context(|| model.to_owned())?;
    let size = input_size(&export, side).map_err(anyhow::Error::msg)?;
    let frames = frames()?;
    println!("{model} at {}x{}, frames of {}x{}, ms", size.1, size.0, FRAME.0, FRAME.1);
    println!(
        "| threads | measured | ONNX Runtime, tensor given | pixels → boxes | adds | JPEG → boxes | adds |"
    );
    println!("|--:|---|--:|--:|--:|--:|--:|");
    for threads in [1, 0] {
        measure(model, side, size, threads, &frames)?;
    }
    Ok(())
}

/// The demo's tiles, brought to a camera's size: pixels and JPEG.
fn frames() -> Result<Vec<(Picture, Vec<u8>)>> {
    let set = DataSet::open(Path::new("demo/treecrowns/data.yaml"))?;
    let frame = |picture: Picture| -> Result<(Picture, Vec<u8>)> {
        let mut frame = Picture::from_rgb(FRAME.0, FRAME.1, vec![0; (FRAME.0 * FRAME.1 * 3) as usize]);
        for x in (0..FRAME.0).step_by(picture.width() as usize) {
            for y in (0..FRAME.1).step_by(picture.height() as usize) {
                frame.paste(&picture, x, y);
            }
        }
        let jpeg = frame.to_jpeg(90)?;
        Ok((frame, jpeg))
    };
    set.train.iter().take(8).map(|example| frame(Picture::open(&example.picture)?)).collect()
}

/// Wall and CPU of each of the three ways, ms a frame.
#[derive(Default)]
struct Times {
    wall: [Vec<f64>; 3],
    cpu: [f64; 3],
}

impl Times {
    fn take<T>(&mut self, way: usize, work: impl FnOnce() -> Result<T>) -> Result<()> {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        std::hint::black_box(work()?);
        self.wall[way].push(wall.elapsed().as_secs_f64() * 1000.0);
        self.cpu[way] += (cpu_seconds() - cpu) * 1000.0;
        Ok(())
    }

    fn print(&mut self, threads: &str) {
        let row = |what: &str, [alone, pixels, jpeg]: [f64; 3]| {
            let adds = |way: f64| format!("{:+.1} %", (way / alone - 1.0) * 100.0);
            println!(
                "| {threads} | {what} | {alone:.2} | {pixels:.2} | {} | {jpeg:.2} | {} |",
                adds(pixels),
                adds(jpeg)
            );
        };
        let count = self.wall[0].len() as f64;
        row("latency, median", self.wall.each_mut().map(|times| median(times)));
        row("CPU", self.cpu.map(|cpu| cpu / count));
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(
    model: &str,
    side: Option<usize>,
    size: (usize, usize),
    threads: usize,
    frames: &[(Picture, Vec<u8>)],
) -> Result<()> {
    let runtime = runtime::open(&RuntimeChoice { kind: "ort".parse()?, library: None })?;
    let options = SessionOptions { threads };
    let mut alone: Box<dyn Session> = runtime.load(&std::fs::read(model)?, &options)?;
    let mut detector = Detector::open(Path::new(model), side, &*runtime, &options)?;
    let keep = Keep::to_use();
    let mut tensor = Tensor::zeros([1, 3, size.0, size.1]);
    let mut times = Times::default();
    for round in 0..=ROUNDS {
        if round == 1 {
            // The first round warmed everything up.
            times = Times::default();
        }
        for (picture, jpeg) in frames {
            letterbox(picture, size, Fit::Exact, tensor.data_mut());
            let input: Value = tensor.clone().into();
            times.take(0, || Ok(alone.run(&[&input])?))?;
            times.take(1, || Ok(detector.detect(picture, &keep)?))?;
            times.take(2, || Ok(detector.detect(&Picture::decode(jpeg)?, &keep)?))?;
        }
    }
    let words = if threads == 0 { "all".into() } else { threads.to_string() };
    times.print(&words);
    Ok(())
}
