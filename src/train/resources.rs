//! What a run has cost.

use rustix::time::{ClockId, clock_gettime};

/// CPU seconds that this process has used, over all its threads.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The most memory that this process has held, MB; none where the system does not say.
pub fn peak_rss_mb() -> Option<f64> {
    status_mb("VmHWM:")
}

/// The memory that this process holds now, MB; none where the system does not say.
pub fn rss_mb() -> Option<f64> {
    status_mb("VmRSS:")
}

fn status_mb(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
