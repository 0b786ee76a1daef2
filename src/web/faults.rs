//! What is wrong with a device, from its state.

use serde_json::Value;

/// What keeps the device from its work, in words; nothing on a healthy day. `state` is what MQTT's `state`
/// says; what an older daemon does not tell is no fault.
pub fn faults(state: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(reason) = state["camera_trouble"]["reason"].as_str() {
        let trouble = &state["camera_trouble"];
        let seconds = |key: &str| trouble[key].as_u64().unwrap_or_default();
        faults.push(format!(
            "the camera gives no frames for {} s ({} tries, the next in {} s): {reason}",
            seconds("seconds"),
            seconds("tries"),
            seconds("next_try")
        ));
    }
    if state["storage"] == "full" {
        let free = state["disk_free_mb"].as_u64().map(|free| format!(", {free} MB are free on the disk"));
        let (free, frames) = (free.unwrap_or_default(), state["frames_mb"].as_u64().unwrap_or_default());
        faults.push(format!(
            "no frame is kept: the disk or the store is full (frames take {frames} MB{free}); make room or raise \
             store.max_mb"
        ));
    }
    if let Some(aside) = state["set_aside"].as_u64().filter(|aside| *aside > 0) {
        faults.push(format!("{aside} messages were set aside because the broker would not take them"));
    }
    faults
}

/// What does not keep it from its work, and is worth a look.
pub fn doubts(state: &Value) -> Vec<String> {
    let number = |key: &str| state[key].as_u64().unwrap_or_default();
    let (frames, bad) = (number("frames"), number("bad_frames"));
    match bad {
        0 => Vec::new(),
        bad => vec![format!("{bad} of {} frames could not be looked at; the log says why", frames + bad)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_healthy_state_has_none() {
        let state =
            json!({"camera": "on", "camera_trouble": null, "storage": "ok", "set_aside": 0, "bad_frames": 0});
        assert!(faults(&state).is_empty() && doubts(&state).is_empty());
        assert!(faults(&json!({})).is_empty(), "of an older daemon");
    }

    #[test]
    fn each_fault_is_told_with_what_to_do() {
        let trouble = json!({"reason": "camera /dev/video0: it is not there", "seconds": 12, "tries": 3, "next_try": 7});
        let state = json!({
            "camera_trouble": trouble, "storage": "full", "frames_mb": 14, "disk_free_mb": 2, "set_aside": 1,
            "frames": 90, "bad_frames": 10,
        });
        let told = faults(&state);
        assert!(told[0].contains("for 12 s (3 tries, the next in 7 s): camera /dev/video0"), "{told:?}");
        assert!(told[1].contains("14 MB, 2 MB are free") && told[1].contains("store.max_mb"), "{told:?}");
        assert!(told[2].starts_with("1 messages"), "{told:?}");
        assert_eq!(doubts(&state), ["10 of 100 frames could not be looked at; the log says why"]);
    }
}
