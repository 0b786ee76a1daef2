//! What Prometheus collects, in its text format (version 0.0.4 of the exposition formats): for each metric
//! what it is, its type, and its values.

use std::fmt::Write;

use serde_json::Value;

use crate::train::rss_mb;

use super::hub::Hub;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const MB: f64 = (1 << 20) as f64;

/// All metrics, from the state and the current model as MQTT tells them.
pub(super) fn text(state: &Value, model: &Value, hub: &Hub) -> String {
    let mut page = Page::default();
    let version = state["version"].as_str().unwrap_or_default();
    let runtime = state["runtime"].as_str().unwrap_or_default();
    let labels = format!("{{version=\"{version}\",runtime=\"{runtime}\"}}");
    page.family("graftd_info", "What runs.", "gauge", [(labels.as_str(), Some(1.0))]);
    page.gauge("graftd_uptime_seconds", "Since the daemon started.", number(&state["uptime"]));
    page.counter("graftd_frames_total", "Frames looked at since the start.", number(&state["frames"]));
    page.counter(
        "graftd_bad_frames_total",
        "Frames since the start that could not be looked at.",
        number(&state["bad_frames"]),
    );
    page.counter("graftd_kept_frames_total", "Frames kept since the start.", Some(hub.kept() as f64));
    page.counter("graftd_labels_total", "Labels taken since the start.", Some(hub.labelled() as f64));
    let of = |key: &str| number(&state[key]);
    let unlabelled = of("samples")
        .map(|samples| samples - of("labelled").unwrap_or_default() - of("holdout").unwrap_or_default());
    page.family(
        "graftd_samples",
        "Samples in the store.",
        "gauge",
        [
            ("{state=\"unlabelled\"}", unlabelled),
            ("{state=\"labelled\"}", of("labelled")),
            ("{state=\"holdout\"}", of("holdout")),
        ],
    );
    page.gauge("graftd_outbox_messages", "Messages that wait for the broker.", of("outbox"));
    page.gauge("graftd_set_aside_messages", "Messages that no broker would take.", of("set_aside"));
    page.gauge("graftd_frames_bytes", "What the kept frames take.", of("frames_mb").map(|mb| mb * MB));
    page.gauge(
        "graftd_disk_free_bytes",
        "Free space where the state lies.",
        of("disk_free_mb").map(|mb| mb * MB),
    );
    page.gauge(
        "graftd_storage_full",
        "1 while no frame is kept for want of room.",
        flag(&state["storage"], "full"),
    );
    page.gauge("graftd_temperature_celsius", "Of the warmest zone.", of("temperature"));
    page.gauge("graftd_camera_up", "1 while the camera gives frames.", flag(&state["camera"], "on"));
    let runs = state.get("run").map(|run| f64::from(!run.is_null()));
    page.gauge("graftd_run_in_progress", "1 while a run goes on.", runs);
    let paused = state["paused"].as_bool().map(f64::from);
    page.gauge("graftd_run_paused", "1 while the run waits because somebody paused it.", paused);
    let progress = &state["progress"];
    if progress["stage"] == "epochs" {
        page.gauge("graftd_run_epoch", "Epochs that the run has gone through.", number(&progress["done"]));
        page.gauge("graftd_run_epochs", "Epochs that the run was asked for.", number(&progress["total"]));
        page.gauge(
            "graftd_run_map50_95_ratio",
            "The run's hold-out mAP over IoU 0.50 to 0.95 after its last epoch.",
            number(&progress["map50_95"]),
        );
    }
    page.gauge("graftd_model_slot", "The current slot; 0 is the base.", of("slot"));
    page.gauge(
        "graftd_model_map50_ratio",
        "The current model's hold-out mAP at IoU 0.50, where a run has measured it.",
        number(&model["after"]["mAP50"]),
    );
    page.gauge(
        "graftd_model_map50_95_ratio",
        "The current model's hold-out mAP over IoU 0.50 to 0.95, where a run has measured it.",
        number(&model["after"]["mAP50_95"]),
    );
    page.gauge("process_resident_memory_bytes", "Memory that the process holds.", rss_mb().map(|mb| mb * MB));
    page.0
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn flag(value: &Value, yes: &str) -> Option<f64> {
    value.as_str().map(|found| f64::from(found == yes))
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.family(name, help, "counter", [("", value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.family(name, help, "gauge", [("", value)]);
    }

    /// What is not known is left out.
    fn family<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        values: [(&str, Option<f64>); N],
    ) {
        if values.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        let written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        written.expect("a string takes everything");
        for (labels, value) in values {
            if let Some(value) = value {
                writeln!(self.0, "{name}{labels} {value}").expect("a string takes everything");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_has_its_help_and_type_and_what_is_unknown_is_left_out() {
        let hub = Hub::default();
        hub.tell("event/sample", b"{}");
        hub.count_label();
        let state = json!({
            "version": "0.1.0", "runtime": "ort", "uptime": 61, "slot": 2, "samples": 36, "labelled": 20,
            "holdout": 6, "frames": 400, "bad_frames": 1, "camera": "away", "outbox": 3, "set_aside": 0,
            "storage": "full", "frames_mb": 14, "disk_free_mb": null, "temperature": 48.25, "run": "a",
            "paused": false, "progress": {"stage": "epochs", "done": 7, "total": 40, "map50_95": 0.11},
        });
        let text = text(&state, &json!({"after": {"mAP50": 0.374, "mAP50_95": 0.131}}), &hub);
        for line in [
            "graftd_info{version=\"0.1.0\",runtime=\"ort\"} 1",
            "graftd_frames_total 400",
            "graftd_bad_frames_total 1",
            "graftd_kept_frames_total 1",
            "graftd_labels_total 1",
            "graftd_samples{state=\"unlabelled\"} 10",
            "graftd_outbox_messages 3",
            "graftd_frames_bytes 14680064",
            "graftd_storage_full 1",
            "graftd_temperature_celsius 48.25",
            "graftd_camera_up 0",
            "graftd_run_in_progress 1",
            "graftd_run_epoch 7",
            "graftd_run_epochs 40",
            "graftd_run_map50_95_ratio 0.11",
            "graftd_model_slot 2",
            "graftd_model_map50_95_ratio 0.131",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("disk_free"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        let mut known = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => known = rest.split(' ').next().expect("a name"),
                None if line.starts_with('#') => {}
                None => {
                    let name = line.split(['{', ' ']).next().expect("a name");
                    assert_eq!(name, known, "{line}");
                    assert!(line.rsplit(' ').next().expect("a value").parse::<f64>().is_ok(), "{line}");
                }
            }
        }
    }
}
