//! A run as a guest on a device that has something better to do: it takes only the time that nobody else
//! wants, on the cores that it may use.
//!
//! The run gets threads of its own. Each takes up the guest's manners when it starts, and the threads that a
//! runtime starts from there inherit them (`sched(7)`: policy and affinity pass to new threads).

#![allow(unsafe_code, reason = "sched_setscheduler has no safe wrapper among the crates used here")]

use std::io;

use rayon::ThreadPoolBuilder;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// How much a run may be noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guest {
    /// Whether the run gets only time that no other program wants (Linux' `SCHED_IDLE`).
    pub idle: bool,
    /// The cores that it may use, by number; none may use all.
    pub cpus: Vec<usize>,
}

impl Default for Guest {
    fn default() -> Self {
        Guest { idle: true, cpus: Vec::new() }
    }
}

impl Guest {
    /// Threads that a run should take when it is told to take `threads`, 0 for as many as it has cores.
    pub fn threads(&self, threads: usize) -> usize {
        match (threads, self.cpus.len()) {
            (0, 0) => std::thread::available_parallelism().map_or(1, usize::from),
            (0, cpus) => cpus,
            (threads, _) => threads,
        }
    }

    /// Does `work` on threads that are guests: `threads` for the host's part of it, and whatever sessions it
    /// loads start from there.
    ///
    /// # Errors
    /// When the system gives no threads, or refuses the cores.
    pub fn run<T: Send>(&self, threads: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        // Asked for here first, because a thread can't say why it did not start.
        for &cpu in &self.cpus {
            if cpu >= CpuSet::MAX_CPU {
                return Err(io::Error::other(format!("there is no core {cpu}")));
            }
        }
        let before = rustix::thread::sched_getaffinity(None)?;
        if let Some(cpu) = self.cpus.iter().find(|&&cpu| !before.is_set(cpu)) {
            return Err(io::Error::other(format!("core {cpu} does not exist or may not be used")));
        }
        let guest = self.clone();
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.threads(threads))
            .thread_name(|index| format!("train-{index}"))
            .start_handler(move |_| guest.settle())
            .build()
            .map_err(io::Error::other)?;
        Ok(pool.install(work))
    }

    /// Makes the calling thread a guest.
    fn settle(&self) {
        if self.idle
            && let Err(error) = become_idle()
        {
            tracing::warn!("training can't be made to yield to other work: {error}");
        }
        if !self.cpus.is_empty() {
            let mut set = CpuSet::new();
            self.cpus.iter().for_each(|&cpu| set.set(cpu));
            if let Err(error) = sched_setaffinity(None, &set) {
                tracing::warn!("training can't be kept to cores {:?}: {error}", self.cpus);
            }
        }
    }
}

fn become_idle() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads one plain structure, which outlives it, and changes how the calling thread is
    // scheduled, nothing else.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: the call takes no pointers.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn guests_are_idle_and_keep_to_their_cores_and_so_do_the_threads_they_start() {
        let first = (0..CpuSet::MAX_CPU)
            .find(|&cpu| rustix::thread::sched_getaffinity(None).unwrap().is_set(cpu))
            .unwrap();
        let guest = Guest { idle: true, cpus: vec![first] };
        let look = || (policy(), rustix::thread::sched_getaffinity(None).unwrap().count());
        let (own, started) = guest.run(0, || (look(), std::thread::spawn(look).join().unwrap())).unwrap();
        assert_eq!([own, started], [(libc::SCHED_IDLE, 1); 2]);
        assert_eq!(policy(), libc::SCHED_OTHER, "the caller stays what it was");
        let plain = Guest { idle: false, cpus: vec![] };
        assert_eq!(plain.run(1, policy).unwrap(), libc::SCHED_OTHER);
    }

    #[test]
    fn cores_that_are_not_there_are_refused() {
        for cpu in [CpuSet::MAX_CPU - 1, usize::MAX] {
            let error = Guest { idle: false, cpus: vec![cpu] }.run(1, || ()).unwrap_err();
            assert!(error.to_string().contains(&cpu.to_string()), "{error}");
        }
    }
}
