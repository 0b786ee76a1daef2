//! The store as it opens and reopens within one process.
//!
//! In a program of its own: a test beside it that starts processes would hand them the store's lock for the
//! moment between fork and exec, and reopening would find it held.

mod support;

use graftd::store::{Interest, Limits, NewLabels, NewSample, Sample, SampleId, Store, StoreError};
use proptest::prelude::*;
use support::samples::{new_labels, new_sample};

#[test]
fn the_store_has_one_holder() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opens");
    match Store::open(dir.path()) {
        Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(store);
    Store::open(dir.path()).expect("opens again");
}

#[test]
fn records_that_sled_lost_come_back_from_their_copies() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opens");
    let kept = store.samples().add(b"one", new_sample("one")).expect("added").id;
    let gone = store.samples().add(b"two", new_sample("two")).expect("added").id;
    let labels = NewLabels { covers: Some(vec![2, 0]), ..new_labels(Some(true)) };
    let labelled = store.samples().label(kept, labels, 0.0).expect("labelled");
    store.samples().delete(gone).expect("deleted");
    drop(store);
    std::fs::remove_dir_all(dir.path().join("store")).expect("removed");
    let store = Store::open(dir.path()).expect("opens again");
    assert_eq!(store.samples().get(kept).expect("restored"), labelled);
    assert!(matches!(store.samples().get(gone), Err(StoreError::NoSample(_))));
    assert_eq!(store.samples().counts().holdout, 1);
}

#[test]
fn what_labels_cover_is_told_by_name_until_they_are_said_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opens");
    let samples = store.samples();
    samples.set_classes(&["crown", "weed", "pallet"].map(str::to_owned)).expect("set");
    let id = samples.add(b"one", new_sample("one")).expect("added").id;
    let covering = |classes: &[u32]| NewLabels { covers: Some(classes.to_vec()), ..new_labels(None) };
    let covers = || samples.truth().expect("whole").0.remove(0).covers;
    let labels = samples.label(id, covering(&[2, 0, 2]), 0.0).expect("labelled").labels.expect("labels");
    assert_eq!(labels.covers, Some(vec![0, 2]));
    assert_eq!(covers(), Some(vec!["crown".to_owned(), "pallet".to_owned()]));
    samples.label(id, new_labels(None), 0.0).expect("labelled");
    assert_eq!(covers(), None);
}

#[test]
fn labels_that_were_told_to_have_failed_do_not_come_into_force_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("opens");
    let id = store.samples().add(b"one", new_sample("one")).expect("added").id;
    store.samples().label(id, new_labels(Some(false)), 0.0).expect("labelled");
    // The database fails behind the copy: nothing can be synced where there is no folder.
    let (folder, away) = (dir.path().join("store/blobs"), dir.path().join("away"));
    std::fs::rename(&folder, &away).expect("renamed");
    let failed = store.samples().label(id, NewLabels { boxes: vec![], ..new_labels(Some(true)) }, 0.0);
    assert!(matches!(failed, Err(StoreError::Uncertain { sample, .. }) if sample == id), "{failed:?}");
    std::fs::rename(&away, &folder).expect("renamed");
    let is_old = |store: &Store| {
        let labels = store.samples().get(id).expect("a sample").labels.expect("labels");
        assert_eq!((labels.boxes, labels.holdout), (new_labels(None).boxes, false));
        assert_eq!(store.samples().counts().labelled, 1);
    };
    // Settled by the next change, by the next start, and when all is restored from copies.
    store.samples().add(b"two", new_sample("two")).expect("added");
    is_old(&store);
    drop(store);
    is_old(&Store::open(dir.path()).expect("opens again"));
    std::fs::remove_dir_all(dir.path().join("store")).expect("removed");
    is_old(&Store::open(dir.path()).expect("opens again"));
}

fn frame(number: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![number; size];
    bytes[..2].copy_from_slice(b"\xff\xd8");
    bytes
}

#[test]
fn what_is_ordinary_makes_room_first_and_labels_never_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let limits = Limits { max_samples: 4, min_free_mb: 0, ballast_mb: 0, ..Limits::default() };
    let store = Store::open_within(dir.path(), &limits).expect("opens");
    let samples = store.samples();
    let mut number = 0;
    let mut add = |interest: Interest| {
        number += 1;
        samples.add(&frame(number, 100), NewSample { interest, ..new_sample("s") })
    };
    let asked = add(Interest::Asked).expect("added");
    let notable = add(Interest::Notable).expect("added");
    let ordinary = add(Interest::Ordinary).expect("added");
    let labelled = add(Interest::Ordinary).expect("added");
    samples.label(labelled.id, new_labels(Some(false)), 0.0).expect("labelled");
    let is_there = |sample: &Sample| {
        let record = samples.get(sample.id).is_ok();
        assert_eq!(record, samples.frame_path(sample).exists(), "a record and no frame, or the other way");
        record
    };
    for (going, staying) in [(&ordinary, &notable), (&notable, &asked), (&asked, &labelled)] {
        assert!(is_there(going) && is_there(staying));
        let new = add(Interest::Asked).expect("others make room");
        assert!(!is_there(going) && is_there(staying) && is_there(&new));
        samples.label(new.id, new_labels(Some(true)), 0.0).expect("labelled");
        assert_eq!(samples.counts().samples, 4);
    }
    let error = add(Interest::Asked).expect_err("all have labels");
    assert!(error.is_full() && error.to_string().contains("drop_labelled"), "{error}");
    assert_eq!(samples.counts().samples, 4);
    drop(store);

    // Where the configuration says so they go too: what is measured on last.
    let limits = Limits { drop_labelled: true, ..limits };
    let store = Store::open_within(dir.path(), &limits).expect("opens");
    store.samples().add(&frame(99, 100), new_sample("s")).expect("a labelled one makes room");
    let counts = store.samples().counts();
    assert_eq!((counts.samples, counts.labelled, counts.holdout), (4, 0, 3));
}

#[test]
fn the_frames_stay_below_their_quota_over_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let limits = Limits { max_mb: 1, min_free_mb: 0, ballast_mb: 0, ..Limits::default() };
    for round in 0..3 {
        let store = Store::open_within(dir.path(), &limits).expect("opens");
        for number in 0..6 {
            store.samples().add(&frame(round * 6 + number, 300_000), new_sample("s")).expect("added");
            let on_disk: u64 = store
                .samples()
                .iter()
                .map(|sample| {
                    let path = store.samples().frame_path(&sample.expect("whole"));
                    std::fs::metadata(path).expect("a frame").len()
                })
                .sum();
            assert_eq!(store.samples().counts().bytes, on_disk);
            assert!(on_disk <= 1 << 20);
        }
        assert_eq!(store.samples().counts().samples, 3);
    }
    // No frame stays behind without its record.
    let report = graftd::store::verify(dir.path(), |_| ()).expect("readable");
    assert_eq!((report.faults, report.frames), (vec![], 3));
}

#[test]
fn no_frame_is_kept_where_the_disk_is_nearly_full_and_labels_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let id =
        Store::open(dir.path()).expect("opens").samples().add(b"one", new_sample("s")).expect("added").id;
    let limits = Limits { min_free_mb: u64::MAX >> 21, ..Limits::default() };
    let store = Store::open_within(dir.path(), &limits).expect("opens");
    let error = store.samples().add(b"two", new_sample("s")).expect_err("the floor");
    assert!(matches!(error, StoreError::Full { .. }) && error.is_full(), "{error}");
    assert_eq!(store.samples().counts().samples, 1);
    store.samples().label(id, new_labels(None), 0.0).expect("labels are taken");
}

#[test]
fn a_change_that_was_cut_short_is_put_right_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (gone, label_lost) = {
        let store = Store::open(dir.path()).expect("opens");
        let gone = store.samples().add(b"one", new_sample("s")).expect("added");
        let label_lost = store.samples().add(b"two", new_sample("s")).expect("added");
        std::fs::rename(dir.path().join("store"), dir.path().join("before")).expect("moved");
        drop(store);
        (gone, label_lost)
    };
    // sled as it was before the label, everything else as it was after it: sled had lost its tail.
    let before = dir.path().join("before");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        let done = std::process::Command::new("cp").arg("-r").args([from, to]).status().expect("cp");
        assert!(done.success());
    };
    copy(&before, &dir.path().join("store"));
    let store = Store::open(dir.path()).expect("opens");
    let labelled = store.samples().label(label_lost.id, new_labels(Some(true)), 0.0).expect("labelled");
    // A deletion that came as far as the frame.
    let frame = store.samples().frame_path(&gone);
    drop(store);
    copy(&before, &dir.path().join("store"));
    std::fs::remove_file(&frame).expect("removed");
    std::fs::remove_file(frame.with_extension(format!("{}.json", gone.id))).expect("removed");
    let store = Store::open(dir.path()).expect("opens");
    assert!(matches!(store.samples().get(gone.id), Err(StoreError::NoSample(_))));
    assert_eq!(store.samples().get(label_lost.id).expect("there"), labelled);
    let counts = store.samples().counts();
    assert_eq!((counts.samples, counts.holdout), (1, 1));
}

/// What may be done to samples.
#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    Label(usize, bool),
    Delete(usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<u8>().prop_map(Step::Add),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, holdout)| Step::Label(which, holdout)),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_store_does_what_a_plain_list_does(steps in steps()) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(dir.path()).expect("opens");
        let mut list: Vec<(SampleId, Option<bool>)> = Vec::new();
        for step in steps {
            match step {
                Step::Add(content) => {
                    let sample = store.samples().add(&[content], new_sample("s")).expect("added");
                    list.push((sample.id, None));
                }
                Step::Label(which, holdout) if !list.is_empty() => {
                    let index = which % list.len();
                    store.samples().label(list[index].0, new_labels(Some(holdout)), 0.0).expect("labelled");
                    list[index].1 = Some(holdout);
                }
                Step::Delete(which) if !list.is_empty() => {
                    let (id, _) = list.remove(which % list.len());
                    store.samples().delete(id).expect("deleted");
                }
                Step::Reopen => {
                    drop(store);
                    store = Store::open(dir.path()).expect("opens");
                }
                Step::Label(..) | Step::Delete(_) => {}
            }
            let found: Vec<SampleId> = store.samples().iter().map(|sample| sample.expect("whole").id).collect();
            prop_assert_eq!(&found, &list.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            let counts = store.samples().counts();
            let count = |wanted: Option<bool>| list.iter().filter(|(_, state)| *state == wanted).count() as u64;
            prop_assert_eq!(counts.bytes, list.len() as u64);
            prop_assert_eq!((counts.samples, counts.labelled, counts.holdout), (list.len() as u64, count(Some(false)), count(Some(true))));
            let (learn, measure) = store.samples().truth().expect("whole");
            prop_assert!(learn.iter().chain(&measure).all(|example| example.picture.exists()));
            prop_assert_eq!((learn.len() as u64, measure.len() as u64), (counts.labelled, counts.holdout));
        }
        drop(store);
        let report = graftd::store::verify(dir.path(), |_| ()).expect("readable");
        prop_assert_eq!((report.faults, report.samples), (vec![], list.len() as u64));
    }
}
