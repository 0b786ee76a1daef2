//! The store as it opens and reopens within one process.
//!
//! In a program of its own: a test beside it that starts processes would hand them the store's lock for the
//! moment between fork and exec, and reopening would find it held.

mod support;

use graftd::store::{NewLabels, SampleId, Store, StoreError};
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
    #![proptest_config(ProptestConfig::with_cases(12))]
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
            prop_assert_eq!((counts.samples, counts.labelled, counts.holdout), (list.len() as u64, count(Some(false)), count(Some(true))));
            let (learn, measure) = store.samples().truth().expect("whole");
            prop_assert!(learn.iter().chain(&measure).all(|example| example.picture.exists()));
            prop_assert_eq!((learn.len() as u64, measure.len() as u64), (counts.labelled, counts.holdout));
        }
    }
}
