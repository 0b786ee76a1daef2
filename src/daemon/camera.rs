//! Watches over the camera: one that stalls, vanishes or gives garbage is said to do so and opened again, for
//! ever, and nothing else waits for it.
//!
//! Two threads. The source has one of its own (`camera_thread`) and may block there for ever. The *keeper* asks
//! it for a frame whenever the daemon wants one, gives it up when none comes, and starts another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::capture::{Next, Opener, SourceSpec, Wishes};
use crate::pulse::Pulse;

use super::camera_judge::{Judge, Verdict, Wish};
use super::camera_thread::{Answer, Open, SourceThread};
use super::event::{CameraEvent, Event};

/// Threads that live at a time, at most: those beyond the first were given up and hang in a driver, where more
/// would hang as well.
pub(super) const MOST_THREADS: usize = 8;

/// How long things may take.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Between two frames that are looked at.
    pub period: Duration,
    /// A source that has been asked must answer within so long. With `probe` before it this makes the 5 s
    /// within which a fault is told.
    pub stall: Duration,
    /// Before its first answer it may take longer: it is told as a fault after `stall` and given up after this.
    pub opening: Duration,
    /// A source that flows is asked so often, also when nobody wants a frame.
    pub probe: Duration,
    /// Nothing but frames that can't be decoded, for so long, are a fault.
    pub garbage: Duration,
    /// Before the first new try, and at most, before jitter.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// After so long without a fault the next one is tried again as soon as if it were the first.
    pub steady: Duration,
}

impl Pace {
    fn of(wishes: &Wishes) -> Self {
        Pace {
            period: Duration::from_secs_f64(1.0 / wishes.fps),
            stall: Duration::from_secs(4),
            opening: Duration::from_secs(20),
            probe: Duration::from_secs(1),
            garbage: Duration::from_secs(4),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            steady: Duration::from_secs(60),
        }
    }
}

/// What is wrong with the camera.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trouble {
    /// What, and what to do.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// How often it has been tried to open it since.
    pub tries: u32,
    /// When it is tried next.
    pub next_try: Instant,
}

/// Starts keeper and source. Each [`Wish`] through the sender that comes back brings one frame; the threads end
/// when it is dropped.
pub(super) fn start(spec: SourceSpec, wishes: Wishes, post: Post) -> std::io::Result<SyncSender<Wish>> {
    let pace = Pace::of(&wishes);
    let name = format!("camera {spec}");
    // A folder that is read from its beginning again would give the same bad files first.
    let reopens_garbage = spec.is_live();
    let opener = Opener::new(spec, wishes);
    Keeper::start(name, Arc::new(move || opener.open()), reopens_garbage, pace, post)
}

/// Where a keeper tells what it sees, and shows that it goes on.
pub(super) struct Post {
    /// Takes what it tells.
    pub events: SyncSender<Event>,
    /// Which keeper it is.
    pub number: u64,
    /// Its pulse.
    pub pulse: Pulse,
}

/// What watches; see the head of this file.
pub(super) struct Keeper {
    name: String,
    open: Open,
    reopens_garbage: bool,
    pace: Pace,
    told: SyncSender<Event>,
    number: u64,
    /// Beats while this thread waits for nothing that may never come.
    pulse: Pulse,
    wanted: Receiver<Wish>,
    threads: Arc<AtomicUsize>,
    random: ChaCha8Rng,
    trouble: Option<Trouble>,
    /// What it gave when it was last open.
    gives: Option<String>,
    /// A wish that is not fulfilled yet.
    is_owed: bool,
    /// Faults with no steady time between them.
    faults: u32,
    /// Since when it has been giving good frames.
    well_since: Option<Instant>,
}

/// Why a source is of no more use.
enum Ended {
    /// It has no more frames, or nobody wants any.
    ForGood,
    /// For this reason; it may be of use again.
    Ill(String),
}

impl Keeper {
    /// Starts keeper and source.
    pub fn start(
        name: String,
        open: Open,
        reopens_garbage: bool,
        pace: Pace,
        post: Post,
    ) -> std::io::Result<SyncSender<Wish>> {
        let (want, wanted) = sync_channel(2);
        // The process's number is the same on every device where graftd runs in a container.
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()));
        let keeper = Keeper {
            name,
            open,
            reopens_garbage,
            pace,
            told: post.events,
            number: post.number,
            pulse: post.pulse,
            wanted,
            threads: Arc::default(),
            random: ChaCha8Rng::seed_from_u64(u64::from(std::process::id()) << 32 | nanos),
            trouble: None,
            gives: None,
            is_owed: false,
            faults: 0,
            well_since: None,
        };
        thread::Builder::new().name("camera".into()).spawn(move || keeper.keep())?;
        Ok(want)
    }

    fn keep(mut self) {
        self.keep_at_it();
        self.pulse.rest();
    }

    fn keep_at_it(&mut self) {
        loop {
            let reason = match self.with_a_source() {
                Ended::ForGood => return,
                Ended::Ill(reason) => reason,
            };
            // A camera that comes for a moment each time is not opened each second.
            if self.well_since.take().is_some_and(|since| since.elapsed() >= self.pace.steady) {
                self.faults = 0;
            }
            let next_try = Instant::now() + self.pause();
            self.faults += 1;
            if !self.tell(reason, next_try) || !self.wait(next_try) {
                return;
            }
        }
    }

    /// False when nobody listens any more.
    fn send(&self, event: CameraEvent) -> bool {
        self.told.send(Event::Camera { keeper: self.number, event }).is_ok()
    }

    /// Tells what is wrong; false when nobody listens any more.
    fn tell(&mut self, reason: String, next_try: Instant) -> bool {
        let old = self.trouble.take();
        let trouble = Trouble {
            since: old.as_ref().map_or_else(Instant::now, |old| old.since),
            tries: old.as_ref().map_or(0, |old| old.tries + 1),
            next_try,
            reason,
        };
        if old.is_none_or(|old| old.reason != trouble.reason) {
            tracing::error!("{}; it is tried again", trouble.reason);
        }
        self.trouble = Some(trouble.clone());
        self.send(CameraEvent::Trouble(trouble))
    }

    /// Waits, and keeps wishes in mind; false when nobody has any more.
    fn wait(&mut self, until: Instant) -> bool {
        loop {
            self.pulse.beat();
            match self.wanted.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => self.is_owed = true,
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Twice as long each time, and never the same: cameras behind one switch come back together.
    fn pause(&mut self) -> Duration {
        let doubled = self.pace.first_pause * 2u32.saturating_pow(self.faults.min(10));
        doubled.min(self.pace.longest_pause).mul_f64(self.random.random_range(0.75..1.25))
    }

    /// Opens a source and brings frames from it for as long as it is of use.
    fn with_a_source(&mut self) -> Ended {
        if self.threads.load(Ordering::Relaxed) >= MOST_THREADS {
            let words = "it hangs in the driver, again and again; unplug it, or restart the machine";
            return Ended::Ill(format!("{}: {words}", self.name));
        }
        match SourceThread::start(Arc::clone(&self.open), &self.threads) {
            Ok(source) => self.bring(&source),
            Err(error) => Ended::Ill(format!("{}: the system gives no thread: {error}", self.name)),
        }
    }

    fn bring(&mut self, source: &SourceThread) -> Ended {
        let mut due = Instant::now();
        let mut judge = Judge::default();
        loop {
            if let Err(ended) = self.wait_for_a_wish(source, &mut judge, due) {
                return ended;
            }
            due = Instant::now() + self.pace.period;
            let answer = self.answer(source);
            if answer.is_ok() && !self.tell_what_it_gives(source) {
                return Ended::ForGood;
            }
            let event = match answer {
                Ok(Ok(Next::Frame(frame))) => CameraEvent::Frame(frame),
                Ok(Ok(Next::Nothing)) => {
                    // Nobody has put anything before it, and it is well.
                    self.is_well();
                    due = Instant::now();
                    if !self.wait(due) {
                        return Ended::ForGood;
                    }
                    continue;
                }
                Ok(Ok(Next::End)) => {
                    self.send(CameraEvent::Ended);
                    return Ended::ForGood;
                }
                Ok(Err(reason)) => CameraEvent::BadFrame(reason),
                Err(ended) => return ended,
            };
            judge.has_given = true;
            self.is_owed = false;
            if !self.send(event) {
                return Ended::ForGood;
            }
        }
    }

    /// Until a frame is wished for and due. Meanwhile a source that flows is looked after.
    fn wait_for_a_wish(
        &mut self,
        source: &SourceThread,
        judge: &mut Judge,
        due: Instant,
    ) -> Result<(), Ended> {
        while !self.is_owed || Instant::now() < due {
            self.pulse.beat();
            let now = Instant::now();
            let probe = now + self.pace.probe;
            let until = if self.is_owed { due.min(probe) } else { probe };
            match self.wanted.recv_timeout(until.saturating_duration_since(now)) {
                Ok(wish) => {
                    self.is_owed = true;
                    match judge.hear(wish, self.pace.garbage) {
                        Verdict::Good => self.is_well(),
                        Verdict::Garbage(reason) if self.reopens_garbage => {
                            let words = format!("{}: it gives nothing but garbage: {reason}", self.name);
                            return Err(Ended::Ill(words));
                        }
                        // The files are bad, and the folder is well.
                        Verdict::Unsure | Verdict::Garbage(_) if judge.has_given && !self.reopens_garbage => {
                            self.is_well();
                        }
                        Verdict::Unsure | Verdict::Garbage(_) => {}
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Ended::ForGood),
                Err(RecvTimeoutError::Timeout) if self.is_owed && Instant::now() >= due => {}
                Err(RecvTimeoutError::Timeout) => {
                    if source.opened().is_some_and(|opened| opened.flows) {
                        // Nobody wants it: it is old when somebody does.
                        self.answer(source)?.ok();
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks and waits: what the source gives, or why one frame can't be had.
    fn answer(&mut self, source: &SourceThread) -> Result<Result<Next, String>, Ended> {
        source.ask();
        let asked = Instant::now();
        loop {
            self.pulse.beat();
            return match source.wait(self.pace.stall) {
                Answer::Given(Ok(next)) => Ok(Ok(next)),
                Answer::Given(Err(error)) if error.is_of_one_frame() => Ok(Err(error.to_string())),
                Answer::Given(Err(error)) => Err(Ended::Ill(error.to_string())),
                Answer::Crashed => Err(Ended::Ill(format!(
                    "{}: what reads it has crashed (see the log); that is a fault of graftd's, please report it",
                    self.name
                ))),
                Answer::Silence if source.opened().is_none() && asked.elapsed() < self.pace.opening => {
                    let words = format!("{}: it takes long to open", self.name);
                    if self.trouble.is_none() && !self.tell(words, asked + self.pace.opening) {
                        return Err(Ended::ForGood);
                    }
                    continue;
                }
                Answer::Silence => Err(Ended::Ill(format!(
                    "{}: it has given no frame for {:.0} s; see to its cable, power and network",
                    self.name,
                    asked.elapsed().as_secs_f64()
                ))),
            };
        }
    }

    /// Once, and when it is opened again and gives something else; false when nobody listens any more.
    fn tell_what_it_gives(&mut self, source: &SourceThread) -> bool {
        let gives = source.opened().map(|opened| opened.gives);
        if gives.is_none() || gives == self.gives {
            return true;
        }
        self.gives = gives;
        let words = self.gives.clone().unwrap_or_default();
        tracing::info!("{}: {words}", self.name);
        self.send(CameraEvent::Gives(words))
    }

    fn is_well(&mut self) {
        self.well_since.get_or_insert_with(Instant::now);
        if let Some(trouble) = self.trouble.take() {
            let away = trouble.since.elapsed().as_secs();
            tracing::info!("{}: it gives frames again, after {away} s", self.name);
            // The daemon ends where this fails; the next frame shows that.
            self.send(CameraEvent::Back);
        }
    }
}
