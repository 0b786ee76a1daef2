//! The keeper with sources that misbehave on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::camera::{Keeper, MOST_THREADS, Pace, Post, Trouble};
use super::camera_judge::Wish;
use super::event::{CameraEvent, Event};
use crate::capture::{CaptureError, Frame, Image, Next, Source};
use crate::pulse::Pulse;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

fn quick() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        period: ms(1),
        stall: ms(150),
        opening: ms(1000),
        probe: ms(50),
        garbage: ms(200),
        first_pause: ms(10),
        longest_pause: ms(40),
        steady: ms(60_000),
    }
}

/// What a source does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Frame,
    Bad,
    Fails,
    Blocks,
    Panics,
    /// It opens late, and is well then.
    OpensLate,
    BlocksInOpen,
}

/// The stage: what sources do now, how often one was opened, and who is blocked.
#[derive(Default)]
struct Stage {
    act: Mutex<Option<Act>>,
    changed: Condvar,
    opened: AtomicUsize,
}

impl Stage {
    fn act(&self) -> Act {
        self.act.lock().unwrap().unwrap_or(Act::Frame)
    }

    fn set(&self, act: Act) {
        *self.act.lock().unwrap() = Some(act);
        self.changed.notify_all();
    }

    /// Returns when the stage is set to something else.
    fn block(&self, act: Act) {
        let _unused = self.changed.wait_while(self.act.lock().unwrap(), |now| *now == Some(act)).unwrap();
    }
}

struct Actor(Arc<Stage>);

impl Source for Actor {
    fn next(&mut self) -> Result<Next, CaptureError> {
        let url = || "http://cam/".to_owned();
        let frame = || Frame { image: Image::Encoded(vec![1]), taken: SystemTime::now(), source: url() };
        match self.0.act() {
            Act::Bad => Err(CaptureError::Frame { name: url(), reason: "cut short".into() }),
            Act::Fails => Err(CaptureError::Network { url: url(), reason: "broken".into() }),
            Act::Panics => panic!("on purpose"),
            Act::Blocks => {
                self.0.block(Act::Blocks);
                Ok(Next::Frame(frame()))
            }
            _ => Ok(Next::Frame(frame())),
        }
    }

    fn describe(&self) -> String {
        "what is played".into()
    }

    fn flows(&self) -> bool {
        true
    }
}

struct Play {
    stage: Arc<Stage>,
    want: SyncSender<Wish>,
    events: Events,
}

/// What the keeper tells.
struct Events(Receiver<Event>);

impl Events {
    fn recv_timeout(&self, patience: Duration) -> Result<CameraEvent, RecvTimeoutError> {
        match self.0.recv_timeout(patience)? {
            Event::Camera { event, .. } => Ok(event),
            _ => panic!("a keeper tells of nothing but its camera"),
        }
    }
}

impl Play {
    fn start(act: Act, pace: Pace) -> Self {
        let stage = Arc::new(Stage::default());
        stage.set(act);
        let (tell, told) = sync_channel(16);
        let on = Arc::clone(&stage);
        let open = move || -> Result<Box<dyn Source>, CaptureError> {
            on.opened.fetch_add(1, Ordering::Relaxed);
            match on.act() {
                Act::BlocksInOpen => on.block(Act::BlocksInOpen),
                Act::OpensLate => std::thread::sleep(Duration::from_millis(400)),
                _ => {}
            }
            Ok(Box::new(Actor(Arc::clone(&on))))
        };
        let post = Post { events: tell, number: 0, pulse: Pulse::default() };
        let want = Keeper::start("camera test".into(), Arc::new(open), true, pace, post).unwrap();
        let events = Events(told);
        Play { stage, want, events }
    }

    fn wish(&self) {
        self.want.send(Wish::Frame).unwrap();
    }

    /// The next event that is wanted; the daemon's answer to frames and bad frames on the way is the next wish,
    /// with `verdict` of the frame.
    fn wait<T>(
        &self,
        what: &str,
        verdict: impl Fn() -> Wish,
        wanted: impl Fn(&CameraEvent) -> Option<T>,
    ) -> (T, Vec<&'static str>) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event =
                self.events.recv_timeout(left).unwrap_or_else(|_| panic!("waited in vain for {what}"));
            if let Some(found) = wanted(&event) {
                return (found, seen);
            }
            match event {
                CameraEvent::Frame(_) => {
                    seen.push("frame");
                    self.want.send(verdict()).unwrap();
                }
                CameraEvent::BadFrame(reason) => {
                    seen.push("bad");
                    self.want.send(Wish::Another(reason)).unwrap();
                }
                CameraEvent::Trouble(_) => seen.push("trouble"),
                CameraEvent::Back => seen.push("back"),
                _ => {}
            }
        }
    }

    fn trouble(&self, word: &str) -> Trouble {
        let wanted = |event: &CameraEvent| match event {
            CameraEvent::Trouble(trouble) if trouble.reason.contains(word) => Some(trouble.clone()),
            _ => None,
        };
        self.wait(word, || Wish::Frame, wanted).0
    }

    fn back(&self) {
        self.wait("frames again", || Wish::Frame, |event| matches!(event, CameraEvent::Back).then_some(()));
    }

    fn frame(&self) {
        self.wait("a frame", || Wish::Frame, |event| matches!(event, CameraEvent::Frame(_)).then_some(()));
    }
}

#[test]
fn a_source_that_blocks_for_ever_is_given_up_and_frames_come_again() {
    let play = Play::start(Act::Frame, quick());
    play.wish();
    play.frame();
    // Nobody wishes for a frame, and it is noticed all the same.
    play.stage.set(Act::Blocks);
    let trouble = play.trouble("no frame for");
    assert_eq!(trouble.tries, 0);
    // Blocked threads let go when it is set to something else, and disturb nobody.
    play.wish();
    let again = play.trouble("no frame for");
    assert!(again.tries > 0 && again.since == trouble.since, "{again:?}");
    play.stage.set(Act::Frame);
    play.back();
    assert!(play.stage.opened.load(Ordering::Relaxed) > 2);
}

#[test]
fn threads_that_hang_do_not_pile_up() {
    let mut pace = quick();
    (pace.stall, pace.opening) = (Duration::from_millis(20), Duration::from_millis(40));
    let play = Play::start(Act::BlocksInOpen, pace);
    play.wish();
    let trouble = play.trouble("hangs in the driver");
    assert!(play.trouble("hangs in the driver").tries > trouble.tries);
    assert_eq!(play.stage.opened.load(Ordering::Relaxed), MOST_THREADS);
    play.stage.set(Act::Frame);
    play.back();
    assert!(play.stage.opened.load(Ordering::Relaxed) > MOST_THREADS);
}

#[test]
fn a_source_that_panics_is_opened_again_for_ever() {
    let play = Play::start(Act::Panics, quick());
    play.wish();
    while play.trouble("crashed").tries <= MOST_THREADS as u32 {}
    play.stage.set(Act::Frame);
    play.back();
}

#[test]
fn one_bad_frame_is_none_of_the_cameras_faults_and_nothing_else_is() {
    let play = Play::start(Act::Bad, quick());
    play.wish();
    let bad = |event: &CameraEvent| matches!(event, CameraEvent::BadFrame(_)).then_some(());
    play.wait("a bad frame", || Wish::Frame, bad);
    play.stage.set(Act::Frame);
    play.want.send(Wish::Another("cut short".into())).unwrap();
    for _ in 0..3 {
        play.frame();
        play.wish();
    }
    play.stage.set(Act::Bad);
    let trouble = play.trouble("nothing but garbage");
    // It is not said to be well because it was opened.
    let wanted = |event: &CameraEvent| match event {
        CameraEvent::Trouble(trouble) if trouble.tries == 2 => Some(trouble.clone()),
        _ => None,
    };
    let (again, seen) = play.wait("two more tries", || Wish::Frame, wanted);
    assert!(again.since == trouble.since && seen.contains(&"bad") && !seen.contains(&"back"), "{seen:?}");
    play.stage.set(Act::Frame);
    play.back();
}

#[test]
fn frames_that_can_not_be_decoded_are_garbage_too() {
    let play = Play::start(Act::Frame, quick());
    play.wish();
    let garbage = || Wish::Another("no picture".into());
    let wanted = |event: &CameraEvent| match event {
        CameraEvent::Trouble(trouble) if trouble.tries == 1 => Some(trouble.reason.clone()),
        _ => None,
    };
    let (reason, seen) = play.wait("trouble", garbage, wanted);
    assert!(reason.contains("garbage: no picture") && !seen.contains(&"back"), "{reason} {seen:?}");
    play.back();
}

#[test]
fn a_camera_that_comes_for_a_moment_is_waited_for_longer_each_time() {
    let mut pace = quick();
    pace.longest_pause = Duration::from_secs(60);
    let play = Play::start(Act::Frame, pace);
    play.wish();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        play.frame();
        play.wish();
        play.stage.set(Act::Fails);
        let before = Instant::now();
        pauses.push(play.trouble("broken").next_try - before);
        play.stage.set(Act::Frame);
        play.back();
        play.wish();
    }
    // 10 ms, 20, 40, 80, each a quarter more or less; the first seen may lie behind.
    assert!(pauses[3] > pauses[0] * 2, "{pauses:?}");
    assert!(pauses[3] >= Duration::from_millis(50), "{pauses:?}");
}

#[test]
fn a_source_that_takes_long_to_open_is_told_and_waited_for() {
    let play = Play::start(Act::OpensLate, quick());
    play.wish();
    play.trouble("takes long to open");
    play.back();
    assert_eq!(play.stage.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn the_keeper_ends_when_nobody_wishes_any_more() {
    for act in [Act::Frame, Act::Fails, Act::Blocks, Act::BlocksInOpen] {
        let Play { stage, want, events } = Play::start(act, quick());
        want.send(Wish::Frame).unwrap();
        drop(want);
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(_) => break false,
            }
        };
        assert!(ended, "{act:?}");
        stage.set(Act::Frame);
    }
}
