//! What the host itself does for each picture between the graphs, and before them.
//!
//! ```sh
//! cargo bench --bench hot_path                 # times
//! scripts/instructions.sh                      # instruction counts under callgrind
//! ```
//!
//! Times on shared machines move by a tenth; instruction counts are the same in every run, so a change that
//! makes the hot path dearer shows there.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use divan::Bencher;
use graftd::dataset::DataSet;
use graftd::label::LabelBox;
use graftd::picture::{Picture, Thumbnail};
use graftd::select::{KeptLook, SelectOptions, Selector};
use graftd::yolo::assign::Assigner;
use graftd::yolo::criterion::{Criterion, Gains};
use graftd::yolo::decode::detections_of_maps;
use graftd::yolo::detection::Detection;
use graftd::yolo::letterbox::{Fit, letterbox};
use graftd::yolo::look::{Look, Sighting};
use graftd::yolo::maps::{HeadShape, Level, RawMaps};
use graftd::yolo::nms::Keep;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() {
    // `--count NAME` runs one of them once, for a tool that counts instructions.
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--count").map(|at| arguments.get(at + 1)) {
        None => divan::main(),
        Some(name) => {
            let name = name.map_or("", String::as_str);
            let scene = Scene::new(640, 80);
            match name {
                "criterion" => counted(|| scene.criterion()),
                "decode" => counted(|| scene.decode()),
                "letterbox" => counted(|| scene.letterbox()),
                "select" => {
                    let mut yard = Yard::new(KEPT);
                    counted(|| yard.decide());
                }
                _ => {
                    eprintln!("there is no {name:?}; there are criterion, decode, letterbox, select");
                    std::process::exit(2);
                }
            }
        }
    }
}

/// Callgrind counts what happens in here.
#[inline(never)]
fn counted(work: impl FnOnce() -> usize) {
    black_box(work());
}

/// A picture with boxes and what a head might say of it.
struct Scene {
    shape: HeadShape,
    boxes: Vec<Vec<f32>>,
    classes: Vec<Vec<f32>>,
    truth: Vec<LabelBox>,
    picture: Picture,
}

impl Scene {
    fn new(side: usize, classes: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let level = |stride: usize| Level { stride, height: side / stride, width: side / stride };
        let shape = HeadShape { levels: [8, 16, 32].map(level).into(), ..shape_of(side, classes) };
        let mut maps =
            |channels: usize, mut logit: Box<dyn FnMut(&mut ChaCha8Rng) -> f32>| -> Vec<Vec<f32>> {
                let map = |level: &Level| {
                    (0..channels * level.cells()).map(|_| logit(&mut random)).collect::<Vec<f32>>()
                };
                shape.levels.iter().map(map).collect()
            };
        let boxes = maps(64, Box::new(|random| random.random_range(-2.0..2.0)));
        // Most anchors see nothing, as a trained head has it; one in a thousand may see something.
        let class_maps = maps(
            classes,
            Box::new(|random| match random.random_range(0..1000) {
                0 => random.random_range(-7.0..2.0),
                _ => random.random_range(-12.0..-8.0),
            }),
        );
        let data = DataSet::open(Path::new("demo/treecrowns/data.yaml")).expect("the demo's pictures");
        let example = data.train.iter().max_by_key(|example| example.labels.len()).expect("a picture");
        Scene {
            boxes,
            classes: class_maps,
            truth: example.labels.clone(),
            picture: Picture::open(&example.picture).expect("a picture"),
            shape,
        }
    }

    fn maps(&self) -> RawMaps<'_> {
        RawMaps {
            batch: 1,
            boxes: self.boxes.iter().map(Vec::as_slice).collect(),
            classes: self.classes.iter().map(Vec::as_slice).collect(),
        }
    }

    fn criterion(&self) -> usize {
        let criterion = Criterion::new(&self.shape, Gains::default(), Assigner::ONE_TO_MANY);
        let mut gradients = criterion.gradients(1);
        let sums = criterion.sums(&self.maps(), std::slice::from_ref(&self.truth), &mut gradients);
        sums.scores as usize
    }

    fn decode(&self) -> usize {
        detections_of_maps(&self.shape, &self.maps(), 0, &Keep::to_measure()).len()
    }

    fn letterbox(&self) -> usize {
        let (height, width) = self.shape.input;
        let mut pixels = vec![0.0; 3 * height * width];
        letterbox(&self.picture, (height, width), Fit::Exact, &mut pixels);
        pixels.len()
    }
}

/// So many kept frames a selector remembers.
const KEPT: usize = 512;

/// Pooled features of a YOLO11n: mean and maximum of 64, 128 and 256 channels.
const FEATURES: usize = 896;

/// Channels of a backbone go together: what they say of a view can be said in a few numbers.
const CAUSES: usize = 12;

/// A fixed camera whose frames differ in a small thing alone: comparing them takes longest.
struct Yard {
    selector: Selector,
    frames: Vec<(Picture, Look)>,
    next: usize,
    clock: Instant,
}

impl Yard {
    fn new(kept: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let data = DataSet::open(Path::new("demo/treecrowns/data.yaml")).expect("the demo's pictures");
        let ground = Picture::open(&data.train[0].picture).expect("a picture");
        let mut view = Picture::filled(640, 480, [0; 3]);
        for (x, y) in [(0, 0), (400, 0), (0, 400), (400, 400)] {
            view.paste(&ground, x, y);
        }
        let effects: Vec<f32> = (0..FEATURES * CAUSES).map(|_| random.random_range(-1.0_f32..1.0)).collect();
        let mut frame = || {
            let mut picture = view.clone();
            let [x, y] = [600, 440].map(|end| random.random_range(0.0..end as f32));
            picture.draw_box([x, y, x + 30.0, y + 30.0], 15, [240, 230, 20]);
            let causes: [f32; CAUSES] = std::array::from_fn(|_| random.random_range(-1.0..1.0));
            let features = effects.chunks(CAUSES).map(|of| of.iter().zip(&causes).map(|(a, b)| a * b).sum());
            let features =
                features.map(|value: f32| value + 0.1 * random.random_range(-1.0_f32..1.0)).collect();
            let detection = Detection { x1: x, y1: y, x2: x + 30.0, y2: y + 30.0, score: 0.6, class: 0 };
            let look = Look {
                found: vec![detection],
                sightings: vec![Sighting { detection, rival: Some((1, 0.2)) }],
                features,
            };
            (picture, look)
        };
        // A budget of none: what is kept stays the same however often this is measured.
        let options = SelectOptions { per_hour: 0, ..SelectOptions::default() };
        let mut selector = Selector::new(options, &["weed".into(), "thistle".into()], 1);
        for _ in 0..kept {
            let (picture, Look { features, .. }) = frame();
            selector.remember(KeptLook { thumbnail: Thumbnail::of(&picture), features }, &[0]);
        }
        let frames = (0..16).map(|_| frame()).collect();
        Yard { selector, frames, next: 0, clock: Instant::now() }
    }

    fn decide(&mut self) -> usize {
        let (picture, look) = &self.frames[self.next % self.frames.len()];
        self.next += 1;
        self.clock += Duration::from_secs(1);
        usize::from(self.selector.decide(picture, look, false, self.clock).is_some())
    }
}

/// Whether a camera's frame of 640 × 480 px is worth keeping, beside so many kept ones.
#[divan::bench(args = [0, KEPT])]
fn select(bencher: Bencher, kept: usize) {
    let mut yard = Yard::new(kept);
    bencher.bench_local(|| yard.decide());
}

fn shape_of(side: usize, classes: usize) -> HeadShape {
    HeadShape { input: (side, side), levels: Vec::new(), reg_max: 16, classes, one_to_one: false }
}

const SIDES: [usize; 2] = [320, 640];

/// Loss and gradient of a picture: 80 classes, the demo's fullest picture.
#[divan::bench(args = SIDES)]
fn criterion(bencher: Bencher, side: usize) {
    let scene = Scene::new(side, 80);
    bencher.bench_local(|| scene.criterion());
}

/// Boxes out of raw maps, as measuring does it.
#[divan::bench(args = SIDES)]
fn decode(bencher: Bencher, side: usize) {
    let scene = Scene::new(side, 80);
    bencher.bench_local(|| scene.decode());
}

/// A picture into the network's input.
#[divan::bench(args = SIDES)]
fn letterboxed(bencher: Bencher, side: usize) {
    let scene = Scene::new(side, 80);
    bencher.bench_local(|| scene.letterbox());
}
