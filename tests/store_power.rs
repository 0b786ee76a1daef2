//! The store when the power goes: a process is killed while it writes, and what it had acknowledged
//! must be there afterwards.

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use graftd::store::{Message, Remembered, SlotRecord, Store};
use support::samples::{a_box, new_labels, new_sample};

const WRITER: &str = "GRAFTD_TEST_WRITER";
/// Kills, unless `GRAFTD_STORE_KILLS` says another number.
const KILLS: usize = 8;

/// Not a test of its own: what the killed process does. It says on stdout what has been acknowledged.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let store = Store::open(Path::new(&dir)).expect("the store opens");
    for round in 0.. {
        let frame = format!("frame {round}");
        let sample = store.samples().add(frame.as_bytes(), new_sample(&frame)).expect("added");
        println!("sample {}", sample.id);
        store.samples().label(sample.id, new_labels(None), 0.3).expect("labelled");
        println!("label {}", sample.id);
        let message = Message { topic: frame.clone(), payload: vec![], droppable: false, correlation: None };
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
    let kills = std::env::var("GRAFTD_STORE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    for kill in 1..=kills {
        let mut child = Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "writer", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // Killed at another place in the round each time.
        acknowledged.extend(lines.by_ref().filter(|line| line.contains(' ')).take(20 + kill % 40 * 7));
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
    assert!(acknowledged.len() > kills * 20);
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
