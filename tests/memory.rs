//! Learning without forgetting: the replay memory on the disk, what 8 bits cost, and a model that is
//! taught a new class with pictures on which the old one is not labelled.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "support/heads.rs"]
mod heads;
#[path = "support/shapes.rs"]
mod shapes;
#[path = "support/variant.rs"]
mod variant;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use graftd::dataset::{DataSet, Example};
use graftd::detect::Detector;
use graftd::label::LabelBox;
use graftd::onnx::Model;
use graftd::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions};
use graftd::train::{
    Admission, Control, Distill, Folders, Memory, Outcome, Record, TrainOptions, TrainingSet, fine_tune,
};
use graftd::yolo::export::Export;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shapes::{labelled_for, scenes};

const ONE: &[u8] = b"one backbone";
const SIZE: (usize, usize) = (64, 32);

fn shapes_of_features() -> Vec<Vec<usize>> {
    vec![vec![1, 3, 4, 2], vec![1, 5, 2, 1]]
}

fn open(root: &Path, budget: u64) -> Memory {
    Memory::open(root, ONE, SIZE, &shapes_of_features(), budget).unwrap()
}

/// Sample number `number` with a box of each of `classes`.
fn candidate(number: u8, classes: &[&str]) -> Record {
    Record {
        sample: [number; 32],
        key: [number ^ 0x55; 32],
        run: 0,
        classes: ["hen", "fox", "egg"].map(str::to_owned).to_vec(),
        boxes: classes
            .iter()
            .map(|class| LabelBox {
                class: ["hen", "fox", "egg"].iter().position(|name| name == class).unwrap() as u32,
                cx: 0.5,
                cy: 0.25,
                w: 0.1,
                h: f32::from(number) / 255.0,
            })
            .collect(),
    }
}

/// Features that tell which sample they are of.
fn fill(number: u8, targets: &mut [&mut [f32]]) {
    for (feature, target) in targets.iter_mut().enumerate() {
        for (place, value) in target.iter_mut().enumerate() {
            *value = f32::from(number) + feature as f32 * 0.5 - place as f32 * 0.01;
        }
    }
}

fn admit(memory: &mut Memory, candidates: &[Record]) -> Admission {
    let numbers: Vec<u8> = candidates.iter().map(|record| record.sample[0]).collect();
    memory.admit(candidates.to_vec(), 7, |index, targets| fill(numbers[index], targets)).unwrap()
}

/// Every record with the features that it should have.
fn check(memory: &Memory) {
    for (index, record) in memory.records().iter().enumerate() {
        let (mut first, mut second) = ([0.0; 24], [0.0; 10]);
        memory.read(index, &mut [&mut first, &mut second]).unwrap();
        let (mut third, mut fourth) = ([0.0; 24], [0.0; 10]);
        fill(record.sample[0], &mut [&mut third, &mut fourth]);
        let pairs = first.iter().zip(&third).chain(second.iter().zip(&fourth));
        for (found, expected) in pairs {
            assert!((found - expected).abs() < 2e-4, "{found} is not {expected}");
        }
    }
}

/// Files of records below a folder.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rec") {
            found.push(path);
        }
    }
    found
}

fn bytes_of(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn samples_come_back_after_reopening() {
    let root = tempfile::tempdir().unwrap();
    let mut memory = open(root.path(), 1 << 20);
    let candidates: Vec<Record> = (0..9).map(|number| candidate(number, &["hen", "egg"])).collect();
    assert_eq!(admit(&mut memory, &candidates), Admission { entered: 9, left: 0 });
    check(&memory);
    let size = memory.size();
    drop(memory);
    let memory = open(root.path(), 1 << 20);
    assert_eq!(memory.records().len(), 9);
    assert_eq!((memory.size(), memory.size()), (size, bytes_of(&files(root.path()))));
    check(&memory);
    for (record, expected) in memory
        .records()
        .iter()
        .map(|record| (record.clone(), Record { run: 1, ..candidate(record.sample[0], &["hen", "egg"]) }))
    {
        assert_eq!(record, expected);
    }
}

#[test]
fn the_budget_holds_and_no_class_or_run_is_pushed_out() {
    let root = tempfile::tempdir().unwrap();
    let mut memory = open(root.path(), 1 << 20);
    admit(&mut memory, &[candidate(0, &["hen"])]);
    let (one, budget) = (memory.size(), 20 * memory.size());
    drop(memory);
    let mut memory = open(root.path(), budget);
    // Three runs: a few foxes first, then hens again and again.
    let foxes: Vec<Record> = (1..6).map(|number| candidate(number, &["fox"])).collect();
    admit(&mut memory, &foxes);
    for run in 0..3_u8 {
        let hens: Vec<Record> = (0..30).map(|number| candidate(50 + 30 * run + number, &["hen"])).collect();
        admit(&mut memory, &hens);
        assert!(bytes_of(&files(root.path())) <= budget);
        assert_eq!(memory.size(), bytes_of(&files(root.path())));
    }
    check(&memory);
    let mut counts: HashMap<(String, u64), usize> = HashMap::new();
    for record in memory.records() {
        let class = record.classes[record.boxes[0].class as usize].clone();
        *counts.entry((class, record.run)).or_default() += 1;
    }
    let count = |class: &str, run: u64| counts.get(&(class.to_owned(), run)).copied().unwrap_or(0);
    assert_eq!(memory.records().len() as u64, budget / one);
    assert_eq!(count("fox", 2), 5, "{counts:?}");
    // The one hen of the first run, and the others in equal parts.
    assert_eq!(count("hen", 1), 1, "{counts:?}");
    for run in 3..6 {
        assert!((4..=5).contains(&count("hen", run)), "{counts:?}");
    }
}

#[test]
fn what_stays_depends_on_the_seed_alone() {
    let keys = |seed: u64| {
        let root = tempfile::tempdir().unwrap();
        let mut memory = open(root.path(), 4_000);
        let candidates: Vec<Record> = (0..60).map(|number| candidate(number, &["hen"])).collect();
        memory.admit(candidates, seed, |index, targets| fill(index as u8, targets)).unwrap();
        memory.records().iter().map(|record| record.key).collect::<Vec<_>>()
    };
    assert!((5..60).contains(&keys(1).len()));
    assert_eq!(keys(1), keys(1));
    assert_ne!(keys(1), keys(2));
}

#[test]
fn a_sample_that_comes_again_is_replaced_and_stays_as_old_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let mut memory = open(root.path(), 1 << 20);
    admit(&mut memory, &[candidate(1, &["hen"]), candidate(2, &["hen"])]);
    let corrected = Record { key: [99; 32], ..candidate(1, &["fox"]) };
    let done = admit(&mut memory, &[corrected.clone(), candidate(3, &["hen"]), candidate(3, &["hen"])]);
    assert_eq!(done, Admission { entered: 2, left: 1 });
    let runs: HashMap<u8, u64> =
        memory.records().iter().map(|record| (record.sample[0], record.run)).collect();
    assert_eq!(runs, HashMap::from([(1, 1), (2, 1), (3, 2)]));
    let found = memory.records().iter().find(|record| record.sample[0] == 1).unwrap();
    assert_eq!(found.boxes, corrected.boxes);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let root = tempfile::tempdir().unwrap();
    let mut memory = open(root.path(), 1 << 20);
    let candidates: Vec<Record> = (0..5).map(|number| candidate(number, &["hen"])).collect();
    admit(&mut memory, &candidates);
    let done = memory.admit(candidates, 7, |_, _| panic!("nothing is to be read")).unwrap();
    assert_eq!(done, Admission { entered: 0, left: 0 });
    check(&memory);
}

#[test]
fn torn_and_damaged_files_are_left_out() {
    let root = tempfile::tempdir().unwrap();
    let mut memory = open(root.path(), 1 << 20);
    let candidates: Vec<Record> = (0..8).map(|number| candidate(number, &["hen"])).collect();
    admit(&mut memory, &candidates);
    drop(memory);
    let paths = files(root.path());
    let folder = paths[0].parent().unwrap().to_owned();
    // A write that a power cut ended, a file cut short, a bit that fell over, another's name.
    fs::write(folder.join(".new-abc"), b"half").unwrap();
    let bytes = fs::read(&paths[0]).unwrap();
    fs::write(&paths[0], &bytes[..bytes.len() / 2]).unwrap();
    let mut bytes = fs::read(&paths[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 16;
    fs::write(&paths[1], bytes).unwrap();
    fs::rename(&paths[2], folder.join(format!("{}.rec", "0".repeat(64)))).unwrap();
    let memory = open(root.path(), 1 << 20);
    assert_eq!(memory.records().len(), 5);
    check(&memory);
    assert_eq!(files(root.path()).len(), 5);
    assert!(!folder.join(".new-abc").exists());

    // What is damaged while the memory is open is an error, not somebody's features.
    let path = files(root.path()).into_iter().min().unwrap();
    fs::write(&path, b"nothing").unwrap();
    let error = memory.read(0, &mut [&mut [0.0; 24], &mut [0.0; 10]]).unwrap_err().to_string();
    assert!(error.contains("run again"), "{error}");
}

#[test]
fn one_run_at_a_time_and_other_backbones_make_room() {
    let root = tempfile::tempdir().unwrap();
    let shapes = shapes_of_features();
    let mut memory = open(root.path(), 1 << 20);
    let candidates: Vec<Record> = (0..8).map(|number| candidate(number, &["hen"])).collect();
    admit(&mut memory, &candidates);
    let size = memory.size();
    let other = || Memory::open(root.path(), b"other backbone", SIZE, &shapes, size + size / 2);
    let error = other().err().unwrap().to_string();
    assert!(error.contains("another run"), "{error}");
    drop(memory);

    let mut memory = other().unwrap();
    assert!(memory.records().is_empty());
    assert_eq!(files(root.path()).len(), 8, "nothing is deleted for nothing");
    admit(&mut memory, &candidates[..3]);
    assert_eq!(files(root.path()).len(), 11);
    admit(&mut memory, &candidates[3..]);
    assert_eq!(memory.records().len(), 8);
    assert_eq!(files(root.path()).len(), 8);
    check(&memory);
}

#[test]
fn a_batch_draws_each_record_once() {
    let usable: Vec<usize> = (10..20).collect();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut drawn = Memory::sample(&usable, 10, &mut random);
    drawn.sort_unstable();
    assert_eq!(drawn, usable);
    assert_eq!(Memory::sample(&usable, 25, &mut random).len(), 25);
    assert!(Memory::sample(&[], 4, &mut random).is_empty());
}

fn ort() -> Box<dyn Runtime> {
    runtime::open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None }).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn eight_bits_cost_less_than_0_3_points_of_map() {
    let export = Export::read(&root().join("models/base.onnx")).unwrap();
    let data = DataSet::open(&root().join("demo/treecrowns/data.yaml")).unwrap();
    let (examples, runtime) = ([data.train, data.val].concat(), ort());
    let map = |change: fn(&mut [f32], usize)| {
        heads::evaluate(&export, &examples, &*runtime, change).map50_95.unwrap()
    };
    let (half, bytes) = (map(heads::in_half), map(heads::in_eight_bits));
    assert!(half > 0.03, "{half}");
    assert!((half - bytes).abs() < 0.003, "{half} became {bytes}");
    // And the comparison can fail: one bit is not enough.
    let coarse = map(|values, channels| {
        for channel in values.chunks_mut(values.len() / channels) {
            let (low, high) = channel.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            let step = (high - low).max(1e-9);
            channel.iter_mut().for_each(|value| *value = low + ((*value - low) / step).round() * step);
        }
    });
    assert!((half - coarse).abs() > 0.003, "{half} and {coarse}");
}

/// A folder for a world of its own, 128 pixels to a side.
struct World {
    folder: tempfile::TempDir,
    runtime: Box<dyn Runtime>,
}

const SIDE: usize = 128;
const NAMES: [&str; 2] = ["ellipse", "rectangle"];

impl World {
    fn scenes(&self, count: usize, seed: u64) -> Vec<Example> {
        scenes(&self.folder.path().join("pictures"), count, SIDE as u32, seed)
    }

    fn learn(
        &self,
        base: &Path,
        names: &[&str],
        [train, holdout]: [Vec<Example>; 2],
        distill: Distill,
        memory: Option<&Path>,
    ) -> Outcome {
        let classes = names.iter().map(|name| (*name).to_owned()).collect();
        let set = TrainingSet { classes, train, holdout };
        let options = TrainOptions { epochs: 14, views: 2, patience: 0, distill, ..TrainOptions::default() };
        let cache = self.folder.path().join("features");
        let folders = Folders { cache: &cache, memory };
        fine_tune(base, &set, &options, &*self.runtime, folders, &mut |_| {}, &Control::new()).unwrap()
    }

    /// AP50 of both classes.
    fn measure(&self, model: &Path, test: &[Example]) -> [f64; 2] {
        let options = SessionOptions { threads: 0 };
        let mut detector = Detector::open(model, None, &*self.runtime, &options).unwrap();
        let evaluation = detector.evaluate(test, |_| {}).unwrap();
        let of = |name: &str| evaluation.per_class.iter().find(|class| class.class == name);
        NAMES.map(|name| of(name).map_or(0.0, |class| class.ap50))
    }
}

#[test]
fn a_new_class_does_not_push_out_the_old_one() {
    let world = World { folder: tempfile::tempdir().unwrap(), runtime: ort() };
    let file = |name: &str| world.folder.path().join(name);
    let (old, new) = ([world.scenes(24, 1), world.scenes(6, 2)], [world.scenes(24, 3), world.scenes(6, 4)]);
    let test = world.scenes(30, 5);
    let only = |class: u32, parts: &[Vec<Example>; 2]| [0, 1].map(|i| labelled_for(&parts[i], class));

    let start = file("start.onnx");
    let model = variant::resized(&root().join("models/base.onnx"), SIDE, NAMES[0]);
    fs::write(&start, model.encode()).unwrap();
    let memory = file("memory");
    let outcome = world.learn(&start, &NAMES[..1], only(0, &old), Distill::Auto, Some(&memory));
    assert!(outcome.verdict.promoted, "{}", outcome.verdict.reason);
    assert_eq!(files(&memory).len(), 48, "two views of each sample are remembered");
    let base = file("base.onnx");
    let grown = variant::with_class(Model::parse(&outcome.model).unwrap(), &NAMES);
    fs::write(&base, grown.encode()).unwrap();

    let before = world.measure(&base, &test);
    let after = |distill: Distill, memory: Option<&Path>| {
        let outcome = world.learn(&base, &NAMES, only(1, &new), distill, memory);
        fs::write(file("after.onnx"), &outcome.model).unwrap();
        world.measure(&file("after.onnx"), &test)
    };
    let (plain, taught) = (after(Distill::Off, None), after(Distill::Auto, None));
    let remembered = after(Distill::Auto, Some(&memory));
    println!("before {before:.3?}, plain {plain:.3?}, taught {taught:.3?}, remembered {remembered:.3?}");
    assert!(before[0] > 0.5, "{before:?}");
    assert!(plain[0] < before[0] / 2.0, "plain fine-tuning forgets: {before:?} {plain:?}");
    for kept in [taught, remembered] {
        assert!(kept[0] > before[0] - 0.08, "the old class stays: {before:?} {kept:?}");
        assert!(kept[1] > plain[1] - 0.08, "the new one is learnt as well: {plain:?} {kept:?}");
    }
}
