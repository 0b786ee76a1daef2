//! The page that `graftd status` shows, from what the device tells: the same from here and from afar.

use serde_json::{Value, json};

use crate::web::{doubts, faults};

use super::when;

/// A device as it was seen.
pub(super) struct View {
    /// Which.
    pub device: String,
    /// Why nothing is heard of it now; none while it is.
    pub absent: Option<&'static str>,
    /// As MQTT's `state`, or what of it is known.
    pub state: Value,
    /// As MQTT's `model`, or null.
    pub model: Value,
}

const BAR: u64 = 24;

impl View {
    /// The same for scripts.
    pub fn to_json(&self) -> Value {
        json!({"device": self.device, "online": self.absent.is_none(), "state": self.state, "model": self.model})
    }

    /// The lines of the page. What is not known is left out.
    pub fn page(&self) -> Vec<String> {
        let state = &self.state;
        let mut page = vec![self.title()];
        let mut row = |name: &str, text: String| page.push(format!("{name:<10}{text}"));
        if let Some((first, rest)) = self.model_rows().split_first() {
            row("model", first.clone());
            rest.iter().for_each(|text| row("", text.clone()));
        }
        if let Some(text) = samples(state) {
            row("samples", text);
        }
        if let Some(text) = camera(state) {
            row("camera", text);
        }
        if let Some(text) = run(state) {
            row("run", text);
        }
        if let Some(text) = waits_for(&state["waits_for"]) {
            row("waits for", text);
        }
        if let Some(waiting) = state["outbox"].as_u64().filter(|waiting| *waiting > 0) {
            row("broker", format!("{waiting} messages wait for it"));
        }
        if let Some(text) = machine(state) {
            row("machine", text);
        }
        if self.absent.is_none() {
            let (faults, doubts) = (faults(state), doubts(state));
            let all: Vec<&String> = faults.iter().chain(&doubts).collect();
            match all.split_first() {
                None => row("faults", "none".into()),
                Some((first, rest)) => {
                    row("faults", (*first).clone());
                    rest.iter().for_each(|text| row("", (*text).clone()));
                }
            }
        }
        page
    }

    fn title(&self) -> String {
        let device = &self.device;
        if let Some(absent) = self.absent {
            return format!("{device}: {absent}; what was known last:");
        }
        let version = self.state["version"].as_str().map(|version| format!(", graftd {version}"));
        let up = self.state["uptime"].as_f64().map(|seconds| format!(", up {}", when::duration(seconds)));
        format!("{device}: online{}{}", version.unwrap_or_default(), up.unwrap_or_default())
    }

    fn model_rows(&self) -> Vec<String> {
        let model = &self.model;
        let Some(slot) = model["slot"].as_u64().or(self.state["slot"].as_u64()) else { return Vec::new() };
        let names: Vec<&str> = list(&model["classes"]).filter_map(Value::as_str).collect();
        let classes = match names.as_slice() {
            [] => String::new(),
            few if few.len() <= 6 => format!(" ({})", few.join(", ")),
            many => format!(" ({} and {} more classes)", many[..5].join(", "), many.len() - 5),
        };
        let scores = |value: &Value| {
            let score = |key: &str| value[key].as_f64();
            Some((score("mAP50")?, score("mAP50_95")?))
        };
        let scores = match (scores(&model["after"]), scores(&model["before"])) {
            (Some((map50, map50_95)), before) => {
                let before = before.map(|(map50, map50_95)| format!(" (before: {map50:.3}, {map50_95:.3})"));
                let before = before.unwrap_or_default();
                format!(", hold-out mAP50 {map50:.3}, mAP50-95 {map50_95:.3}{before}")
            }
            _ if slot == 0 => ", the base".into(),
            _ => String::new(),
        };
        let mut rows = vec![format!("slot {slot}{classes}{scores}")];
        if let (Some(data), Some(time)) = (model["trained_on"].as_str(), model["time"].as_f64()) {
            rows.push(format!("trained on {data}; {}", when::utc(time)));
        }
        rows
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn samples(state: &Value) -> Option<String> {
    let kept = state["samples"].as_u64()?;
    let (learn, holdout) =
        (state["labelled"].as_u64().unwrap_or_default(), state["holdout"].as_u64().unwrap_or_default());
    let waiting = kept.saturating_sub(learn + holdout);
    let room: Vec<String> = [
        state["frames_mb"].as_u64().map(|mb| format!("{mb} MB")),
        state["disk_free_mb"].as_u64().map(|mb| format!("{mb} MB free")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let room = if room.is_empty() { String::new() } else { format!(" ({})", room.join(", ")) };
    Some(format!("{kept} kept: {learn} to learn from, {holdout} held out, {waiting} wait for labels{room}"))
}

fn camera(state: &Value) -> Option<String> {
    let camera = state["camera"].as_str()?;
    let gives = state["camera_gives"].as_str().map(|gives| format!(": {gives}")).unwrap_or_default();
    let frames = state["frames"].as_u64().unwrap_or_default();
    Some(format!("{camera}{gives}; {frames} frames looked at"))
}

/// The run that goes on.
pub(super) fn run(state: &Value) -> Option<String> {
    let id = state["run"].as_str()?;
    let paused = if state["paused"] == true { ", paused" } else { "" };
    let progress = &state["progress"];
    let (Some(done), Some(total)) = (progress["done"].as_u64(), progress["total"].as_u64()) else {
        return Some(format!("{id}, begins{paused}"));
    };
    let bar = bar(done, total);
    let mut text = match progress["stage"].as_str() {
        Some("features") => format!("{bar} features of {done} of {total} views"),
        _ => format!("{bar} epoch {done} of {total}"),
    };
    if let Some(map) = progress["map50_95"].as_f64() {
        text += &format!(", mAP50-95 {map:.3}");
    }
    if let Some(best) = progress["best_map50_95"].as_f64() {
        text += &format!(" (best {best:.3})");
    }
    if let Some(seconds) = progress["seconds_left"].as_f64() {
        text += &format!(", {} left", when::duration(seconds));
    }
    Some(text + paused)
}

fn bar(done: u64, total: u64) -> String {
    let full = (done.min(total) * BAR).checked_div(total).unwrap_or_default() as usize;
    "█".repeat(full) + &"░".repeat(BAR as usize - full)
}

/// What a scheduled run waits for, where the daemon tells: one reason or several.
fn waits_for(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(reasons) => {
            let reasons: Vec<String> = reasons.iter().filter_map(waits_for).collect();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        }
        other => Some(other.to_string()),
    }
}

fn machine(state: &Value) -> Option<String> {
    let runtime = state["runtime"].as_str().map(String::from);
    let degrees = state["temperature"].as_f64().map(|degrees| format!("{degrees:.0} °C"));
    let all: Vec<String> = [runtime, degrees].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Value {
        json!({
            "version": "0.1.0", "uptime": 11_520, "slot": 3, "classes": ["crown"], "samples": 142, "labelled": 30,
            "holdout": 6, "frames": 5021, "bad_frames": 0, "camera": "on",
            "camera_gives": "MJPG of 1280×720, 30 a second", "camera_trouble": null, "runtime": "ort", "run": null,
            "paused": false, "progress": null, "outbox": 0, "set_aside": 0, "storage": "ok", "frames_mb": 14,
            "disk_free_mb": 20480, "temperature": 48.2,
        })
    }

    fn view(change: Value) -> View {
        let mut state = state();
        state.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let model = json!({
            "slot": 3, "classes": ["crown", "weed"], "time": 1_764_000_000.0, "trained_on": "30 samples, measured on 6",
            "before": {"mAP50": 0.155, "mAP50_95": 0.049}, "after": {"mAP50": 0.374, "mAP50_95": 0.131},
        });
        View { device: "barn".into(), absent: None, state, model }
    }

    #[test]
    fn a_healthy_day_is_seven_lines() {
        let expected = "\
barn: online, graftd 0.1.0, up 3 h 12 min
model     slot 3 (crown, weed), hold-out mAP50 0.374, mAP50-95 0.131 (before: 0.155, 0.049)
          trained on 30 samples, measured on 6; 2025-11-24 16:00 UTC
samples   142 kept: 30 to learn from, 6 held out, 106 wait for labels (14 MB, 20480 MB free)
camera    on: MJPG of 1280×720, 30 a second; 5021 frames looked at
machine   ort, 48 °C
faults    none";
        assert_eq!(view(json!({})).page().join("\n"), expected);
    }

    #[test]
    fn a_run_has_a_bar_and_a_wait_its_reason() {
        let progress = json!({
            "stage": "epochs", "done": 10, "total": 40, "map50_95": 0.11, "best_map50_95": 0.12, "seconds_left": 90.0,
        });
        let change = json!({"run": "019a", "progress": progress, "paused": true, "outbox": 3});
        let page = view(change).page();
        let run = "run       ██████░░░░░░░░░░░░░░░░░░ epoch 10 of 40, mAP50-95 0.110 (best 0.120), 1 min 30 s left, paused";
        assert!(page.iter().any(|line| line == run), "{page:#?}");
        assert!(page.iter().any(|line| line == "broker    3 messages wait for it"), "{page:#?}");
        let features = json!({"run": "019a", "progress": {"stage": "features", "done": 0, "total": 0}});
        assert!(view(features).page().iter().any(|line| line.ends_with("░ features of 0 of 0 views")));
        for waits in [json!("12 more labels"), json!(["12 more labels", "02:00"])] {
            let page = view(json!({"waits_for": waits})).page();
            assert!(page.iter().any(|line| line.starts_with("waits for 12 more labels")), "{page:#?}");
        }
    }

    #[test]
    fn every_fault_has_a_line() {
        let trouble = json!({"reason": "camera test: gone", "seconds": 1, "tries": 1, "next_try": 1});
        let change = json!({"camera": "away", "camera_trouble": trouble, "storage": "full", "bad_frames": 2});
        let page = view(change).page();
        let faults = page.iter().position(|line| line.starts_with("faults    the camera gives no frames"));
        assert_eq!(page.len() - faults.expect("faults"), 3, "{page:#?}");
    }

    #[test]
    fn a_device_that_is_away_shows_what_is_known() {
        let state = json!({"samples": 3, "labelled": 1, "holdout": 0});
        let absent = Some("the daemon does not run");
        let view = View { device: "barn".into(), absent, state, model: Value::Null };
        let expected = "\
barn: the daemon does not run; what was known last:
samples   3 kept: 1 to learn from, 0 held out, 2 wait for labels";
        assert_eq!(view.page().join("\n"), expected);
    }
}
