//! The power goes: what a process did to its files is recorded (`support/trace`), the disk is laid out as it
//! may be after a cut at any moment (`support/disk`), and a store must open there that holds all that had
//! been acknowledged by then (`support/ledger`).
//!
//! `GRAFTD_CUTS` says how many cuts are tried. Needs strace.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "support/cuts.rs"]
mod cuts;
#[path = "support/disk.rs"]
mod disk;
mod support;
#[path = "support/trace.rs"]
mod trace;

use std::path::Path;
use std::process::Command;

use cuts::State;
use disk::{Deaf, Disk, Luck};
use support::ledger;
use trace::Op;

/// Cuts, unless `GRAFTD_CUTS` says another number.
const CUTS: usize = 270;
/// Cuts of one recording.
const CUTS_EACH: usize = 90;
const ROUNDS: u32 = 6;

/// Not a test of its own: what the recorded process does.
#[test]
fn writer() {
    cuts::write();
}

fn recorded() -> Vec<Op> {
    let root = ledger::folder();
    let state = root.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut program = cuts::program(root.path(), 0, ROUNDS);
    let ops = trace::record(&mut program, &state, &root.path().join("marks"));
    is_complete(&ops, &state);
    ops
}

/// A disk on which nothing was lost is the one that the process left: so the recorder saw everything.
fn is_complete(ops: &[Op], state: &Path) {
    let mut disk = Disk::new(Deaf::No);
    ops.iter().for_each(|op| disk.apply(op));
    let copy = tempfile::tempdir().unwrap();
    disk.cut(copy.path(), Luck::Kept, Luck::Kept, 0);
    let status =
        Command::new("diff").arg("-r").arg("--no-dereference").arg(state).arg(copy.path()).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let _turn = support::turn();
    let cuts = cuts::number("GRAFTD_CUTS", CUTS);
    let (mut found, mut operations) = (Vec::new(), 0);
    for seed in 0..cuts.div_ceil(CUTS_EACH) {
        // Threads meet in another way each time.
        let ops = recorded();
        operations += ops.len();
        let each = CUTS_EACH.min(cuts - seed * CUTS_EACH);
        found.extend(cuts::faults(State::new(Deaf::No), &ops, each, (seed * 1000) as u64));
    }
    println!("{cuts} cuts over {operations} operations, {} faults", found.len());
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// The test above can fail: with one kind of sync not done it does.
#[test]
fn a_sync_that_is_not_done_is_noticed() {
    let _turn = support::turn();
    let ops = recorded();
    for deaf in [Deaf::ToFiles, Deaf::ToFolders, Deaf::ToDatabase] {
        let found = cuts::faults(State::new(deaf), &ops, 36, 2);
        println!(
            "{deaf:?}: {} of 36 cuts with a fault, such as: {}",
            found.len(),
            found.first().map_or("", |x| x)
        );
        assert!(!found.is_empty(), "{deaf:?}: not noticed");
    }
}
