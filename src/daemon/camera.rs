//! Watches over the camera: one that stalls, vanishes or gives garbage is said to do so and opened again, for
//! ever, and nothing else waits for it.
//!
//! Two threads. The *source* opens the camera and reads; it may block for ever in a driver. The *keeper* asks
//! it for a frame whenever the daemon wants one, gives it up when none comes, and starts another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::capture::{self, CaptureError, Next, SourceSpec, Wishes};

use super::event::Event;

/// A live camera must give a frame within so long.
const STALL: Duration = Duration::from_secs(5);
/// Before the first new try, and at most, before jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Threads that were given up and still hang in a driver, at most: more would hang as well.
const MAX_HANGING: usize = 8;

/// What the daemon wants of the camera.
pub(super) enum Wish {
    /// The next frame.
    Frame,
    /// To have it opened again: it gives nothing that can be used.
    Reopen(String),
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

/// Starts keeper and source. Each [`Wish::Frame`] through the sender that comes back brings one frame; the
/// threads end when it is dropped.
pub(super) fn start(
    spec: SourceSpec,
    wishes: Wishes,
    events: SyncSender<Event>,
) -> std::io::Result<SyncSender<Wish>> {
    let (want, wanted) = sync_channel(2);
    let period = Duration::from_secs_f64(1.0 / wishes.fps);
    let keeper = Keeper {
        spec,
        wishes,
        period,
        events,
        wanted,
        hanging: Arc::default(),
        random: ChaCha8Rng::seed_from_u64(u64::from(std::process::id())),
    };
    thread::Builder::new().name("camera".into()).spawn(move || keeper.keep())?;
    Ok(want)
}

struct Keeper {
    spec: SourceSpec,
    wishes: Wishes,
    period: Duration,
    events: SyncSender<Event>,
    wanted: Receiver<Wish>,
    hanging: Arc<AtomicUsize>,
    random: ChaCha8Rng,
}

/// Why a source is of no more use.
enum Ended {
    /// It has no more frames, or nobody wants any.
    ForGood,
    /// For this reason; it may be of use again.
    Ill(String),
}

impl Keeper {
    fn keep(mut self) {
        let mut trouble: Option<Trouble> = None;
        // A wish that the last source did not fulfil.
        let mut is_owed = false;
        loop {
            let ended = self.with_a_source(&mut trouble, &mut is_owed);
            let reason = match ended {
                Ended::ForGood => return,
                Ended::Ill(reason) => reason,
            };
            let now = Instant::now();
            let old = trouble.take();
            let tries = old.as_ref().map_or(0, |trouble| trouble.tries + 1);
            let pause = self.pause(tries);
            let since = old.as_ref().map_or(now, |trouble| trouble.since);
            if old.is_none_or(|old| old.reason != reason) {
                tracing::error!("{reason}; it is tried again");
            }
            let told = Trouble { reason, since, tries, next_try: now + pause };
            trouble = Some(told.clone());
            if self.events.send(Event::CameraTrouble(told)).is_err() || !self.wait(now + pause, &mut is_owed)
            {
                return;
            }
        }
    }

    /// Waits, and keeps wishes in mind; false when nobody has any more.
    fn wait(&self, until: Instant, is_owed: &mut bool) -> bool {
        loop {
            match self.wanted.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Wish::Frame) => *is_owed = true,
                Ok(Wish::Reopen(_)) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Twice as long each time, and never the same: cameras behind one switch come back together.
    fn pause(&mut self, tries: u32) -> Duration {
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(tries.min(10))).min(LONGEST_PAUSE);
        pause.mul_f64(self.random.random_range(0.75..1.25))
    }

    /// Opens a source and brings frames from it for as long as it is of use.
    fn with_a_source(&self, trouble: &mut Option<Trouble>, is_owed: &mut bool) -> Ended {
        if self.hanging.load(Ordering::Relaxed) >= MAX_HANGING {
            return Ended::Ill(format!("camera {}: it hangs in the driver; restart the machine", self.spec));
        }
        let slot = Arc::new(Slot::default());
        if let Err(error) = self.start_source(&slot) {
            return Ended::Ill(format!("camera {}: the system gives no thread: {error}", self.spec));
        }
        let ended = self.bring(&slot, trouble, is_owed);
        slot.give_up();
        ended
    }

    fn start_source(&self, slot: &Arc<Slot>) -> std::io::Result<()> {
        let (spec, wishes, slot) = (self.spec.clone(), self.wishes.clone(), Arc::clone(slot));
        let hanging = Arc::clone(&self.hanging);
        hanging.fetch_add(1, Ordering::Relaxed);
        let counted = Arc::clone(&hanging);
        let run = move || {
            slot.run(&spec, &wishes);
            counted.fetch_sub(1, Ordering::Relaxed);
        };
        let started = thread::Builder::new().name("camera-source".into()).spawn(run);
        if started.is_err() {
            hanging.fetch_sub(1, Ordering::Relaxed);
        }
        started.map(|_| ())
    }

    fn bring(&self, slot: &Slot, trouble: &mut Option<Trouble>, is_owed: &mut bool) -> Ended {
        let mut due = Instant::now();
        loop {
            if !std::mem::take(is_owed) {
                match self.wanted.recv() {
                    Ok(Wish::Frame) => {}
                    Ok(Wish::Reopen(reason)) if self.spec.is_live() => return Ended::Ill(reason),
                    Ok(Wish::Reopen(_)) => continue,
                    Err(_) => return Ended::ForGood,
                }
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = Instant::now() + self.period;
            let answer = loop {
                match slot.ask(STALL) {
                    Some(Ok(Next::Nothing)) => {
                        // It is well; nobody has put anything before it. Meanwhile the daemon may end.
                        match self.wanted.try_recv() {
                            Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ended::ForGood,
                            _ => self.is_well(trouble),
                        }
                    }
                    answer => break answer,
                }
            };
            let event = match answer {
                Some(Ok(Next::Frame(frame))) => {
                    self.is_well(trouble);
                    Event::Frame(frame)
                }
                Some(Ok(Next::End)) => {
                    let _ = self.events.send(Event::CameraEnded);
                    return Ended::ForGood;
                }
                Some(Ok(Next::Nothing)) => unreachable!("asked again above"),
                Some(Err(error)) if error.is_of_one_frame() => Event::BadFrame(error),
                Some(Err(error)) => {
                    *is_owed = true;
                    return Ended::Ill(error.to_string());
                }
                None => {
                    *is_owed = true;
                    return Ended::Ill(format!(
                        "camera {}: it has given no frame for {} s",
                        self.spec,
                        STALL.as_secs()
                    ));
                }
            };
            if self.events.send(event).is_err() {
                return Ended::ForGood;
            }
        }
    }

    fn is_well(&self, trouble: &mut Option<Trouble>) {
        if let Some(trouble) = trouble.take() {
            let away = trouble.since.elapsed().as_secs();
            tracing::info!("camera {}: it gives frames again, after {away} s", self.spec);
            // The daemon ends where this fails; the next frame shows that.
            let _ = self.events.send(Event::CameraBack);
        }
    }
}

/// Where question and answer meet.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_asked: bool,
    is_given_up: bool,
    answer: Option<Result<Next, CaptureError>>,
}

impl Slot {
    /// Asks for a frame and waits for the answer; none when it does not come in time.
    fn ask(&self, patience: Duration) -> Option<Result<Next, CaptureError>> {
        let mut state = self.lock();
        state.is_asked = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.answer.is_none());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.answer.take()
    }

    fn give_up(&self) {
        self.lock().is_given_up = true;
        self.changed.notify_all();
    }

    /// The source's thread: opens it, and answers until it is given up.
    fn run(&self, spec: &SourceSpec, wishes: &Wishes) {
        let mut source = match capture::open(spec, wishes) {
            Ok(source) => source,
            Err(error) => {
                self.wait_for_a_question();
                return self.answer(Err(error));
            }
        };
        tracing::info!("camera {spec}: {}", source.describe());
        while self.wait_for_a_question() {
            self.answer(source.next());
        }
    }

    /// False when nobody will ask any more.
    fn wait_for_a_question(&self) -> bool {
        let waited = self.changed.wait_while(self.lock(), |state| !state.is_asked && !state.is_given_up);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_asked = false;
        !state.is_given_up
    }

    fn answer(&self, answer: Result<Next, CaptureError>) {
        self.lock().answer = Some(answer);
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a frame was looked at, counted: single ones that can't be decoded happen, nothing else for a while is
/// a camera that must be opened again.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    since: Option<Instant>,
}

impl Garbage {
    /// A frame could be decoded.
    pub fn is_over(&mut self) {
        self.since = None;
    }

    /// One could not; whether there has been nothing else for [`STALL`].
    pub fn is_too_much(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_too_much = now.duration_since(since) >= STALL;
        if is_too_much {
            self.since = None;
        }
        is_too_much
    }
}
