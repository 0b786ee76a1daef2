//! The store when the power goes: a process is killed while it writes, and what it had acknowledged
//! must be there afterwards.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use graftd::label::{LabelBox, Provenance};
use graftd::store::{Message, NewSample, Remembered, SampleId, SlotRecord, Store, StoreError};
use proptest::prelude::*;

const WRITER: &str = "GRAFTD_TEST_WRITER";

fn new_sample(source: &str) -> NewSample {
    NewSample {
        width: 8,
        height: 6,
        taken: SystemTime::now(),
        source: source.into(),
        why: "test".into(),
        found: vec![],
    }
}

fn a_box() -> LabelBox {
    LabelBox { class: 0, cx: 0.5, cy: 0.5, w: 0.2, h: 0.2 }
}

/// Not a test of its own: what the killed process does. It says on stdout what has been acknowledged.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let store = Store::open(Path::new(&dir)).expect("the store opens");
    for round in 0.. {
        let frame = format!("frame {round}");
        let sample = store.samples().add(frame.as_bytes(), new_sample(&frame)).expect("added");
        println!("sample {}", sample.id);
        store.samples().label(sample.id, vec![a_box()], Provenance::Human, None, 0.3).expect("labelled");
        println!("label {}", sample.id);
        let message = Message { topic: frame.clone(), payload: vec![], droppable: false };
        store.outbox().push(&message).expect("pushed");
        println!("message {frame}");
        store.commands().set("label", &frame, Remembered::Settled(vec![1])).expect("remembered");
        println!("command {frame}");
        let slot = store.models().promote(frame.as_bytes(), SlotRecord::default()).expect("promoted");
        println!("slot {} {frame}", slot.slot);
    }
}

#[test]
fn nothing_acknowledged_is_lost_over_kills() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acknowledged: Vec<String> = Vec::new();
    for kill in 1..=8 {
        let mut child = Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "writer", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // Killed at another place in the round each time.
        acknowledged.extend(lines.by_ref().filter(|line| line.contains(' ')).take(20 + kill * 7));
        child.kill().expect("killed");
        child.wait().expect("ended");
        acknowledged.extend(lines);

        let store = Store::open(dir.path()).expect("the store opens again");
        let waiting: HashSet<String> = messages(&store).into_iter().map(|message| message.topic).collect();
        let mut last_slot = None;
        for line in &acknowledged {
            let Some((what, name)) = line.split_once(' ') else { continue };
            match what {
                "sample" => assert!(store.samples().get(name.parse().expect("an id")).is_ok(), "{line}"),
                "label" => {
                    let sample = store.samples().get(name.parse().expect("an id")).expect("a sample");
                    assert_eq!(sample.labels.expect("labels").boxes, [a_box()], "{line}");
                    assert!(
                        store
                            .samples()
                            .frame_path(&store.samples().get(sample.id).expect("a sample"))
                            .exists()
                    );
                }
                "message" => assert!(waiting.contains(name), "{line}"),
                "command" => {
                    assert!(store.commands().get("label", name).expect("readable").is_some(), "{line}")
                }
                "slot" => last_slot = name.split_once(' '),
                _ => {}
            }
        }
        let (slot, content) = last_slot.expect("a promotion");
        let current = store.models().current().expect("readable").expect("a slot");
        assert!(current.slot >= slot.parse().expect("a number"));
        if current.slot.to_string() == slot {
            assert_eq!(std::fs::read(store.models().current_path()).expect("a model"), content.as_bytes());
        }
    }
    assert!(acknowledged.len() > 8 * 20);
}

fn messages(store: &Store) -> Vec<Message> {
    let mut after = None;
    std::iter::from_fn(|| {
        let (id, message) = store.outbox().next(after).expect("readable")?;
        after = Some(id);
        Some(message)
    })
    .collect()
}

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
    let labelled =
        store.samples().label(kept, vec![a_box()], Provenance::Human, Some(true), 0.0).expect("labelled");
    store.samples().delete(gone).expect("deleted");
    drop(store);
    std::fs::remove_dir_all(dir.path().join("store")).expect("removed");
    let store = Store::open(dir.path()).expect("opens again");
    assert_eq!(store.samples().get(kept).expect("restored"), labelled);
    assert!(matches!(store.samples().get(gone), Err(StoreError::NoSample(_))));
    assert_eq!(store.samples().counts().holdout, 1);
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
                    let boxes = vec![a_box()];
                    store.samples().label(list[index].0, boxes, Provenance::Human, Some(holdout), 0.0).expect("labelled");
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
