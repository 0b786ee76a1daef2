//! The power goes under the whole daemon, and the daemon is killed again and again: what an operator had heard
//! over a real broker by then, a store that is opened afterwards must hold.
//!
//! `GRAFTD_DAEMON_CUTS` says how many cuts are tried, `GRAFTD_DAEMON_KILLS` how many kills. Needs strace and
//! mosquitto.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "support/cuts.rs"]
mod cuts;
#[path = "support/disk.rs"]
mod disk;
mod support;
#[path = "support/trace.rs"]
mod trace;

use std::path::Path;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use cuts::State;
use disk::{Deaf, Disk};
use support::broker::PATIENCE;
use support::operator::{Device, Heard, Operator};
use trace::Op;

/// Cuts, unless `GRAFTD_DAEMON_CUTS` says another number.
const CUTS: usize = 45;
/// Cuts of one recording.
const CUTS_EACH: usize = 45;
/// Kills, unless `GRAFTD_DAEMON_KILLS` says another number.
const KILLS: usize = 6;
/// Kills of one device.
const KILLS_EACH: usize = 25;
/// So many answers of each recording.
const ANSWERS: usize = 40;

/// What a daemon did to its files until it was killed, and in between what the operator sent and heard.
fn recorded(deaf: Deaf) -> (State<Heard>, Vec<Op>) {
    let device = Device::new(24, 20.0);
    let disk = Disk::of(&device.state(), deaf);
    let log = device.folder.path().join("trace");
    let mut operator = Operator::new(&device.broker);
    let mut strace = trace::recorder(&device.daemon(), &log, None).spawn().unwrap();
    operator.work(PATIENCE, |heard| heard.settled.len() >= ANSWERS);
    assert!(operator.heard.settled.len() >= ANSWERS, "{:?}\n{}", operator.heard, device.log());
    // The daemon alone: strace ends with it.
    let pid = std::fs::read_to_string(device.state().join("graftd.lock")).unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    strace.wait().unwrap();
    // What the broker has is on its way, and counts as heard.
    operator.work(Duration::from_secs(1), |_| false);
    let ops = trace::read(&log, &device.state(), Path::new("/nowhere"));
    let heard = operator.heard.to_come();
    (State { disk, ledger: heard }, merged(ops, &operator.notes))
}

/// Notes stand before what was begun after them.
fn merged(ops: Vec<(f64, Op)>, notes: &[(f64, String)]) -> Vec<Op> {
    let mut merged = Vec::with_capacity(ops.len() + notes.len());
    let mut notes = notes.iter().peekable();
    for (time, op) in ops {
        while let Some((_, line)) = notes.next_if(|(noted, _)| *noted < time) {
            merged.push(Op::Mark(line.clone()));
        }
        merged.push(op);
    }
    merged
}

#[test]
fn nothing_an_operator_has_heard_is_lost_when_the_power_goes() {
    let _turn = support::turn();
    let cuts = cuts::number("GRAFTD_DAEMON_CUTS", CUTS);
    let (mut found, mut operations) = (Vec::new(), 0);
    for seed in 0..cuts.div_ceil(CUTS_EACH) {
        let (state, ops) = recorded(Deaf::No);
        operations += ops.len();
        let each = CUTS_EACH.min(cuts - seed * CUTS_EACH);
        found.extend(cuts::faults(state, &ops, each, (seed * 1000) as u64));
    }
    println!("{cuts} cuts over {operations} operations of the daemon, {} faults", found.len());
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// The test above can fail: with the syncs of the database not done it does.
#[test]
fn a_sync_that_the_daemon_does_not_do_is_noticed() {
    let _turn = support::turn();
    let (state, ops) = recorded(Deaf::ToDatabase);
    let found = cuts::faults(state, &ops, 36, 2);
    println!("{} of 36 cuts with a fault, such as: {}", found.len(), found.first().map_or("", |x| x));
    assert!(!found.is_empty(), "not noticed");
}

#[test]
fn nothing_an_operator_has_heard_is_lost_when_the_daemon_is_killed() {
    let _turn = support::turn();
    let kills = cuts::number("GRAFTD_DAEMON_KILLS", KILLS);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let (mut heard, mut samples) = (0, 0);
    for first in (0..kills).step_by(KILLS_EACH) {
        let operator = killed(KILLS_EACH.min(kills - first), &mut random);
        heard += operator.heard.settled.len();
        samples += operator.heard.samples.len();
    }
    println!("{kills} kills, {heard} answers, {samples} samples heard of");
}

/// One device whose daemon is killed again and again.
fn killed(kills: usize, random: &mut ChaCha8Rng) -> Operator {
    let device = Device::new(24, 20.0);
    let mut operator = Operator::new(&device.broker);
    for kill in 0..kills {
        let mut daemon = device.daemon().spawn().unwrap();
        let before = operator.heard.settled.len();
        let (least, pause) = (random.random_range(0..12), random.random_range(0..150));
        // Most in the midst of its work, some in its start.
        if kill % 5 != 4 {
            operator.work(PATIENCE, |heard| heard.settled.len() > before + least);
            assert!(operator.heard.settled.len() > before, "{}", device.log());
        }
        operator.work(Duration::from_millis(pause), |_| false);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // What the broker has is on its way, and counts as heard.
        operator.work(Duration::from_millis(300), |_| false);
        operator.heard.check(&device.state()).unwrap_or_else(|lack| panic!("kill {kill}: {lack}"));
    }
    // Whatever was interrupted is answered in the end.
    let mut daemon = device.daemon().spawn().unwrap();
    operator.wait_for_answers();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    operator
}
