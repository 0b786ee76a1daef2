//! What the machine tells of itself: how warm it is, what feeds it, how busy it is.

use std::fs;
use std::path::Path;

/// How the machine is. What it does not tell is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Machine {
    /// Whether it is fed by the mains rather than by a battery.
    pub on_mains: Option<bool>,
    /// Of the warmest thermal zone, °C.
    pub celsius: Option<f64>,
    /// Load of the last minute, per core.
    pub load: Option<f64>,
}

impl Machine {
    /// Asks the kernel.
    pub fn look() -> Self {
        Machine {
            on_mains: on_mains(Path::new("/sys/class/power_supply")),
            celsius: temperature(),
            load: load(),
        }
    }
}

/// Of the warmest thermal zone, °C; none where the kernel shows none.
pub(super) fn temperature() -> Option<f64> {
    let zones = fs::read_dir("/sys/class/thermal").ok()?;
    let degrees = zones.flatten().filter_map(|zone| {
        let text = fs::read_to_string(zone.path().join("temp")).ok()?;
        Some(text.trim().parse::<f64>().ok()? / 1000.0)
    });
    degrees.max_by(f64::total_cmp)
}

/// The kernel's `power_supply` class: batteries of the machine's own say whether they are being emptied, other
/// supplies whether they feed. A mouse's battery (`scope` Device) says nothing of the machine.
fn on_mains(supplies: &Path) -> Option<bool> {
    let (mut feeds, mut empties) = (None, false);
    for supply in fs::read_dir(supplies).ok()?.flatten() {
        let read = |name: &str| fs::read_to_string(supply.path().join(name)).ok();
        let is = |name: &str, word: &str| read(name).is_some_and(|text| text.trim() == word);
        if is("scope", "Device") {
            continue;
        }
        if is("type", "Battery") {
            empties |= is("status", "Discharging");
        } else if let Some(online) = read("online") {
            // 2 is a supply that sets its own voltage.
            feeds = Some(feeds.unwrap_or(false) || matches!(online.trim(), "1" | "2"));
        }
    }
    feeds.or(empties.then_some(false))
}

fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split(' ').next()?.parse().ok()?;
    Some(load / std::thread::available_parallelism().map_or(1, usize::from) as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use super::*;

    fn supplies(all: &[(&str, &[(&str, &str)])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in all {
            fs::create_dir(folder.path().join(name)).unwrap();
            for (file, text) in *files {
                fs::write(folder.path().join(name).join(file), format!("{text}\n")).unwrap();
            }
        }
        folder
    }

    #[test]
    fn mains_and_batteries_are_told_apart() {
        const FULL: &[(&str, &str)] = &[("type", "Battery"), ("status", "Full")];
        const EMPTYING: &[(&str, &str)] = &[("type", "Battery"), ("status", "Discharging")];
        const MOUSE: &[(&str, &str)] = &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        const PLUGGED: &[(&str, &str)] = &[("type", "Mains"), ("online", "1")];
        const PULLED: &[(&str, &str)] = &[("type", "USB"), ("online", "0")];
        for (all, expected) in [
            (&[][..], None),
            (&[("BAT0", FULL), ("AC", PLUGGED)], Some(true)),
            (&[("BAT0", EMPTYING), ("AC", PULLED)], Some(false)),
            (&[("BAT0", EMPTYING)], Some(false)),
            (&[("BAT0", FULL)], None),
            (&[("AC", PULLED), ("usb", PLUGGED)], Some(true)),
            (&[("hid", MOUSE)], None),
        ] {
            assert_eq!(on_mains(supplies(all).path()), expected, "{all:?}");
        }
        assert_eq!(on_mains(Path::new("/nowhere")), None);
    }

    #[test]
    fn this_machine_tells_its_load() {
        assert!(Machine::look().load.is_some_and(|load| (0.0..10_000.0).contains(&load)));
    }
}
