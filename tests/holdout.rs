//! The hold-out is chosen once and stays put, whatever becomes of labels, store and configuration; and no run learns
//! from it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;
#[allow(dead_code, reason = "this file uses a part of it")]
#[path = "support/variant.rs"]
mod variant;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use graftd::label::Provenance;
use graftd::picture::Picture;
use graftd::runtime::{RuntimeChoice, RuntimeKind, open};
use graftd::store::{NewLabels, Sample, Store};
use graftd::train::{
    Control, Folders, Scope, TrainEvent, TrainOptions, TrainingSet, fine_tune, forget_checkpoint,
};
use serde_json::{Value, json};
use support::samples::{a_box, new_labels, new_sample};

const TILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/treecrowns/images/train");

/// The demo's training tiles.
fn tiles() -> Vec<PathBuf> {
    let mut tiles: Vec<PathBuf> = fs::read_dir(TILES).unwrap().map(|entry| entry.unwrap().path()).collect();
    tiles.sort();
    tiles
}

/// A device's state whose configuration holds out this share of what is newly labelled.
struct Device(tempfile::TempDir);

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        Device(dir)
    }

    fn open(&self) -> Store {
        Store::open(self.0.path()).unwrap()
    }

    /// Runs the program under a configuration with this share.
    fn graftd(&self, share: f64, args: &[&str]) -> Value {
        let config = self.0.path().join("graftd.toml");
        fs::write(&config, format!("[train]\nholdout_share = {share:?}\n")).unwrap();
        let mut command = support::graftd();
        command.args(args).arg("--config").arg(&config).arg("--state-dir").arg(self.0.path()).arg("--json");
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {words}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
    }

    fn import(&self, share: f64, data: &Path) -> Value {
        let data = data.to_str().unwrap();
        match data.ends_with(".json") {
            true => self.graftd(share, &["import", data, "--images", TILES]),
            false => self.graftd(share, &["import", data]),
        }
    }

    fn samples(&self) -> Vec<Sample> {
        self.open().samples().iter().map(Result::unwrap).collect()
    }

    /// Frames and whether they are held out; what runs are given must say the same.
    fn parts(&self) -> BTreeMap<String, bool> {
        let parts: BTreeMap<String, bool> = self
            .samples()
            .into_iter()
            .filter_map(|sample| Some((sample.frame, sample.labels?.holdout)))
            .collect();
        let (learn, held) = self.open().samples().truth().unwrap();
        let names = |examples: &[graftd::dataset::Example]| -> HashSet<String> {
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            examples.iter().map(|example| name(&example.picture)).collect()
        };
        let of = |part: bool| -> HashSet<String> {
            parts.iter().filter(|(_, is_held)| **is_held == part).map(|(frame, _)| frame.clone()).collect()
        };
        assert_eq!((names(&learn), names(&held)), (of(false), of(true)));
        parts
    }
}

/// A COCO file of these pictures with a box of this width on each, which says nothing of parts.
fn coco(folder: &Path, pictures: &[PathBuf], width: f64) -> PathBuf {
    let name = |picture: &PathBuf| picture.file_name().unwrap().to_string_lossy().into_owned();
    let image = |(id, name)| json!({"id": id, "file_name": name, "width": 400, "height": 400});
    let images = pictures.iter().map(name).enumerate().map(image);
    let boxes = (0..pictures.len())
        .map(|id| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [40.0, 50.0, width, 60.0]}));
    let path = folder.join("coco.json");
    let all = json!({
        "images": images.collect::<Vec<_>>(), "annotations": boxes.collect::<Vec<_>>(),
        "categories": [{"id": 1, "name": "tree"}],
    });
    fs::write(&path, all.to_string()).unwrap();
    path
}

/// A YOLO folder that has these samples in the parts that they are not in.
fn other_way_round(folder: &Path, store: &Store, samples: &[Sample]) -> PathBuf {
    for sample in samples {
        let part = if sample.labels.as_ref().unwrap().holdout { "train" } else { "val" };
        for kind in ["images", "labels"] {
            fs::create_dir_all(folder.join(kind).join(part)).unwrap();
        }
        let picture = folder.join("images").join(part).join(&sample.frame);
        fs::copy(store.samples().frame_path(sample), &picture).unwrap();
        let label = folder.join("labels").join(part).join(&sample.frame).with_extension("txt");
        fs::write(label, "0 0.3 0.3 0.2 0.1\n").unwrap();
    }
    let yaml = folder.join("data.yaml");
    fs::write(&yaml, "train: images/train\nval: images/val\nnames: [tree]\n").unwrap();
    yaml
}

#[test]
fn what_is_held_out_stays_so_whatever_is_said_later() {
    let _turn = support::turn();
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let tiles = tiles();
    let imported = device.import(0.3, &coco(folder.path(), &tiles, 50.0));
    assert_eq!(imported["added"], tiles.len());
    let parts = device.parts();
    let held = parts.values().filter(|is_held| **is_held).count();
    assert!(parts.len() == tiles.len() && (3..=17).contains(&held), "{held} of {}", parts.len());

    // Imported again with other boxes, under other shares.
    for (share, width) in [(0.0, 60.0), (1.0, 70.0)] {
        let imported = device.import(share, &coco(folder.path(), &tiles, width));
        assert_eq!(imported["labelled"], tiles.len());
        assert_eq!(device.parts(), parts, "{share}");
    }
    // By a data set that divides them the other way round.
    let reversed = folder.path().join("reversed");
    let samples = device.samples();
    let yaml = other_way_round(&reversed, &device.open(), &samples);
    assert_eq!(device.import(0.5, &yaml)["labelled"], tiles.len());
    assert_eq!(device.parts(), parts);

    // By a person, one of each part.
    let samples = device.samples();
    for part in [true, false] {
        let sample = samples.iter().find(|sample| parts[&sample.frame] == part).unwrap().id.to_string();
        for share in [0.0, 1.0] {
            device.graftd(share, &["samples", "label", &sample, "--box", "tree,0.5,0.5,0.2,0.2"]);
            assert_eq!(device.parts(), parts, "{share}");
        }
    }
    // The database is lost.
    fs::remove_dir_all(device.0.path().join("store")).unwrap();
    assert_eq!(device.parts(), parts);
}

#[test]
fn a_picture_that_comes_anew_comes_into_the_part_that_it_was_in() {
    let _turn = support::turn();
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let mut tiles = tiles();
    let data = coco(folder.path(), &tiles, 50.0);
    device.import(0.4, &data);
    let parts = device.parts();

    let ids: Vec<String> = device.samples().iter().map(|sample| sample.id.to_string()).collect();
    let delete: Vec<&str> = ["samples", "delete"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    device.graftd(0.4, &delete);
    assert!(device.parts().is_empty());
    tiles.reverse();
    device.import(0.4, &coco(folder.path(), &tiles, 50.0));
    assert_eq!(device.parts(), parts);

    // A frame that was kept twice is not in both parts.
    let store = device.open();
    for tile in &tiles {
        let again = store.samples().add(&fs::read(tile).unwrap(), new_sample("again")).unwrap();
        let again = store.samples().label(again.id, new_labels(None), 0.4).unwrap();
        assert_eq!(again.labels.unwrap().holdout, parts[&again.frame]);
    }
    drop(store);

    // A greater share holds out more, and nothing less.
    let other = Device::new();
    other.import(0.8, &data);
    let more = other.parts();
    assert!(parts.iter().all(|(frame, is_held)| !is_held || more[frame]));
    assert!(more.values().filter(|held| **held).count() > parts.values().filter(|held| **held).count());
}

#[test]
fn no_run_learns_from_a_frame_that_is_held_out_or_shows_the_same_view() {
    let _turn = support::turn();
    let (device, folder) = (Device::new(), tempfile::tempdir().unwrap());
    let store = device.open();
    store.samples().set_classes(&["tree".into()]).unwrap();
    let label = |bytes: &[u8], holdout: bool| {
        let sample = store.samples().add(bytes, new_sample("camera")).unwrap();
        let labels = NewLabels {
            boxes: vec![a_box()],
            covers: None,
            provenance: Provenance::Human,
            holdout: Some(holdout),
        };
        store.samples().label(sample.id, labels, 0.0).unwrap();
    };
    for (number, tile) in tiles()[..8].iter().enumerate() {
        let bytes = fs::read(tile).unwrap();
        let is_held = number % 4 == 0;
        label(&bytes, is_held);
        if is_held {
            // The frame itself, said to be learnt from; and the one after it, in other light.
            label(&bytes, false);
            let mut picture = Picture::decode(&bytes).unwrap();
            picture.rgb_mut().iter_mut().for_each(|value| *value = value.saturating_add(6));
            label(&picture.to_jpeg(80).unwrap(), false);
        }
    }
    let (train, holdout) = store.samples().truth().unwrap();
    assert_eq!((train.len(), holdout.len()), (10, 2));

    let base = folder.path().join("base.onnx");
    let model = variant::resized(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base.onnx"), 96, "tree");
    fs::write(&base, model.encode()).unwrap();
    let runtime = open(&RuntimeChoice { kind: RuntimeKind::Ort, library: None }).unwrap();
    let set = TrainingSet { classes: vec!["tree".into()], train, holdout };
    let options = TrainOptions { epochs: 1, views: 1, scope: Scope::Last.into(), ..TrainOptions::default() };
    let cache = folder.path().join("cache");
    let mut told = Vec::new();
    let outcome = fine_tune(
        &base,
        &set,
        &options,
        &*runtime,
        Folders { cache: &cache, memory: None },
        &mut |event| told.push(event),
        &Control::new(),
    )
    .unwrap();
    forget_checkpoint(&cache).unwrap();
    assert_eq!(outcome.left_out, 4);
    let started = |event: &TrainEvent| match event {
        TrainEvent::Started { samples, holdout, .. } => Some((*samples, *holdout)),
        _ => None,
    };
    assert_eq!(told.iter().find_map(started), Some((6, 2)), "{told:?}");
}
