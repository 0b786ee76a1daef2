//! When a run starts by itself, when it waits, and for what.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::ZonedDateTime;

use crate::config::Schedule;
use crate::mqtt::TrainArguments;
use crate::store::LastRun;

use super::ask::Ask;
use super::core::Core;
use super::machine::Machine;

/// How often it is looked whether a run may start, wait or go on.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A run that could not be started is tried again after so long, or when something was labelled.
const TRY_AGAIN: Duration = Duration::from_secs(600);
/// A run that waits because it is warm goes on when it is so much cooler, °C: else it would stop and start
/// every few seconds.
const COOLER_BY: f64 = 5.0;

/// What the loop remembers between two looks.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// When to look next.
    pub due: Instant,
    /// What the next run waits for, or the one that goes on; for people.
    pub waits_for: Vec<String>,
    /// Why the last try failed, when, and how much was labelled then.
    failed: Option<(String, Instant, u64)>,
}

/// What decides about a run.
#[derive(Debug)]
struct Conditions {
    now: ZonedDateTime,
    /// Since the last run began; none where there was none, or where it lies in the future: then the clock was
    /// turned back, and that time says nothing.
    since_last: Option<Duration>,
    /// Samples labelled since then.
    new_labels: u64,
    machine: Machine,
}

impl Scheduler {
    pub fn new() -> Self {
        Scheduler { due: Instant::now(), waits_for: Vec::new(), failed: None }
    }
}

impl Core {
    /// Starts, holds or lets go on, as the schedule says.
    pub(super) fn follow_schedule(&mut self) {
        self.schedule.due = Instant::now() + LOOK_EVERY;
        let waits_for = match self.run.as_ref().map(|run| (run.is_scheduled(), run.is_held())) {
            Some((true, is_held)) => {
                let reasons =
                    holds(&self.config.train.schedule, &ZonedDateTime::now(), Machine::look(), is_held);
                self.hold_run(!reasons.is_empty());
                reasons
            }
            Some((false, _)) => Vec::new(),
            None => self.start_by_schedule(),
        };
        let by_hand = self.run.as_ref().is_some_and(|run| run.is_paused_by_hand());
        let waits_for = if by_hand { vec!["a resume command".into()] } else { waits_for };
        if waits_for != self.schedule.waits_for {
            self.schedule.waits_for = waits_for;
            self.state_changed();
        }
    }

    /// Starts a run if nothing is in its way; gives what is.
    fn start_by_schedule(&mut self) -> Vec<String> {
        let schedule = self.config.train.schedule.clone();
        if schedule.when.is_none() {
            return vec!["a train command (train.when is not set)".into()];
        }
        let labelled = self.labelled();
        if let Some((reason, at, then)) = &self.schedule.failed {
            if at.elapsed() < TRY_AGAIN && *then == labelled {
                return vec![reason.clone()];
            }
            self.schedule.failed = None;
        }
        let last = match self.store.last_run() {
            Ok(last) => last,
            Err(error) => {
                tracing::error!("{error}; runs start as if there had been none");
                None
            }
        };
        let conditions = Conditions {
            now: ZonedDateTime::now(),
            since_last: last
                .and_then(|last| (UNIX_EPOCH + Duration::from_millis(last.began_ms)).elapsed().ok()),
            new_labels: labelled.saturating_sub(last.map_or(0, |last| last.labelled)),
            machine: Machine::look(),
        };
        let obstacles = obstacles(&schedule, &conditions);
        if !obstacles.is_empty() {
            return obstacles;
        }
        match self.start_run(&TrainArguments::default(), &Ask::Schedule) {
            Ok(()) => Vec::new(),
            Err(reason) => {
                tracing::warn!("the schedule's run does not start: {reason}");
                self.schedule.failed = Some((reason.clone(), Instant::now(), labelled));
                vec![reason]
            }
        }
    }

    /// A run begins: from here on it is counted what is labelled and how long it is ago.
    pub(super) fn remember_last_run(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = LastRun { began_ms: now.as_millis() as u64, labelled: self.labelled() };
        if let Err(error) = self.store.set_last_run(last) {
            tracing::error!("the next run may come too early: {error}");
        }
    }

    fn labelled(&self) -> u64 {
        let counts = self.store.samples().counts();
        counts.labelled + counts.holdout
    }
}

/// What is in the way of a run, for people.
fn obstacles(schedule: &Schedule, conditions: &Conditions) -> Vec<String> {
    let mut obstacles = Vec::new();
    if conditions.new_labels < schedule.new_labels {
        let (have, need) = (conditions.new_labels, schedule.new_labels);
        obstacles.push(format!("{} of {need} new labels", have));
    }
    let pause = Duration::from_secs_f64(schedule.every_hours * 3600.0);
    if let Some(left) =
        conditions.since_last.and_then(|since| pause.checked_sub(since)).filter(|left| !left.is_zero())
    {
        obstacles.push(format!("the last run to be {} h ago, in {}", schedule.every_hours, words(left)));
    }
    if let Some(load) = conditions.machine.load
        && let Some(most) = schedule.max_load.filter(|most| load >= *most)
    {
        obstacles.push(format!("a load below {most} per core; it is {load:.2}"));
    }
    obstacles.extend(holds(schedule, &conditions.now, conditions.machine, false));
    obstacles
}

/// What a run waits for that would go on otherwise. One that waits already does so until it is cooler.
fn holds(schedule: &Schedule, now: &ZonedDateTime, machine: Machine, is_held: bool) -> Vec<String> {
    let mut holds = Vec::new();
    if let Some(when) = schedule.when.as_ref().filter(|when| !when.is_open(now)) {
        let opens = when.opens(now).and_then(|opens| Duration::try_from(now.duration_until(&opens)).ok());
        let opens = opens.map_or(String::new(), |wait| format!(", which opens in {}", words(wait)));
        holds.push(format!("{when}{opens}"));
    }
    if schedule.on_mains && machine.on_mains == Some(false) {
        holds.push("mains power".into());
    }
    let most = if is_held { schedule.max_celsius - COOLER_BY } else { schedule.max_celsius };
    if let Some(celsius) = machine.celsius.filter(|celsius| *celsius > most) {
        holds.push(format!("{most:.0} °C or less; it is {celsius:.0} °C"));
    }
    holds
}

/// A length of time for people, to the minute and rounded up, so that it does not change all the time.
fn words(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    if minutes < 60 {
        format!("{minutes} min")
    } else {
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            when: Some("02:00-05:00".parse().expect("hours")),
            new_labels: 5,
            max_load: Some(0.8),
            ..Schedule::default()
        }
    }

    /// Everything as it must be for a run.
    fn good() -> Conditions {
        Conditions {
            now: "2026-11-25T03:00:00[UTC]".parse().expect("a moment"),
            since_last: Some(Duration::from_secs(24 * 3600)),
            new_labels: 5,
            machine: Machine { on_mains: Some(true), celsius: Some(60.0), load: Some(0.3) },
        }
    }

    #[test]
    fn a_run_starts_when_nothing_is_in_its_way() {
        assert_eq!(obstacles(&schedule(), &good()), Vec::<String>::new());
        // What the machine does not tell is in nobody's way, nor is a clock that was turned back.
        let silent = Conditions { machine: Machine::default(), since_last: None, ..good() };
        assert_eq!(obstacles(&schedule(), &silent), Vec::<String>::new());
    }

    #[test]
    fn each_obstacle_is_named() {
        let machine = good().machine;
        for (conditions, word) in [
            (Conditions { new_labels: 4, ..good() }, "4 of 5 new labels"),
            (
                Conditions { since_last: Some(Duration::from_secs(3600)), ..good() },
                "12 h ago, in 11 h 00 min",
            ),
            (
                Conditions { now: "2026-11-25T01:00:00[UTC]".parse().expect("a moment"), ..good() },
                "02:00-05:00, which opens in 1 h 00 min",
            ),
            (Conditions { machine: Machine { on_mains: Some(false), ..machine }, ..good() }, "mains power"),
            (
                Conditions { machine: Machine { celsius: Some(80.0), ..machine }, ..good() },
                "75 °C or less; it is 80 °C",
            ),
            (Conditions { machine: Machine { load: Some(0.9), ..machine }, ..good() }, "a load below 0.8"),
        ] {
            let found = obstacles(&schedule(), &conditions);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?} should tell {word:?}");
        }
    }

    #[test]
    fn a_run_waits_out_the_heat_and_not_its_own_load() {
        let (now, machine) = (good().now, good().machine);
        let at = |celsius, is_held| {
            let machine = Machine { celsius: Some(celsius), load: Some(1.0), ..machine };
            holds(&schedule(), &now, machine, is_held).len()
        };
        assert_eq!([at(74.0, false), at(76.0, false), at(74.0, true), at(70.0, true)], [0, 1, 1, 0]);
    }
}
