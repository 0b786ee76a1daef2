//! A store that an earlier graftd wrote is read: records of version 1 in sled, and the copies beside frames.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use graftd::label::{LabelBox, Provenance};
use graftd::store::{FoundBox, Labels, NewLabels, Sample, SampleId, Store, StoreError};

/// What version 1 wrote, as it wrote it.
fn written() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-v1")
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

#[test]
fn records_of_version_1_are_read_and_become_version_2_as_they_change() {
    let dir = tempfile::tempdir().unwrap();
    // No copies lie beside frames: what is read comes from sled.
    let db = sled::open(dir.path().join("store")).unwrap();
    let (meta, records, states) = (
        db.open_tree("meta").unwrap(),
        db.open_tree("samples").unwrap(),
        db.open_tree("samples_by_state").unwrap(),
    );
    meta.insert("schema", &[1]).unwrap();
    meta.insert("classes", fs::read(written().join("records/classes")).unwrap()).unwrap();
    for (name, state) in [(LABELLED, b'h'), (UNLABELLED, b'u')] {
        let bytes = fs::read(written().join("records").join(name)).unwrap();
        assert_eq!(bytes[0], 1);
        let key = uuid::Uuid::try_parse(name).unwrap();
        records.insert(key.as_bytes(), bytes).unwrap();
        states.insert([&[state], key.as_bytes().as_slice()].concat(), &[]).unwrap();
    }
    drop((meta, records, states, db));

    let store = Store::open(dir.path()).unwrap();
    let found: Vec<Sample> = store.samples().iter().map(Result::unwrap).collect();
    assert_eq!(found, samples());
    assert_eq!(store.samples().classes().unwrap(), ["crown", "weed", "pallet"]);
    assert_eq!(store.samples().counts().holdout, 1);
    let (_, measure) = store.samples().truth().unwrap();
    assert_eq!((measure[0].labels.len(), &measure[0].covers), (2, &None));
    // Said anew it is of this version, beside one that is not.
    let [old, _] = samples();
    fs::create_dir_all(store.samples().frame_path(&old).parent().unwrap()).unwrap();
    let new =
        NewLabels { boxes: vec![], covers: Some(vec![1]), provenance: Provenance::Human, holdout: None };
    let labelled = store.samples().label(old.id, new, 0.0).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.samples().get(old.id).unwrap(), labelled);
    assert_eq!(labelled.labels.unwrap().covers, Some(vec![1]));
    assert_eq!(store.samples().get(id(UNLABELLED)).unwrap(), samples()[1]);
    drop(store);
    assert_eq!(version(dir.path()), [2], "version 1 would take its new records for damaged");
}

#[test]
fn copies_that_version_1_wrote_restore_its_samples() {
    let dir = tempfile::tempdir().unwrap();
    for folder in fs::read_dir(written().join("blobs")).unwrap() {
        let folder = folder.unwrap();
        let to = dir.path().join("blobs").join(folder.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let store = Store::open(dir.path()).unwrap();
    let found: Vec<Sample> = store.samples().iter().map(Result::unwrap).collect();
    assert_eq!(found, samples());
}

#[test]
fn a_store_of_a_later_version_is_turned_away_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let db = sled::open(dir.path().join("store")).unwrap();
    db.open_tree("meta").unwrap().insert("schema", &[3]).unwrap();
    drop(db);
    match Store::open(dir.path()) {
        Err(StoreError::Newer { found: 3, known: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(version(dir.path()), [3]);
}
