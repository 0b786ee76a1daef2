//! Every report that the store has taken reaches the broker's subscribers, in order for each topic, however
//! often the broker goes and the process is killed. What comes twice has the same id both times.
//!
//! `GRAFTD_LINK_REPORTS`, `GRAFTD_LINK_BROKER_KILLS` and `GRAFTD_LINK_KILLS` ask for more (`make torture`).

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use graftd::config::Config;
use graftd::mqtt::{Facts, Link, LinkEvent, LinkSettings, Taken, Topics, identified};
use graftd::store::{Message, Store};
use serde_json::json;
use support::broker::{Mosquitto, PATIENCE, Watcher, wait_until};
use support::closing::ClosingBroker;

const WRITER: &str = "GRAFTD_TEST_LINK_WRITER";
const ROOT: &str = "graftd/test";
/// Topics that reports go to in turn.
const LANES: usize = 4;

/// Not a test of its own: what is killed. Pushes reports and says on stdout which ones the store has taken;
/// its link empties the outbox meanwhile.
#[test]
fn writer() {
    let Ok(work) = std::env::var(WRITER) else { return };
    let [dir, config, first, reports] = work.split('|').collect::<Vec<_>>()[..] else { panic!("{work}") };
    let (first, reports): (usize, usize) = (first.parse().unwrap(), reports.parse().unwrap());
    let store = Arc::new(Store::open(Path::new(dir)).unwrap());
    let config = Config::load(Path::new(config)).unwrap();
    let settings = LinkSettings::new(&config, Topics::new(ROOT)).unwrap();
    let taken = |event| match event {
        LinkEvent::Refused(reason) => panic!("{reason}"),
        LinkEvent::Connected | LinkEvent::Away | LinkEvent::Message { .. } => Taken::Idle,
    };
    let link = Link::start(settings, Arc::clone(&store), Arc::new(Facts::default()), taken).unwrap();
    for number in first..reports {
        let topic = format!("{ROOT}/event/lane/{}", number % LANES);
        let payload = identified(&json!({"number": number, "ballast": "x".repeat(number % 7 * 100)}));
        store.outbox().push(&Message { topic, payload, droppable: false, correlation: None }).unwrap();
        println!("pushed {number}");
        link.wake();
    }
    // Whoever started it ends it when all has arrived.
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn number_of(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |value| value.parse().expect("a number"))
}

/// The process that writes, and what it says.
struct Writer {
    child: Child,
    said: Receiver<usize>,
}

impl Writer {
    fn start(folder: &Path, first: usize, reports: usize) -> Self {
        let work = format!(
            "{}|{}|{first}|{reports}",
            folder.join("state").display(),
            folder.join("graftd.toml").display()
        );
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(WRITER, work)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, said) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test harness' own words stand before the first.
                if let Some((_, number)) = line.split_once("pushed ") {
                    let _ = say.send(number.parse().unwrap());
                }
            }
        });
        Writer { child, said }
    }

    /// Kills it; what it said until then.
    fn kill(mut self) -> Vec<usize> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said.iter().collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Already over where it was killed on purpose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the subscriber got.
#[derive(Default)]
struct Got {
    /// Of each topic the numbers in the order of their first coming.
    order: HashMap<String, Vec<usize>>,
    /// Which ids each number came under.
    ids: HashMap<usize, HashSet<String>>,
    /// Messages, the same ones again counted.
    messages: usize,
}

impl Got {
    fn take(&mut self, topic: String, report: &serde_json::Value) {
        let number = report["number"].as_u64().unwrap() as usize;
        let ids = self.ids.entry(number).or_default();
        if ids.is_empty() {
            self.order.entry(topic).or_default().push(number);
        }
        ids.insert(report["id"].as_str().unwrap().to_owned());
        self.messages += 1;
    }
}

#[test]
fn what_a_broker_closes_over_does_not_hold_up_the_rest() {
    let broker = ClosingBroker::start(|topic| topic.ends_with("/forbidden"));
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    for topic in ["1", "forbidden", "2", "3"] {
        let topic = format!("{ROOT}/event/{topic}");
        let message = Message { topic, payload: b"{}".to_vec(), droppable: false, correlation: None };
        store.outbox().push(&message).unwrap();
    }
    let mut config = Config::default();
    config.mqtt.broker = format!("mqtt://127.0.0.1:{}", broker.port).parse().unwrap();
    let settings = LinkSettings::new(&config, Topics::new(ROOT)).unwrap();
    let facts = Arc::new(Facts::default());
    // A retained topic comes first, and is as much of a stumbling block.
    facts.set(&format!("{ROOT}/cmd/forbidden"), b"{}");
    let link = Link::start(settings, Arc::clone(&store), facts, |_| Taken::Idle).unwrap();
    let mut events: Vec<String> = Vec::new();
    let mut is_online = false;
    while !is_online || events.last().is_none_or(|last| !last.ends_with("/3")) {
        let topic = broker.taken.recv_timeout(PATIENCE).expect("another one is taken");
        is_online |= topic.ends_with("/status");
        if topic.contains("/event/") && !events.contains(&topic) {
            events.push(topic);
        }
    }
    assert_eq!(events, ["1", "2", "3"].map(|topic| format!("{ROOT}/event/{topic}")));
    wait_until("the outbox is empty", || store.outbox().is_empty());
    assert_eq!(store.outbox().aside(), 1);
    link.stop(Instant::now() + PATIENCE);
}

fn nothing_is_lost(version: u8) {
    let reports = number_of("GRAFTD_LINK_REPORTS", 500);
    let broker_kills = number_of("GRAFTD_LINK_BROKER_KILLS", 5);
    let kills = number_of("GRAFTD_LINK_KILLS", 2);
    let folder = tempfile::tempdir().unwrap();
    // What the broker has acknowledged it must not lose itself: see `Mosquitto::restart`.
    let mut broker = Mosquitto::start(folder.path());
    let text = format!("[mqtt]\nbroker = {:?}\nversion = {version}\n", broker.url());
    std::fs::write(folder.path().join("graftd.toml"), text).unwrap();
    let watcher = Watcher::start(&broker, &format!("{ROOT}/event"));

    let mut writer = Writer::start(folder.path(), 0, reports);
    let (mut got, mut pushed) = (Got::default(), HashSet::new());
    let (mut broker_killed, mut killed) = (0, 0);
    let mut progress = Instant::now();
    while got.ids.len() < reports || pushed.len() < reports {
        let before = got.messages + pushed.len();
        pushed.extend(writer.said.try_iter());
        if let Some((topic, report)) = watcher.next(Duration::from_millis(20)) {
            got.take(topic, &report);
        }
        // Both go in the middle of the work, at places of their own.
        if killed < kills && pushed.len() >= (killed + 1) * reports / (kills + 1) {
            killed += 1;
            pushed.extend(writer.kill());
            let first = pushed.iter().max().map_or(0, |last| last + 1);
            writer = Writer::start(folder.path(), first, reports);
        }
        if broker_killed < broker_kills && got.ids.len() >= (broker_killed + 1) * reports / (broker_kills + 1)
        {
            broker_killed += 1;
            broker.restart();
        }
        if got.messages + pushed.len() > before {
            progress = Instant::now();
        }
        let (have, all) = (got.ids.len(), pushed.len());
        assert!(progress.elapsed() < PATIENCE, "{have} of {all} have come, and no more do");
    }
    assert_eq!((broker_killed, killed), (broker_kills, kills));

    for (topic, numbers) in &got.order {
        assert!(numbers.is_sorted(), "{topic}: {numbers:?}");
    }
    assert_eq!(got.order.len(), LANES);
    // A number under two ids was written twice: the process was killed before it could say that it was taken.
    let twice = got.ids.values().filter(|ids| ids.len() > 1).count();
    assert!(twice <= kills, "{twice} numbers have more than one id");
    let ids: usize = got.ids.values().map(HashSet::len).sum();
    println!(
        "MQTT {version}: {reports} reports, {broker_kills} ends of the broker, {kills} kills: each came, {} twice",
        got.messages - ids
    );
}

#[test]
fn each_report_comes_in_order_over_kills() {
    nothing_is_lost(3);
}

#[test]
fn each_report_comes_in_order_over_kills_with_mqtt_5() {
    nothing_is_lost(5);
}
