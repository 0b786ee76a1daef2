//! The power goes after something else has gone wrong: a process that was killed, a full disk, a database that
//! is damaged, a cut before. Whatever the store told after the first fault must be there after the cut, too.
//!
//! `GRAFTD_SECOND_CUTS` says how many cuts are tried after each kind of fault. Needs strace.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "support/cuts.rs"]
mod cuts;
#[path = "support/disk.rs"]
mod disk;
mod support;
#[path = "support/trace.rs"]
mod trace;

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use cuts::{State, faults, program};
use disk::{Deaf, Disk, Luck};
use support::ledger::{self, Ledger};
use trace::{Op, record, record_with};

/// Cuts after each kind of fault, unless `GRAFTD_SECOND_CUTS` says another number.
const CUTS: usize = 60;
/// Cuts of one recording.
const CUTS_EACH: usize = 15;
/// Rounds before the fault, and after it.
const BEFORE: u32 = 4;
const AFTER: u32 = 2;

/// Not a test of its own: what the recorded process does.
#[test]
fn writer() {
    cuts::write();
}

fn cuts() -> usize {
    cuts::number("GRAFTD_SECOND_CUTS", CUTS)
}

/// Tries cuts of one recording after the other, until there are enough; `recording` may refuse one.
fn try_cuts(what: &str, mut recording: impl FnMut(&mut ChaCha8Rng) -> Option<(State, Vec<Op>)>) {
    let _turn = support::turn();
    let (mut tried, mut recordings, mut refused, mut found) = (0, 0, 0, Vec::new());
    while tried < cuts() {
        let seed = (recordings + refused) as u64;
        let Some((state, ops)) = recording(&mut ChaCha8Rng::seed_from_u64(seed)) else {
            refused += 1;
            assert!(refused < 10 + 2 * recordings, "{refused} recordings after {what} are of no use");
            continue;
        };
        recordings += 1;
        let each = CUTS_EACH.min(cuts() - tried);
        found.extend(faults(state, &ops, each, seed * 1000));
        tried += each;
    }
    println!("{tried} cuts of {recordings} recordings after {what}, {} faults", found.len());
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

fn new_root() -> tempfile::TempDir {
    let root = ledger::folder();
    fs::create_dir(root.path().join("state")).unwrap();
    root
}

/// A call at which something goes wrong, in strace's words.
fn a_call(random: &mut ChaCha8Rng) -> (&'static str, usize) {
    let calls =
        [("write", 200), ("pwrite64", 80), ("fsync", 200), ("fdatasync", 80), ("renameat,renameat2", 40)];
    let (name, most) = calls[random.random_range(0..calls.len())];
    (name, random.random_range(10..most))
}

#[test]
fn what_is_told_after_a_kill_survives_a_cut() {
    try_cuts("a kill", |random| {
        let root = new_root();
        let (dir, marks) = (root.path().join("state"), root.path().join("marks"));
        let (calls, moment) = a_call(random);
        let fault = format!("{calls}:signal=KILL:when={moment}");
        let (ops, output) = record_with(&mut program(root.path(), 0, 2 * BEFORE), &dir, &marks, Some(&fault));
        if output.status.signal() != Some(9) {
            return None;
        }
        let mut state = State::new(Deaf::No);
        state.apply(&ops);
        state.apply(&state.disk.missed(&dir)?);
        Some((state, record(&mut program(root.path(), 2 * BEFORE, AFTER), &dir, &marks)))
    });
}

#[test]
fn what_is_told_on_a_full_disk_survives_a_cut() {
    try_cuts("a full disk", |random| {
        let root = new_root();
        let (dir, marks) = (root.path().join("state"), root.path().join("marks"));
        let (calls, moment) = a_call(random);
        let fault = format!("{calls}:error=ENOSPC:when={moment}..{}", moment + random.random_range(0..6));
        let writer = program(root.path(), 0, 2 * BEFORE);
        let mut limited = Command::new("timeout");
        // sled may wait for ever for a thread of its own that met the full disk.
        limited.args(["--signal=KILL", "20"]).arg(writer.get_program()).args(writer.get_args());
        limited.envs(writer.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (ops, output) = record_with(&mut limited, &dir, &marks, Some(&fault));
        let met = String::from_utf8_lossy(&output.stderr).contains("the disk is full");
        met.then(|| (State::new(Deaf::No), ops))
    });
}

/// A state directory that a writer left, and what it had acknowledged.
fn written(root: &Path) -> Ledger {
    let status = program(root, 0, BEFORE).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    ledger_of(root)
}

fn ledger_of(root: &Path) -> Ledger {
    let mut ledger = Ledger::default();
    fs::read_to_string(root.join("marks")).unwrap().lines().for_each(|line| ledger.note(line));
    ledger
}

#[test]
fn what_is_read_from_a_damaged_database_survives_a_cut() {
    try_cuts("damage to the database", |random| {
        let root = new_root();
        let (dir, marks) = (root.path().join("state"), root.path().join("marks"));
        let ledger = written(root.path());
        // What the log says is whole, and what sled needs besides it is not.
        let conf = fs::File::options().write(true).open(dir.join("store/conf")).unwrap();
        let length = conf.metadata().unwrap().len();
        conf.write_all_at(&[random.random()], random.random_range(0..length)).unwrap();
        let state = State { disk: Disk::of(&dir, Deaf::No), ledger };
        let ops = record(&mut program(root.path(), BEFORE, AFTER), &dir, &marks);
        let is_salvaged = |op: &Op| matches!(op, Op::Exchange { one, .. } if one == "store");
        ops.iter().any(is_salvaged).then_some((state, ops))
    });
}

#[test]
fn what_is_told_after_a_cut_survives_another() {
    try_cuts("a cut", |random| {
        let first = new_root();
        let ops = record(
            &mut program(first.path(), 0, BEFORE),
            &first.path().join("state"),
            &first.path().join("marks"),
        );
        let mut state = State::new(Deaf::No);
        let cut = random.random_range(ops.len() / 4..ops.len());
        state.apply(&ops[..cut]);
        let root = new_root();
        let (dir, marks) = (root.path().join("state"), root.path().join("marks"));
        state.disk.cut(&dir, Luck::Chance, Luck::Chance, random.random());
        state.disk = Disk::of(&dir, Deaf::No);
        let ops = record(&mut program(root.path(), BEFORE, AFTER), &dir, &marks);
        Some((state, ops))
    });
}
