//! How warm the machine is, and whether a run waits before the kernel throttles.

use super::root::Root;
use super::{Finding, Verdict};

const WHAT: &str = "heat";

/// A thermal zone of the kernel's.
#[derive(Debug, PartialEq)]
struct Zone {
    name: String,
    celsius: f64,
    /// From here on the kernel slows the machine down.
    throttles: Option<f64>,
}

/// `max` is `train.max_celsius`.
pub(super) fn look(root: &Root, max: f64) -> Finding {
    let Some(zone) = zones(root).into_iter().max_by(|a, b| a.celsius.total_cmp(&b.celsius)) else {
        let words = "the kernel shows no temperature; train.max_celsius can't be kept";
        return Finding::new(WHAT, Verdict::Warn, words);
    };
    let Zone { name, celsius, throttles } = &zone;
    let now = format!("{name}, the warmest, has {celsius:.0} °C");
    match throttles {
        _ if *celsius >= max => {
            let words =
                format!("{now}; runs wait above train.max_celsius = {max}: give it a heat sink or a fan");
            Finding::new(WHAT, Verdict::Warn, words)
        }
        Some(from) if *from < max => {
            let words = format!(
                "{now}, and the kernel slows down from {from:.0} °C on, before runs wait at train.max_celsius = {max}; \
                 set that lower"
            );
            Finding::new(WHAT, Verdict::Warn, words)
        }
        _ => Finding::new(WHAT, Verdict::Fine, format!("{now}; runs wait above {max} °C")),
    }
}

/// The kernel's sysfs-thermal interface; millidegrees.
fn zones(root: &Root) -> Vec<Zone> {
    let zone = |name: String| {
        let folder = format!("/sys/class/thermal/{name}");
        let degrees =
            |file: &str| Some(root.text(&format!("{folder}/{file}"))?.parse::<f64>().ok()? / 1000.0);
        let trips = (0..).map_while(|trip| {
            root.text(&format!("{folder}/trip_point_{trip}_type")).map(|kind| (trip, kind))
        });
        let throttles = trips.filter(|(_, kind)| kind == "passive");
        let throttles = throttles.filter_map(|(trip, _)| degrees(&format!("trip_point_{trip}_temp")));
        // Some drivers have a place for what nobody has set.
        let throttles = throttles.filter(|degrees| *degrees > 0.0).min_by(f64::total_cmp);
        let celsius = degrees("temp")?;
        Some(Zone { name: root.text(&format!("{folder}/type")).unwrap_or(name), celsius, throttles })
    };
    root.names("/sys/class/thermal", "thermal_zone").into_iter().filter_map(zone).collect()
}
