//! A full disk and a killed process at every point at which the store writes, made by strace.
//!
//! `GRAFTD_FAULTS` says how many points of each kind of call are tried; without it a few. Needs strace.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use support::ledger::{self, Ledger};

/// The first round of the writer.
const FIRST: &str = "GRAFTD_TEST_FIRST";
const WRITER: &str = "GRAFTD_TEST_WRITER";
const OPENER: &str = "GRAFTD_TEST_OPENER";
/// Points of each kind, unless `GRAFTD_FAULTS` says another number.
const POINTS: usize = 8;
const ROUNDS: u32 = 4;

/// Calls that change the disk, and how often a writer makes each at least.
const WRITES: [(&str, usize); 6] = [
    ("write", 120),
    ("pwrite64", 60),
    ("fsync", 130),
    ("fdatasync", 50),
    ("?rename,renameat,renameat2", 30),
    ("?mkdir,mkdirat", 12),
];

/// Not a test of its own: what the process does that meets the fault.
#[test]
fn writer() {
    let Some(root) = std::env::var_os(WRITER) else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::ERROR).init();
    let root = Path::new(&root);
    let mut marks = std::fs::File::options().create(true).append(true).open(root.join("marks")).unwrap();
    // Where it goes on, if not from the start.
    let first = std::env::var(FIRST).map_or(0, |first| first.parse().unwrap());
    ledger::work(&root.join("state"), first..first + ROUNDS, &mut marks).unwrap();
}

/// Not a test of its own: opens the store and does nothing.
#[test]
fn opener() {
    let Some(root) = std::env::var_os(OPENER) else { return };
    // On a full disk it need not open.
    drop(graftd::store::Store::open_within(&Path::new(&root).join("state"), &ledger::limits()));
}

/// Boards without a battery wake up in 1970, and jump when they are told the time.
#[test]
fn a_clock_that_jumps_by_years_costs_nothing() {
    let _turn = support::turn();
    let root = ledger::folder();
    std::fs::create_dir(root.path().join("state")).unwrap();
    let mut newest = None;
    for (part, clock) in ["+0", "-40y", "+30y", "-2y", "+0"].iter().enumerate() {
        let output = Command::new("faketime")
            .args(["-f", clock])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(WRITER, root.path())
            .env(FIRST, (part as u32 * ROUNDS).to_string())
            .output()
            .unwrap_or_else(|error| panic!("faketime: {error} (install the package `faketime`)"));
        assert!(output.status.success(), "{clock}: {}", String::from_utf8_lossy(&output.stderr));
        let ledger = ledger_of(root.path());
        ledger.check(&root.path().join("state")).unwrap_or_else(|lack| panic!("{clock}: {lack}"));
        // Later samples have greater ids, whatever the clock says.
        let store = graftd::store::Store::open_within(&root.path().join("state"), &ledger::limits()).unwrap();
        let last = store.samples().iter().last().unwrap().unwrap().id;
        assert!(newest < Some(last), "{clock}: a new sample is older than one before it");
        newest = Some(last);
    }
}

/// By a signal, or so says `timeout` of what it ran.
fn is_killed(output: &Output) -> bool {
    output.status.signal() == Some(9) || output.status.code() == Some(137)
}

fn points() -> usize {
    std::env::var("GRAFTD_FAULTS").map_or(POINTS, |points| points.parse().unwrap())
}

/// A writer that meets a fault, in strace's words. strace counts the calls of each thread by itself; most of them
/// are in the one that all tests run in when there is but one.
fn writer_with(root: &Path, calls: &str, fault: &str) -> Output {
    std::fs::create_dir(root.join("state")).unwrap();
    with_fault("writer", WRITER, root, calls, fault)
}

fn with_fault(test: &str, part: &str, root: &Path, calls: &str, fault: &str) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    strace.args(["-e", &format!("inject={calls}:{fault}")]);
    // Well above the store's own patience.
    strace.args(["timeout", "--signal=KILL", "300"]);
    strace.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        test,
        "--nocapture",
        "--test-threads",
        "1",
    ]);
    let output = strace.env(part, root).output();
    output.unwrap_or_else(|error| panic!("strace: {error} (install the package `strace`)"))
}

fn ledger_of(root: &Path) -> Ledger {
    let mut ledger = Ledger::default();
    let marks = std::fs::read_to_string(root.join("marks")).unwrap_or_default();
    // A mark is whole when its line has an end.
    marks.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).for_each(|line| ledger.note(line));
    ledger
}

/// The moments of a kind of call, spread over all. The first ones belong to the harness, which says what it
/// is about to run.
fn moments(calls: &str, all: usize) -> impl Iterator<Item = usize> {
    let points = points().min(all);
    let first = if calls == "write" { 8 } else { 1 };
    (0..points).map(move |point| first + point * all / points)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_at_a_write() {
    let _turn = support::turn();
    let (mut kills, mut survived) = (0, 0);
    for (calls, all) in WRITES {
        for moment in moments(calls, all) {
            let root = ledger::folder();
            let output = writer_with(root.path(), calls, &format!("signal=KILL:when={moment}"));
            if is_killed(&output) {
                kills += 1;
            } else {
                survived += 1;
            }
            let ledger = ledger_of(root.path());
            ledger
                .check(&root.path().join("state"))
                .unwrap_or_else(|lack| panic!("{calls} {moment}: {lack}"));
        }
    }
    println!("{kills} kills, {survived} writers that came to their end before");
    assert!(kills > survived, "{kills} kills, {survived} not killed");
}

#[test]
fn a_full_disk_is_said_and_gone_on_from() {
    let _turn = support::turn();
    let (mut met, mut tried, mut hung) = (0, 0, 0);
    for (calls, all) in WRITES {
        for moment in moments(calls, all) {
            let root = ledger::folder();
            // Full at one call and at the next ones, then there is room again.
            let fault = format!("error=ENOSPC:when={moment}..{}", moment + tried % 6);
            let output = writer_with(root.path(), calls, &fault);
            let said = String::from_utf8_lossy(&output.stderr);
            // Not by its exit code: the fault may meet a line of the harness itself, which panics at that. sled
            // panics where a sync fails as it closes its file; what counts is that the writer comes to its end.
            let is_panic = |line: &str| {
                line.contains("panicked at") && !line.contains("io/stdio.rs") && !line.contains("/sled-")
            };
            assert!(!said.lines().any(is_panic), "{calls} {fault}: {said}");
            let marks = std::fs::read_to_string(root.path().join("marks")).unwrap();
            tried += 1;
            met += usize::from(said.contains("the disk is full"));
            assert!(!is_killed(&output), "{calls} {fault}: waited for ever: {said}");
            if said.contains("store: no answer for") {
                // sled waits for a thread of its own that met the full disk, and the process has ended itself.
                hung += 1;
            } else {
                assert!(
                    marks.contains(&format!("done model {}", ROUNDS - 1)),
                    "{calls} {fault}: not at its end: {said}"
                );
            }
            let ledger = ledger_of(root.path());
            ledger.check(&root.path().join("state")).unwrap_or_else(|lack| panic!("{calls} {fault}: {lack}"));
        }
    }
    println!(
        "{tried} times full, {met} times refused and gone on from without a restart, {hung} times ended for a \
         start anew"
    );
    assert!(met * 4 > tried, "only {met} of {tried} met a full disk");
}

/// What is whole stays in its place: a database is moved aside for damage alone.
#[test]
fn a_disk_that_is_full_when_the_store_is_opened_costs_nothing() {
    let _turn = support::turn();
    // Left by a kill, so that there is something to be put right.
    let left = ledger::folder();
    let killed = writer_with(left.path(), "fsync", "signal=KILL:when=110");
    assert!(is_killed(&killed), "{}", killed.status);
    let ledger = ledger_of(left.path());
    let mut tried = 0;
    let kinds =
        ["write", "pwrite64", "fsync", "fdatasync", "ftruncate", "?rename,renameat,renameat2", "openat"];
    for calls in kinds {
        // The first ones of some kinds belong to the harness.
        let first = if matches!(calls, "write" | "openat") { 4 } else { 1 };
        for moment in first..first + points().min(24) {
            let root = ledger::folder();
            let state = root.path().join("state");
            let copied = Command::new("cp").arg("-a").arg(left.path().join("state")).arg(&state).status();
            assert!(copied.unwrap().success());
            let fault = format!("error=ENOSPC:when={moment}+");
            let _ = with_fault("opener", OPENER, root.path(), calls, &fault);
            let names = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name());
            let aside: Vec<_> = names.filter(|name| name.to_string_lossy().contains("aside")).collect();
            assert!(aside.is_empty(), "{calls} {fault}: {aside:?}");
            ledger.check(&state).unwrap_or_else(|lack| panic!("{calls} {fault}: {lack}"));
            tried += 1;
        }
    }
    println!("{tried} times full at opening");
}
