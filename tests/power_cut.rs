//! The power goes: what a process did to its files is recorded (`support/trace`), the disk is laid out as it
//! may be after a cut at any moment (`support/disk`), and a store must open there that holds all that had
//! been acknowledged by then (`support/ledger`).
//!
//! `GRAFTD_CUTS` says how many cuts are tried. Needs strace.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "support/disk.rs"]
mod disk;
mod support;
#[path = "support/trace.rs"]
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use disk::{Deaf, Disk, Luck};
use support::ledger::{self, Ledger};
use trace::Op;

const WRITER: &str = "GRAFTD_TEST_WRITER";
/// Cuts, unless `GRAFTD_CUTS` says another number.
const CUTS: usize = 270;
/// Cuts of one recording.
const CUTS_EACH: usize = 90;
const ROUNDS: u32 = 6;

/// Not a test of its own: what the recorded process does.
#[test]
fn writer() {
    let Some(root) = std::env::var_os(WRITER) else { return };
    let root = Path::new(&root);
    let mut marks = std::fs::File::create(root.join("marks")).unwrap();
    // Stopped and started again in between.
    for part in [0..ROUNDS / 2, ROUNDS / 2..ROUNDS] {
        ledger::work(&root.join("state"), part, &mut marks).unwrap();
    }
}

fn recorded() -> Vec<Op> {
    let root = ledger::folder();
    let state = root.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "writer", "--nocapture"]).env(WRITER, root.path());
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

/// What is wrong after cuts spread over all moments.
fn faults(ops: &[Op], deaf: Deaf, cuts: usize, seed: u64) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut disk, mut ledger) = (Disk::new(deaf), Ledger::default());
    let (mut done, mut found) = (0, Vec::new());
    for cut in 0..cuts {
        let at = (ops.len() * cut + random.random_range(0..ops.len())) / cuts;
        for op in &ops[done..at] {
            disk.apply(op);
            if let Op::Mark(line) = op {
                ledger.note(line);
            }
        }
        done = at;
        let lucks = [Luck::Lost, Luck::Kept, Luck::Chance];
        let (names, bytes) = (lucks[cut % 3], lucks[cut / 3 % 3]);
        let folder = ledger::folder();
        disk.cut(folder.path(), names, bytes, seed + cut as u64);
        let outcome = catch_unwind(AssertUnwindSafe(|| ledger.check(folder.path())));
        if let Err(fault) = outcome.unwrap_or_else(|_| Err("a panic".into())) {
            found
                .push(format!("cut before {at} of {}, names {names:?}, bytes {bytes:?}: {fault}", ops.len()));
        }
    }
    found
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let _turn = support::turn();
    let cuts = std::env::var("GRAFTD_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let (mut found, mut operations) = (Vec::new(), 0);
    for seed in 0..cuts.div_ceil(CUTS_EACH) {
        // Threads meet in another way each time.
        let ops = recorded();
        operations += ops.len();
        found.extend(faults(&ops, Deaf::No, CUTS_EACH.min(cuts - seed * CUTS_EACH), (seed * 1000) as u64));
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
        let found = faults(&ops, deaf, 36, 2);
        println!(
            "{deaf:?}: {} of 36 cuts with a fault, such as: {}",
            found.len(),
            found.first().map_or("", |x| x)
        );
        assert!(!found.is_empty(), "{deaf:?}: not noticed");
    }
}
