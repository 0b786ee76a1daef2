//! Whether the clock is right: schedules go by it, and samples are dated.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::root::Root;
use super::{Finding, Verdict};

const WHAT: &str = "clock";
/// 2026-01-01; no graftd is older.
const FIRST: Duration = Duration::from_secs(1_767_225_600);

pub(super) fn look(root: &Root, now: SystemTime) -> Finding {
    let rests = if root.names("/sys/class/rtc", "rtc").is_empty() {
        "; this machine has no clock that goes on without power, so after a cut it is behind until the network \
         answers"
    } else {
        ""
    };
    if now.duration_since(UNIX_EPOCH).is_ok_and(|since| since < FIRST) {
        let said =
            jiff::Timestamp::try_from(now).map_or_else(|_| "before 1970".into(), |now| now.to_string());
        let words = format!("it says {said}; set it: timedatectl set-ntp true, or date --set{rests}");
        return Finding::new(WHAT, Verdict::Bad, words);
    }
    match synchronised(root) {
        true => Finding::new(WHAT, Verdict::Fine, format!("synchronised{rests}")),
        false => {
            let words = format!("nothing says that it is synchronised; timedatectl set-ntp true{rests}");
            Finding::new(WHAT, Verdict::Warn, words)
        }
    }
}

/// systemd's own client leaves a file; of others (chrony, ntpd) the kernel knows, and timedatectl asks it.
fn synchronised(root: &Root) -> bool {
    if root.path("/run/systemd/timesync/synchronized").exists() {
        return true;
    }
    let ask = || Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    root.is_here() && ask().is_ok_and(|output| output.stdout.starts_with(b"yes"))
}
