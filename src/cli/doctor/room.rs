//! Whether there is room: in memory and on the disk.

use std::path::Path;

use crate::files;
use crate::store::Limits;

use super::root::Root;
use super::{Finding, Verdict};

/// A YOLO11n at 320 px detects in so much, MB.
const DETECTS: u64 = 150;
/// And trains all of its head in so much (docs/boards.md).
const TRAINS: u64 = 300;

/// What the kernel says that can be had (`/proc/meminfo`, kB).
pub(super) fn memory(root: &Root) -> Vec<Finding> {
    const WHAT: &str = "memory";
    let text = root.text("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
    };
    let (Some(total), Some(free)) = (of("MemTotal"), of("MemAvailable")) else {
        return vec![Finding::new(WHAT, Verdict::Warn, "the kernel does not say how much there is")];
    };
    let needs = format!("a YOLO11n at 320 px needs {DETECTS} MB to detect and {TRAINS} MB to train");
    let words = format!("{free} MB of {total} MB can be had; {needs}");
    let verdict = match free {
        free if free < DETECTS => Verdict::Bad,
        free if free < TRAINS => Verdict::Warn,
        _ => Verdict::Fine,
    };
    let mut found = vec![Finding::new(WHAT, verdict, words)];
    let controllers = root.text("/sys/fs/cgroup/cgroup.controllers");
    if controllers.is_some_and(|known| !known.split(' ').any(|controller| controller == "memory")) {
        let words = "the kernel's memory controller is off, so that the unit's MemoryHigh does nothing; on a Raspberry Pi \
                     add cgroup_enable=memory to /boot/firmware/cmdline.txt";
        found.push(Finding::new(WHAT, Verdict::Warn, words));
    }
    found
}

/// Where the state lies, or will.
pub(super) fn disk(state_dir: &Path, limits: &Limits) -> Finding {
    const WHAT: &str = "disk";
    let there = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let Limits { max_mb, min_free_mb, .. } = *limits;
    match files::free_space(there).map(|bytes| bytes >> 20) {
        Some(free) if free < min_free_mb => {
            let words = format!(
                "{free} MB are free for {}, and no frame is kept below store.min_free_mb = {min_free_mb}; make room",
                state_dir.display()
            );
            Finding::new(WHAT, Verdict::Bad, words)
        }
        Some(free) => {
            let words = format!(
                "{free} MB are free for {}; frames take at most {max_mb} MB, and none is kept below {min_free_mb} MB",
                state_dir.display()
            );
            Finding::new(WHAT, Verdict::Fine, words)
        }
        None => Finding::new(WHAT, Verdict::Warn, format!("{}: nobody says what is free", there.display())),
    }
}
