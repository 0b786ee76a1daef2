//! A process that writes to a store and is recorded, and cuts laid out over what it did.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::disk::{Deaf, Disk, Luck};
use crate::support::ledger::{self, Ledger};
use crate::support::operator::Heard;
use crate::trace::Op;

const WRITER: &str = "GRAFTD_TEST_WRITER";
const FIRST: &str = "GRAFTD_TEST_FIRST";
const ROUNDS: &str = "GRAFTD_TEST_ROUNDS";
/// Stops it and starts it again after each.
const PARTS: u32 = 2;

/// What the test `writer` of a test file does: nothing, unless it is a process that [`program`] started.
pub fn write() {
    let Some(root) = std::env::var_os(WRITER) else { return };
    let root = Path::new(&root);
    let mut marks = std::fs::File::options().create(true).append(true).open(root.join("marks")).unwrap();
    let number = |name: &str| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let (first, rounds) = (number(FIRST), number(ROUNDS) / PARTS);
    for part in 0..PARTS {
        let first = first + part * rounds;
        ledger::work(&root.join("state"), first..first + rounds, &mut marks).unwrap();
    }
}

/// A process that writes `rounds` rounds to the store in `root/state` and says so in `root/marks`.
pub fn program(root: &Path, first: u32, rounds: u32) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "writer", "--nocapture", "--test-threads", "1"]);
    program.env(WRITER, root).env(FIRST, first.to_string()).env(ROUNDS, rounds.to_string());
    program
}

/// Whoever keeps what was acknowledged.
pub trait Book {
    /// Takes a mark down.
    fn note(&mut self, line: &str);
    /// Whether a state directory holds all of it; otherwise what it lacks.
    fn check(&self, dir: &Path) -> Result<(), String>;
}

impl Book for Ledger {
    fn note(&mut self, line: &str) {
        self.note(line);
    }

    fn check(&self, dir: &Path) -> Result<(), String> {
        self.check(dir)
    }
}

impl Book for Heard {
    fn note(&mut self, line: &str) {
        self.note(line);
    }

    fn check(&self, dir: &Path) -> Result<(), String> {
        self.check(dir)
    }
}

/// A disk, and what has been acknowledged on it.
#[derive(Debug)]
pub struct State<B = Ledger> {
    pub disk: Disk,
    pub ledger: B,
}

impl State {
    /// An empty disk.
    pub fn new(deaf: Deaf) -> Self {
        State { disk: Disk::new(deaf), ledger: Ledger::default() }
    }
}

impl<B: Book> State<B> {
    /// Goes on.
    pub fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            self.disk.apply(op);
            if let Op::Mark(line) = op {
                self.ledger.note(line);
            }
        }
    }
}

/// What is wrong after cuts spread over all moments of what was done from `state` on.
pub fn faults(mut state: State<impl Book>, ops: &[Op], cuts: usize, seed: u64) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut done, mut found) = (0, Vec::new());
    for cut in 0..cuts {
        let at = (ops.len() * cut + random.random_range(0..ops.len())) / cuts;
        state.apply(&ops[done..at]);
        done = at;
        let lucks = [Luck::Lost, Luck::Kept, Luck::Chance];
        let (names, bytes) = (lucks[cut % 3], lucks[cut / 3 % 3]);
        let folder = ledger::folder();
        state.disk.cut(folder.path(), names, bytes, seed + cut as u64);
        let outcome = catch_unwind(AssertUnwindSafe(|| state.ledger.check(folder.path())));
        if let Err(fault) = outcome.unwrap_or_else(|_| Err("a panic".into())) {
            found
                .push(format!("cut before {at} of {}, names {names:?}, bytes {bytes:?}: {fault}", ops.len()));
        }
    }
    found
}

/// A number from the environment.
pub fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap())
}
