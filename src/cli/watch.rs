//! `graftd watch`: what a device tells, as it goes.

use std::io::IsTerminal;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::mqtt::Afar;
use crate::train::TrainEvent;
use crate::web::Client;

use super::afar::AfarArgs;
use super::failure::Failure;
use super::print;
use super::progress::{RunProgress, words};
use super::run::DeviceArgs;

/// After the device has gone it is looked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `graftd watch`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    afar: AfarArgs,
    /// Print each event as a line of JSON: its topic below the root, and its payload.
    #[arg(long)]
    json: bool,
    /// End after so many events; otherwise Ctrl-C ends it.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut watch = Watch::new(args);
    match args.afar.listen(&["status", "state", "model", "event/#", "cmd/+/+", "reply/+"])? {
        Some(afar) => from_afar(afar, &mut watch),
        None => here(args, &mut watch),
    }
}

fn here(args: &Args, watch: &mut Watch) -> Result<(), Failure> {
    let device = args.device.device()?;
    let none = || Failure::failed(format!("{}: no daemon runs; start it first", device.state_dir.display()));
    let mut daemon: Client = device.daemon()?.ok_or_else(none)?;
    loop {
        for event in daemon.events()? {
            let topic = event["topic"].as_str().unwrap_or_default();
            if watch.tell(topic, &event["payload"])? {
                return Ok(());
            }
        }
        watch.gone("the daemon has gone; waiting for it");
        daemon = loop {
            thread::sleep(LOOK_AGAIN);
            if let Some(daemon) = device.daemon()? {
                break daemon;
            }
        };
    }
}

fn from_afar(mut afar: Afar, watch: &mut Watch) -> Result<(), Failure> {
    let mut was_connected = false;
    loop {
        match afar.next(Instant::now() + Duration::from_secs(60)) {
            Ok(Some(heard)) => {
                was_connected = true;
                let text = || Value::String(String::from_utf8_lossy(&heard.payload).into_owned());
                let payload = serde_json::from_slice(&heard.payload).unwrap_or_else(|_| text());
                if watch.tell(&heard.topic, &payload)? {
                    return Ok(());
                }
            }
            Ok(None) => {}
            Err(error) if was_connected => {
                watch.gone(&format!("{error}; trying again"));
                thread::sleep(LOOK_AGAIN);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells of events, and counts them.
struct Watch {
    json: bool,
    left: Option<u64>,
    /// Shows a run as a bar, on a terminal.
    bar: Option<RunProgress>,
    state: String,
}

impl Watch {
    fn new(args: &Args) -> Self {
        let is_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = (is_terminal && !args.json).then(RunProgress::new);
        Watch { json: args.json, left: args.count, bar, state: String::new() }
    }

    /// Tells of an event; whether it was the last that was asked for.
    fn tell(&mut self, topic: &str, payload: &Value) -> Result<bool, Failure> {
        if self.json {
            print::json(&json!({"topic": topic, "payload": payload}))?;
            return Ok(self.counted());
        }
        if let Some(bar) = &mut self.bar
            && let Some(event @ (TrainEvent::Features { .. } | TrainEvent::Epoch { .. })) =
                train_event(topic, payload)
        {
            bar.tell(&event);
            return Ok(self.counted());
        }
        let Some(text) = line(topic, payload) else { return Ok(false) };
        // Told every half minute; only what is new is worth a line.
        if topic == "state" {
            if text == self.state {
                return Ok(false);
            }
            self.state.clone_from(&text);
        }
        if let (Some(bar), true) = (&mut self.bar, is_end(topic, payload)) {
            bar.clear();
        }
        match &self.bar {
            Some(bar) => bar.above(|| print::line(&text))?,
            None => print::line(&text)?,
        }
        Ok(self.counted())
    }

    fn gone(&mut self, text: &str) {
        if let Some(bar) = &mut self.bar {
            bar.clear();
        }
        eprintln!("{text}");
    }

    fn counted(&mut self) -> bool {
        match &mut self.left {
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => false,
        }
    }
}

fn train_event(topic: &str, payload: &Value) -> Option<TrainEvent> {
    topic.strip_prefix("event/run/")?;
    serde_json::from_value(payload.clone()).ok()
}

fn is_end(topic: &str, payload: &Value) -> bool {
    topic.starts_with("event/run/")
        && matches!(payload["event"].as_str(), Some("finished" | "refused" | "failed"))
}

/// An event in words; none for what nobody wants to read.
fn line(topic: &str, payload: &Value) -> Option<String> {
    let text = |key: &str| payload[key].as_str().unwrap_or_default();
    let number = |key: &str| payload[key].as_u64().unwrap_or_default();
    if topic.starts_with("event/run/") {
        let run = text("run");
        let told = train_event(topic, payload).map(|event| words(&event));
        let told = told.unwrap_or_else(|| format!("{}: {}", text("event"), text("reason")));
        return Some(row("run", &format!("{run} {told}")));
    }
    match topic {
        "event/sample" => {
            let boxes = payload["boxes"].as_array().map_or(0, Vec::len);
            let (sample, source, why) = (text("sample"), text("source"), text("why"));
            Some(row("kept", &format!("{sample} from {source}, {boxes} boxes: {why}")))
        }
        "state" => {
            let waiting = number("samples").saturating_sub(number("labelled") + number("holdout"));
            let mut told = format!(
                "slot {}, {} samples, {waiting} wait for labels, camera {}, storage {}",
                number("slot"),
                number("samples"),
                text("camera"),
                text("storage")
            );
            match (payload["run"].as_str(), payload["paused"] == true) {
                (Some(run), true) => told += &format!(", run {run} paused"),
                (Some(run), false) => told += &format!(", run {run}"),
                (None, _) => {}
            }
            if let Some(reason) = payload["camera_trouble"]["reason"].as_str() {
                told += &format!("; {reason}");
            }
            Some(row("state", &told))
        }
        "model" => {
            let map = payload["after"]["mAP50_95"].as_f64();
            let map = map.map(|map| format!(", hold-out mAP50-95 {map:.3}")).unwrap_or_default();
            Some(row("model", &format!("slot {}{map}", number("slot"))))
        }
        "status" => Some(row("status", payload.as_str()?)),
        command => {
            let reason = payload["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
            Some(row("command", &format!("{command} {}{reason}", payload["status"].as_str()?)))
        }
    }
}

fn row(name: &str, text: &str) -> String {
    format!("{name:<9} {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_one_line() {
        let sample = json!({"sample": "019a", "source": "a.jpg", "why": "random", "boxes": [{}, {}]});
        let state =
            json!({"slot": 1, "samples": 5, "labelled": 2, "holdout": 1, "camera": "on", "storage": "ok"});
        let end = json!({"run": "019b", "event": "refused", "reason": "no better"});
        let features = json!({"run": "019b", "event": "features", "done": 1, "total": 2});
        for (topic, payload, expected) in [
            ("event/sample", sample, "kept      019a from a.jpg, 2 boxes: random"),
            ("state", state, "state     slot 1, 5 samples, 2 wait for labels, camera on, storage ok"),
            (
                "model",
                json!({"slot": 1, "after": {"mAP50_95": 0.5}}),
                "model     slot 1, hold-out mAP50-95 0.500",
            ),
            ("event/run/019b", features, "run       019b features of 1/2 views"),
            ("event/run/019b", end, "run       019b refused: no better"),
            ("cmd/fly/7", json!({"status": "failed", "reason": "x"}), "command   cmd/fly/7 failed: x"),
            ("status", json!("offline"), "status    offline"),
        ] {
            assert_eq!(line(topic, &payload).as_deref(), Some(expected));
        }
        assert_eq!(line("cmd/fly/7", &Value::Null), None);
    }

    #[test]
    fn a_state_that_says_nothing_new_is_not_told_and_not_counted() {
        let mut watch = Watch { json: false, left: Some(2), bar: None, state: String::new() };
        let state = |uptime: u32, slot: u32| json!({"uptime": uptime, "slot": slot});
        let mut ends = |state: Value| watch.tell("state", &state).unwrap_or_else(|_| panic!("stdout"));
        assert!(!ends(state(1, 0)));
        assert!(!ends(state(2, 0)));
        assert!(ends(state(3, 1)));
    }
}
