//! A store that an earlier graftd wrote is read: records of each version in sled, and the copies beside frames.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use graftd::label::{LabelBox, Provenance};
use graftd::store::{FoundBox, Interest, Labels, NewLabels, Sample, SampleId, Store, StoreError};

/// What a version wrote, as it wrote it.
fn written(version: u8) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/store-v{version}"))
}

const LABELLED: &str = "01a210a3-eee6-7639-8245-62dc58efbe76";
const UNLABELLED: &str = "01a210a3-eee8-7109-9009-bbd54f877a87";

fn id(text: &str) -> SampleId {
    text.parse().unwrap()
}

/// What the two samples were when version 1 wrote them.
fn samples() -> [Sample; 2] {
    let label = |class, cx, cy, w, h| LabelBox { class, cx, cy, w, h };
    let labels = Labels {
        boxes: vec![label(0, 0.5, 0.25, 0.125, 0.5), label(2, 0.75, 0.75, 0.25, 0.25)],
        provenance: Provenance::Human,
        holdout: true,
        at_ms: 1795575508711,
        covers: None,
    };
    let sample = |id: SampleId, frame: &str, taken_ms, source: &str, labels| Sample {
        id,
        frame: frame.into(),
        width: 400,
        height: 300,
        taken_ms,
        source: source.into(),
        why: "unsure: a box has confidence 0.41".into(),
        interest: Interest::Notable,
        bytes: 0,
        change: 0,
        found: vec![FoundBox { label: label(1, 0.25, 0.5, 0.125, 0.25), score: 0.5 }],
        labels,
    };
    [
        sample(
            id(LABELLED),
            "9e4ddd33a6ab83cd52627355664132061a47b9d240a2cf700379064acc5f37e5.jpg",
            1_764_000_000_250,
            "a.jpg",
            Some(labels),
        ),
        sample(
            id(UNLABELLED),
            "105c384a41c410a8ed4e1cfa9552634f1f7e4413f7efcaac932597bdf5a838c9.jpg",
            1_764_000_001_250,
            "b.jpg",
            None,
        ),
    ]
}

/// The version of the store in `dir`, as it lies there.
fn version(dir: &Path) -> Vec<u8> {
    let db = sled::open(dir.join("store")).unwrap();
    db.open_tree("meta").unwrap().get("schema").unwrap().unwrap().to_vec()
}

/// Samples of version 2, as far as they differ: name, why, how notable, and what the labels cover.
type Known = (&'static str, &'static str, Interest, Option<Vec<u32>>);

fn samples_of_2() -> [Known; 3] {
    [
        (
            "01a21161-c1ff-754c-a541-fa7292274f75",
            "unsure: a box has confidence 0.41",
            Interest::Notable,
            Some(vec![0, 2]),
        ),
        ("01a21161-c202-7409-9ed1-7d4cf9ad89ac", "random", Interest::Ordinary, None),
        ("01a21161-c204-75bc-a5cb-72bc1fe7a825", "asked for", Interest::Asked, None),
    ]
}

/// Lays records into sled as a version did that kept an index of 17 bytes a key.
fn lay_records(dir: &Path, version: u8, samples: &[(&str, u8)]) {
    let db = sled::open(dir.join("store")).unwrap();
    let (meta, records, states) = (
        db.open_tree("meta").unwrap(),
        db.open_tree("samples").unwrap(),
        db.open_tree("samples_by_state").unwrap(),
    );
    meta.insert("schema", &[version]).unwrap();
    meta.insert("classes", fs::read(written(version).join("records/classes")).unwrap()).unwrap();
    for (name, state) in samples {
        let bytes = fs::read(written(version).join("records").join(name)).unwrap();
        assert_eq!(bytes[0], version);
        let key = uuid::Uuid::try_parse(name).unwrap();
        records.insert(key.as_bytes(), bytes).unwrap();
        states.insert([&[*state], key.as_bytes().as_slice()].concat(), &[]).unwrap();
    }
}

/// Lays the files beside the database as a version did; without the copies, only the frames.
fn lay_blobs(dir: &Path, version: u8, copies: bool) {
    for folder in fs::read_dir(written(version).join("blobs")).unwrap() {
        let folder = folder.unwrap();
        let to = dir.join("blobs").join(folder.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            if copies || file.path().extension().is_some_and(|extension| extension == "jpg") {
                fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
}

/// What is known of samples without what is new: it is checked apart.
fn found(store: &Store) -> Vec<Sample> {
    let all = store.samples().iter().map(Result::unwrap);
    all.map(|sample| {
        let size = fs::metadata(store.samples().frame_path(&sample)).unwrap().len();
        assert_eq!(sample.bytes, size);
        Sample { bytes: 0, change: 0, ..sample }
    })
    .collect()
}

#[test]
fn records_of_version_1_become_those_of_today() {
    let dir = tempfile::tempdir().unwrap();
    // No copies lie beside frames: what is read comes from sled.
    lay_records(dir.path(), 1, &[(LABELLED, b'h'), (UNLABELLED, b'u')]);
    lay_blobs(dir.path(), 1, false);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(found(&store), samples());
    assert_eq!(store.samples().classes().unwrap(), ["crown", "weed", "pallet"]);
    let counts = store.samples().counts();
    assert_eq!((counts.samples, counts.holdout), (2, 1));
    let (_, measure) = store.samples().truth().unwrap();
    assert_eq!((measure[0].labels.len(), &measure[0].covers), (2, &None));
    let new =
        NewLabels { boxes: vec![], covers: Some(vec![1]), provenance: Provenance::Human, holdout: None };
    let labelled = store.samples().label(id(LABELLED), new, 0.0).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.samples().get(id(LABELLED)).unwrap(), labelled);
    assert_eq!(labelled.labels.unwrap().covers, Some(vec![1]));
    drop(store);
    assert_eq!(version(dir.path()), [4], "version 1 would take its new records for damaged");
}

#[test]
fn records_of_version_2_become_those_of_today() {
    let dir = tempfile::tempdir().unwrap();
    let known = samples_of_2();
    lay_records(dir.path(), 2, &[(known[0].0, b'h'), (known[1].0, b'u'), (known[2].0, b'u')]);
    lay_blobs(dir.path(), 2, false);
    check_version_2(dir.path());
}

#[test]
fn copies_that_version_2_wrote_restore_its_samples() {
    let dir = tempfile::tempdir().unwrap();
    lay_blobs(dir.path(), 2, true);
    check_version_2(dir.path());
}

fn check_version_2(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let found = found(&store);
    assert_eq!(found.len(), 3);
    for (sample, (name, why, interest, covers)) in found.iter().zip(samples_of_2()) {
        assert_eq!((sample.id, sample.why.as_str(), sample.interest), (id(name), why, interest));
        assert_eq!(sample.labels.as_ref().and_then(|labels| labels.covers.clone()), covers);
    }
    assert_eq!(found[0].labels.as_ref().unwrap().boxes, samples()[0].labels.as_ref().unwrap().boxes);
    let counts = store.samples().counts();
    assert_eq!((counts.samples, counts.labelled, counts.holdout), (3, 0, 1));
    let (_, measure) = store.samples().truth().unwrap();
    assert!(measure[0].picture.exists());
}

#[test]
fn copies_that_version_1_wrote_restore_its_samples() {
    let dir = tempfile::tempdir().unwrap();
    lay_blobs(dir.path(), 1, true);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(found(&store), samples());
}

#[test]
fn a_store_of_a_later_version_is_turned_away_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let db = sled::open(dir.path().join("store")).unwrap();
    db.open_tree("meta").unwrap().insert("schema", &[5]).unwrap();
    drop(db);
    match Store::open(dir.path()) {
        Err(StoreError::Newer { found: 5, known: 4, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(version(dir.path()), [5]);
}
