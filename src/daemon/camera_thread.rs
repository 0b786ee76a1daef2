//! The thread that a source lives in, and where question and answer meet. It may block for ever in a driver:
//! whoever asks waits as long as it likes, and gives the thread up after that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::capture::{CaptureError, Next, Source};

/// Opens the source, in its thread.
pub(super) type Open = Arc<dyn Fn() -> Result<Box<dyn Source>, CaptureError> + Send + Sync>;

/// What comes of waiting for an answer.
pub(super) enum Answer {
    /// The source has answered, or could not be opened.
    Given(Result<Next, CaptureError>),
    /// Nothing came in time.
    Silence,
    /// The thread has ended without an answer: a fault in a driver's crate.
    Crashed,
}

/// A source that is open.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    /// What it gives, in words.
    pub gives: String,
    /// Whether frames come whether or not anybody asks.
    pub flows: bool,
}

/// A source in its thread. When it is dropped, the thread ends as soon as the driver lets it.
pub(super) struct SourceThread(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_asked: bool,
    is_given_up: bool,
    has_ended: bool,
    opened: Option<Opened>,
    answer: Option<Result<Next, CaptureError>>,
}

impl SourceThread {
    /// Starts the thread, which opens the source at once; `alive` counts it for as long as it lives.
    pub fn start(open: Open, alive: &Arc<AtomicUsize>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        alive.fetch_add(1, Ordering::Relaxed);
        // Counts down however the thread ends, also by a panic, and where none could be had.
        let life = Life { shared: Arc::clone(&shared), alive: Arc::clone(alive) };
        thread::Builder::new().name("camera-source".into()).spawn(move || life.shared.run(&open))?;
        Ok(SourceThread(shared))
    }

    /// Asks for a frame; [`SourceThread::wait`] gives it.
    pub fn ask(&self) {
        self.0.lock().is_asked = true;
        self.0.changed.notify_all();
    }

    /// Waits so long for the answer.
    pub fn wait(&self, patience: Duration) -> Answer {
        let waits = |state: &mut State| state.answer.is_none() && !state.has_ended;
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), patience, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.answer.take() {
            Some(answer) => Answer::Given(answer),
            None if state.has_ended => Answer::Crashed,
            None => Answer::Silence,
        }
    }

    /// What it gives, once it is open.
    pub fn opened(&self) -> Option<Opened> {
        self.0.lock().opened.clone()
    }
}

impl Drop for SourceThread {
    fn drop(&mut self) {
        self.0.lock().is_given_up = true;
        self.0.changed.notify_all();
    }
}

struct Life {
    shared: Arc<Shared>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Opens the source, and answers until it is given up.
    fn run(&self, open: &Open) {
        let mut source = match open() {
            Ok(source) => source,
            Err(error) => return self.answer(Err(error)),
        };
        self.lock().opened = Some(Opened { gives: source.describe(), flows: source.flows() });
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
