//! The running service: wires the rooms together.
//!
//! One thread owns the detector and decides everything; what can wake it is listed in `event`. The
//! camera, a run and the link to the broker have threads of their own and only send events.

mod api;
mod ask;
mod camera;
mod camera_judge;
#[cfg(test)]
mod camera_tests;
mod camera_thread;
mod core;
mod errands;
mod error;
mod event;
mod frames;
mod heart;
mod history;
mod homeassistant;
mod looks;
mod machine;
mod models;
mod names;
mod probation;
mod reload;
mod runs;
mod schedule;
mod state;

pub use error::DaemonError;
pub use reload::Read as ReadConfig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::Config;
use crate::mqtt::{Facts, Link, LinkSettings, Topics};
use crate::store::Store;

use self::core::Core;
use event::Event;

/// Events that wait for the loop; senders wait beyond that.
const QUEUE: usize = 16;

/// A daemon that runs in this process.
#[derive(Debug)]
pub struct Daemon {
    stop: Stop,
    thread: JoinHandle<Result<(), DaemonError>>,
}

/// Tells a daemon to stop.
#[derive(Debug, Clone)]
struct Stop {
    stopping: Arc<AtomicBool>,
    events: SyncSender<Event>,
}

impl Stop {
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the loop. A full queue means that it is awake, a closed one that it has ended.
        let _ = self.events.try_send(Event::Stop);
    }
}

impl Daemon {
    /// Opens the store and the model and begins to work. Broker and camera may come later. `read` reads the
    /// configuration again when somebody says that it has changed.
    ///
    /// # Errors
    /// When one of them can't be opened; nothing runs then.
    pub fn start(config: Config, read: ReadConfig) -> Result<Daemon, DaemonError> {
        let store = Arc::new(Store::open_within(&config.state_dir, &config.store)?);
        let token = api::read_token(&config.api)?;
        let topics = config.mqtt.root.clone().map_or_else(|| Topics::of_device(&config.device), Topics::new);
        let facts = Arc::new(Facts::default());
        let (events, queue) = sync_channel(QUEUE);
        let stop = Stop { stopping: Arc::default(), events: events.clone() };
        let mut settings = LinkSettings::new(&config, topics.clone())?;
        // What can fail for want of a model or a runtime comes before anything runs.
        let stopping = Arc::clone(&stop.stopping);
        let mut core = Core::open(
            config.clone(),
            read,
            Arc::clone(&store),
            topics,
            Arc::clone(&facts),
            events.clone(),
            stopping,
        )?;
        settings.pulse = core.heart.link.clone();
        core.watch()?;
        let checked = Arc::clone(&store);
        thread::Builder::new().name("store-check".into()).spawn(move || {
            // Flipped bits make the database lose records silently; counting them takes a while.
            if let Err(error) = checked.samples().make_whole() {
                tracing::error!("the store could not be checked: {error}");
            }
        })?;
        core.publish_facts();
        let server = api::open(&config, token, &core, Arc::clone(&facts))?;
        core.connect(Link::start(settings, store, facts, event::from_link(events))?);
        let work = move || {
            // Ends after the loop, which no command reaches any more then.
            let _server = server;
            core.work(queue)
        };
        let thread = thread::Builder::new().name("daemon".into()).spawn(work)?;
        Ok(Daemon { stop, thread })
    }

    /// Asks it to stop in good order; [`Daemon::join`] waits for that.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Why it ended, unless it was asked to.
    pub fn join(self) -> Result<(), DaemonError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs until SIGTERM or SIGINT; SIGHUP has the configuration read again.
///
/// # Errors
/// When it can't start, or ends by itself.
pub fn run(config: Config, read: ReadConfig) -> Result<(), DaemonError> {
    // Until it has started a signal ends the process at once, which the store survives.
    let daemon = Daemon::start(config, read)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    let stop = daemon.stop.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                // An error says that the daemon ends.
                SIGHUP => drop(stop.events.send(Event::Reload)),
                _ => stop.stop(),
            }
        }
    })?;
    let ended = daemon.join();
    handle.close();
    ended
}
