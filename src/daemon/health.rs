//! How warm the machine is.

use std::fs;

/// Of the warmest thermal zone, °C; none where the kernel shows none.
pub(super) fn temperature() -> Option<f64> {
    let zones = fs::read_dir("/sys/class/thermal").ok()?;
    let degrees = zones.flatten().filter_map(|zone| {
        let text = fs::read_to_string(zone.path().join("temp")).ok()?;
        Some(text.trim().parse::<f64>().ok()? / 1000.0)
    });
    degrees.max_by(f64::total_cmp)
}
