//! The loop: takes one event after the other and decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::capture::Frame;
use crate::config::Config;
use crate::detect::Detector;
use crate::label::LabelBox;
use crate::mqtt::{
    Answer, BoxReport, COMMANDS, CameraTrouble, Facts, Link, LinkEvent, ModelEvent, SampleReport,
    StateReport, Taken, Topics, capability, identified,
};
use crate::picture::Picture;
use crate::runtime::{self, Runtime};
use crate::select::{KeptLook, Selector, Why};
use crate::store::{FoundBox, Interest, Looks, Message, NewSample, Sample, Slot, Store, StoreError};
use crate::web::Hub;
use crate::yolo::detection::Detection;

use super::ask::Ask;
use super::camera::{self, Post, Trouble};
use super::camera_judge::Wish;
use super::event::{CameraEvent, Event};
use super::heart::{self, Heart};
use super::homeassistant::HomeAssistant;
use super::probation::Probation;
use super::runs::Run;
use super::schedule::Scheduler;
use super::{DaemonError, looks, machine, models, reload};

/// The state is published at least so often, and after a change at most each second.
const STATE_EVERY: Duration = Duration::from_secs(30);
const STATE_AFTER_CHANGE: Duration = Duration::from_secs(1);
/// From the wish to stop to the end.
const STOP_WITHIN: Duration = Duration::from_secs(3);
/// Frames that can't be looked at are logged so often, and counted each.
const GARBAGE_SAID_EVERY: Duration = Duration::from_secs(60);
/// After the store or the disk was full the next frame is offered to it so much later.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What the loop owns.
pub(super) struct Core {
    pub config: Config,
    pub store: Arc<Store>,
    pub topics: Topics,
    pub events: SyncSender<Event>,
    pub runtime: Box<dyn Runtime>,
    pub detector: Detector,
    pub slot: Slot,
    /// What labels count in.
    pub classes: Vec<String>,
    /// The number of the camera's keeper.
    keeper: u64,
    /// Lets the next frame through; none when the camera has ended.
    pub camera: Option<SyncSender<Wish>>,
    /// Why it gives no frames, while it gives none.
    pub camera_trouble: Option<Trouble>,
    /// What it gives, in words.
    camera_gives: Option<String>,
    /// Why the last frame could not be looked at.
    garbage: Option<String>,
    garbage_said: Option<Instant>,
    /// Who waits for the next frame to be kept.
    pub asked_frames: Vec<Ask>,
    pub run: Option<Run>,
    /// Somebody wants the daemon to stop, whatever waits in the queue.
    stopping: Arc<AtomicBool>,
    pub facts: Arc<Facts>,
    /// What Home Assistant is told.
    pub homeassistant: HomeAssistant,
    /// Whoever listens at the API.
    pub hub: Arc<Hub>,
    link: Option<Link>,
    pub selector: Selector,
    /// None where the disk refuses: then a restart forgets what was seen.
    pub looks: Option<Looks>,
    /// Whether the current detector is any good.
    pub probation: Probation,
    /// When the next run may start.
    pub schedule: Scheduler,
    /// Reads the configuration again.
    pub read_config: reload::Read,
    /// Why the broker does not want us.
    broker_refuses: Option<String>,
    /// What of the configuration is not in force.
    pub config_faults: Vec<String>,
    /// Whether all parts go on.
    pub heart: Heart,
    started: Instant,
    frames: u64,
    bad_frames: u64,
    /// Since when there is no room for frames.
    full_since: Option<Instant>,
    was_connected: bool,
    state_published: Instant,
    state_due: Instant,
}

impl Core {
    pub fn open(
        config: Config,
        store: Arc<Store>,
        topics: Topics,
        facts: Arc<Facts>,
        events: SyncSender<Event>,
        stopping: Arc<AtomicBool>,
    ) -> Result<Self, DaemonError> {
        let runtime = runtime::open(&config.runtime.backbone())?;
        let (slot, detector, left) = models::open_working(&config, &store, &*runtime)?;
        let classes = store.samples().classes()?;
        let mut selector =
            Selector::new(config.select.clone(), detector.classes(), u64::from(std::process::id()));
        let looks = looks::open(&store, &detector, &mut selector);
        let now = Instant::now();
        let mut core = Core {
            homeassistant: HomeAssistant::new(&config, &topics),
            selector,
            looks,
            config,
            store,
            topics,
            events,
            runtime,
            detector,
            slot,
            classes,
            keeper: 0,
            camera: None,
            camera_trouble: None,
            camera_gives: None,
            garbage: None,
            garbage_said: None,
            asked_frames: Vec::new(),
            run: None,
            stopping,
            facts,
            hub: Arc::default(),
            link: None,
            probation: Probation::default(),
            schedule: Scheduler::new(),
            read_config: Box::new(|| Err("it is not known where it was read from".into())),
            broker_refuses: None,
            config_faults: Vec::new(),
            heart: Heart::default(),
            started: now,
            frames: 0,
            bad_frames: 0,
            full_since: None,
            was_connected: false,
            state_published: now,
            state_due: now,
        };
        for models::Left { slot: from, reason } in left {
            let to = core.slot.slot;
            core.report_model(&ModelEvent { event: "rolled_back", from, to, reason })?;
        }
        Ok(core)
    }

    /// Watches through the configured camera, if there is one, and no longer through the one before.
    pub fn watch(&mut self) -> std::io::Result<()> {
        self.keeper += 1;
        self.camera = None;
        self.camera_trouble = None;
        self.camera_gives = None;
        // The keeper that was there before may beat or rest once more; that is put right by the next beat.
        self.heart.camera.rest();
        let Some(source) = self.config.camera.source() else { return Ok(()) };
        self.heart.camera.beat();
        let (events, pulse) = (self.events.clone(), self.heart.camera.clone());
        let post = Post { events, number: self.keeper, pulse };
        self.camera = Some(camera::start(source, self.config.camera.wishes(), post)?);
        self.next_frame();
        Ok(())
    }

    /// The link is there.
    pub fn connect(&mut self, link: Link) {
        self.link = Some(link);
        // A full disk must not keep the device from detecting.
        if let Err(error) = self.take_up_run() {
            tracing::error!("the interrupted run is not taken up: {error}");
        }
        if let Err(error) = self.settle_interrupted() {
            tracing::error!("interrupted commands are not answered: {error}");
        }
    }

    /// What stays the same, and the first state.
    pub fn publish_facts(&mut self) {
        for command in COMMANDS {
            // Nothing clears what an earlier life, which allowed more, has announced.
            let payload = match self.forbids(command) {
                Some(_) => Vec::new(),
                None => serde_json::to_vec(&capability(command)).expect("a schema can be written"),
            };
            self.publish_fact(self.topics.capability(command), payload);
        }
        self.publish_model();
        self.publish_state();
        // Detecting matters more than being found.
        if let Err(error) = self.announce() {
            tracing::error!("Home Assistant is not told: {error}");
        }
    }

    /// Works until it is told to stop, or can't go on.
    pub fn work(mut self, queue: Receiver<Event>) -> Result<(), DaemonError> {
        let _feeder = match self.heart.feed_watchdog() {
            Ok(feeder) => Some(feeder),
            Err(error) => {
                tracing::error!("the system gives no thread for the watchdog: {error}");
                None
            }
        };
        let ended = loop {
            if self.stopping.load(Ordering::Relaxed) {
                break Ok(());
            }
            self.tend();
            if self.link.as_ref().is_some_and(Link::has_crashed) {
                break Err(DaemonError::LinkCrashed);
            }
            let due = self.state_due.min(self.schedule.due);
            let due = self.homeassistant.due().map_or(due, |picture| picture.min(due));
            let result = match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
                // Somebody who starts it by hand can change what is wrong. A device that starts at night, when
                // its broker has lost its users, must work and try on.
                Ok(Event::Link { event: LinkEvent::Refused(reason), .. })
                    if !self.was_connected && !heart::is_managed() =>
                {
                    let broker = self.config.mqtt.broker.to_string();
                    break Err(DaemonError::Refused { broker, reason });
                }
                Ok(event) => self.handle(event),
            };
            // The store is told at once by its own error what to do; the daemon goes on detecting.
            if let Err(error) = result {
                tracing::error!("{error}");
            }
        };
        heart::stopping();
        // Whoever waits to hand an event in need not wait any longer.
        drop(queue);
        self.camera = None;
        let unanswered = self.no_frame("graftd was stopped; send the command again under a new id");
        self.interrupt_run();
        if let Some(link) = self.link.take() {
            link.stop(Instant::now() + STOP_WITHIN);
        }
        ended?;
        Ok(unanswered?)
    }

    /// What is due. Asked before each event: a busy camera leaves no pause between two.
    fn tend(&mut self) {
        self.heart.core.beat();
        let now = Instant::now();
        if now >= self.schedule.due {
            self.follow_schedule();
        }
        if now >= self.state_due {
            self.publish_state();
        }
        if self.homeassistant.due().is_some_and(|due| due <= Instant::now()) {
            self.show_last_kept();
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), StoreError> {
        match event {
            Event::Camera { keeper, event } if keeper == self.keeper => self.camera_tells(event),
            // Of a camera that is not watched any more.
            Event::Camera { .. } => Ok(()),
            Event::Link { event, done } => {
                let result = match event {
                    LinkEvent::Connected => {
                        self.was_connected = true;
                        self.broker_refuses = None;
                        heart::ready();
                        Ok(Taken::Idle)
                    }
                    LinkEvent::Away => {
                        heart::ready();
                        Ok(Taken::Idle)
                    }
                    // It says so itself, and goes on trying.
                    LinkEvent::Refused(reason) => {
                        self.broker_refuses = Some(reason);
                        Ok(Taken::Idle)
                    }
                    LinkEvent::Message { topic, payload, reply } => self.take(&topic, &payload, reply),
                };
                // What could not be taken on is not acknowledged: the broker brings it again. A link that
                // has stopped waiting needs no answer.
                let _ = done.try_send(*result.as_ref().unwrap_or(&Taken::No));
                result.map(drop)
            }
            Event::Asked { arguments, caller } => self.asked(*arguments, caller),
            Event::Run(event) => self.run_goes_on(event),
            Event::RunEnded(outcome) => self.run_ended(*outcome),
            Event::Reload => {
                self.reload();
                Ok(())
            }
            // The loop looks at `stopping` next.
            Event::Stop => Ok(()),
        }
    }

    fn camera_tells(&mut self, event: CameraEvent) -> Result<(), StoreError> {
        match event {
            CameraEvent::Frame(frame) => {
                let result = self.look_at(&frame);
                self.next_frame();
                result
            }
            CameraEvent::BadFrame(reason) => {
                let result = self.garbage(reason);
                self.next_frame();
                result
            }
            CameraEvent::Gives(words) => {
                self.camera_gives = Some(words);
                self.state_changed();
                Ok(())
            }
            CameraEvent::Trouble(trouble) => {
                let result = self.no_frame(&trouble.reason);
                self.camera_trouble = Some(trouble);
                // At once: the pauses between two tries keep it from coming often.
                self.state_due = Instant::now();
                result
            }
            CameraEvent::Back => {
                self.camera_trouble = None;
                self.state_changed();
                Ok(())
            }
            CameraEvent::Ended => {
                tracing::info!("the camera has no more frames");
                self.camera = None;
                self.state_changed();
                self.no_frame("the camera has no more frames")
            }
        }
    }

    fn next_frame(&mut self) {
        let garbage = self.garbage.take();
        if let Some(camera) = &self.camera {
            // The thread has used the last: it either takes this or has ended.
            let _ = camera.try_send(garbage.map_or(Wish::Frame, Wish::Another));
        }
    }

    /// The camera gave something that is no frame. A camera may do so for months: one line a minute.
    fn garbage(&mut self, reason: String) -> Result<(), StoreError> {
        if self.garbage_said.is_none_or(|said| said.elapsed() >= GARBAGE_SAID_EVERY) {
            tracing::warn!("{reason}");
            self.garbage_said = Some(Instant::now());
        } else {
            tracing::debug!("{reason}");
        }
        let result = self.bad_frame(&reason);
        self.garbage = Some(reason);
        result
    }

    /// A frame could not be looked at: whoever waits for it is told.
    fn bad_frame(&mut self, reason: &str) -> Result<(), StoreError> {
        self.bad_frames += 1;
        self.no_frame(reason)
    }

    /// Answers whoever waits for the next frame.
    fn no_frame(&mut self, reason: &str) -> Result<(), StoreError> {
        for ask in std::mem::take(&mut self.asked_frames) {
            self.settle(&ask, &Answer::failed(reason))?;
        }
        Ok(())
    }

    /// Detects, and keeps the frame if it is worth it.
    fn look_at(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let picture = match frame.picture() {
            Ok(picture) => picture,
            Err(error) => return self.garbage(format!("frame {}: {error}", frame.source)),
        };
        let look = match self.detect(&picture)? {
            Some(Ok(look)) => look,
            None => {
                return match self.probation.trouble.clone() {
                    Some(reason) => self.no_frame(&reason),
                    None => Ok(()),
                };
            }
            Some(Err(error)) => {
                let reason = format!("frame {}: {error}", frame.source);
                tracing::error!("{reason}");
                return self.bad_frame(&reason);
            }
        };
        self.frames += 1;
        let asked = !self.asked_frames.is_empty();
        if !asked && self.full_since.is_some_and(|since| since.elapsed() < TRY_AGAIN) {
            return Ok(());
        }
        match self.selector.decide(&picture, &look, asked, Instant::now()) {
            Some((why, seen)) => self.keep(frame, &picture, &look.found, &why, &seen),
            None => Ok(()),
        }
    }

    fn keep(
        &mut self,
        frame: &Frame,
        picture: &Picture,
        found: &[Detection],
        why: &Why,
        seen: &KeptLook,
    ) -> Result<(), StoreError> {
        let found = found.iter().map(|detection| found_box(detection, picture)).collect();
        let new = NewSample {
            width: picture.width(),
            height: picture.height(),
            taken: frame.taken,
            source: frame.source.clone(),
            why: why.to_string(),
            interest: interest(why),
            found,
        };
        let bytes = match frame.encoded(picture) {
            Ok(bytes) => bytes,
            Err(error) => return self.no_frame(&error.to_string()),
        };
        let kept = self.store.samples().add(&bytes, new);
        self.mind_the_room(kept.as_ref().err());
        for ask in std::mem::take(&mut self.asked_frames) {
            let answer = match &kept {
                Ok(sample) => Answer::Successful { result: json!({"sample": sample.id.to_string()}) },
                Err(error) => Answer::failed(error.to_string()),
            };
            self.settle(&ask, &answer)?;
        }
        let sample = match kept {
            Ok(sample) => sample,
            // Said once, when it began.
            Err(error) if error.is_full() => return Ok(()),
            Err(error) => return Err(error),
        };
        looks::remember(&mut self.looks, sample.id, seen);
        self.homeassistant.kept(picture);
        self.state_changed();
        let payload = identified(&self.sample_report(&sample));
        let topic = self.topics.event_sample();
        self.push(&Message { topic, payload, droppable: true, correlation: None })
    }

    /// A full disk or store stops the keeping of frames and nothing else; now and then it is tried again.
    fn mind_the_room(&mut self, error: Option<&StoreError>) {
        let was_full = self.full_since.is_some();
        match error {
            Some(error) if error.is_full() => {
                if !was_full {
                    tracing::error!("no frame is kept until there is room: {error}");
                }
                self.full_since = Some(Instant::now());
            }
            Some(_) => {}
            None => {
                if self.full_since.take().is_some() {
                    tracing::info!("there is room again; frames are kept");
                }
            }
        }
        if was_full != self.full_since.is_some() {
            self.state_changed();
        }
    }

    fn sample_report(&self, sample: &Sample) -> SampleReport {
        let boxes = sample.found.iter().map(|found| {
            let LabelBox { class, cx, cy, w, h } = found.label;
            let class = self.detector.classes().get(class as usize).cloned().unwrap_or_default();
            BoxReport { class, score: found.score, cx, cy, w, h }
        });
        SampleReport {
            sample: sample.id.to_string(),
            time: sample.taken_ms as f64 / 1000.0,
            source: sample.source.clone(),
            width: sample.width,
            height: sample.height,
            why: sample.why.clone(),
            boxes: boxes.collect(),
        }
    }

    /// Gives the broker a message, now or whenever it can be reached.
    pub fn push(&mut self, message: &Message) -> Result<(), StoreError> {
        self.store.outbox().push(message)?;
        self.wake_link();
        self.tell_listeners(&message.topic, &message.payload);
        Ok(())
    }

    /// Sets what a retained topic says.
    pub fn publish_fact(&self, topic: String, payload: Vec<u8>) {
        if self.facts.set(topic.clone(), payload.clone()) {
            self.wake_link();
            self.tell_listeners(&topic, &payload);
        }
    }

    fn tell_listeners(&self, topic: &str, payload: &[u8]) {
        if let Some(topic) = self.topics.below(topic) {
            self.hub.tell(topic, payload);
        }
    }

    /// Something new lies in the outbox or among the facts.
    pub fn wake_link(&self) {
        if let Some(link) = &self.link {
            link.wake();
        }
    }

    /// Something that the state tells has changed.
    pub fn state_changed(&mut self) {
        self.state_due = self.state_due.min(self.state_published + STATE_AFTER_CHANGE);
    }

    fn publish_state(&mut self) {
        self.store.tend();
        self.state_published = Instant::now();
        self.state_due = self.state_published + STATE_EVERY;
        let payload = serde_json::to_vec(&self.state()).expect("reports can be written");
        self.publish_fact(self.topics.state(), payload);
        heart::status(&self.in_a_line());
    }

    /// What goes on, for whoever looks at the service.
    fn in_a_line(&self) -> String {
        let camera = match (&self.camera, &self.camera_trouble) {
            (_, Some(trouble)) => trouble.reason.clone(),
            (None, None) => "no camera".into(),
            (Some(_), None) => format!("{} frames", self.frames),
        };
        let run = match &self.run {
            Some(run) if run.is_paused() => format!("run {} is paused", run.id),
            Some(run) => format!("run {} goes on", run.id),
            None => format!("the next run waits for {}", self.schedule.waits_for.join("; ")),
        };
        format!("slot {}; {camera}; {run}", self.slot.slot)
    }

    /// The state as `cmd/state` gives it.
    pub fn state_value(&self) -> Value {
        serde_json::to_value(self.state()).expect("reports can be written")
    }

    fn state(&self) -> StateReport {
        let counts = self.store.samples().counts();
        StateReport {
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed().as_secs(),
            slot: self.slot.slot,
            classes: self.classes.clone(),
            samples: counts.samples,
            labelled: counts.labelled,
            holdout: counts.holdout,
            frames: self.frames,
            bad_frames: self.bad_frames,
            camera: match (&self.camera, &self.camera_trouble) {
                (None, _) => "off",
                (Some(_), Some(_)) => "away",
                (Some(_), None) => "on",
            },
            camera_gives: self.camera_gives.clone(),
            camera_trouble: self.camera_trouble.as_ref().map(|trouble| CameraTrouble {
                reason: trouble.reason.clone(),
                seconds: trouble.since.elapsed().as_secs(),
                tries: trouble.tries,
                next_try: trouble.next_try.saturating_duration_since(Instant::now()).as_secs(),
            }),
            runtime: self.runtime.name(),
            run: self.run.as_ref().map(|run| run.id.clone()),
            paused: self.run.as_ref().is_some_and(Run::is_paused),
            progress: self.run.as_ref().and_then(|run| run.progress.clone()),
            outbox: self.store.outbox().len(),
            set_aside: self.store.outbox().aside(),
            storage: if self.full_since.is_some() { "full" } else { "ok" },
            frames_mb: counts.bytes >> 20,
            disk_free_mb: self.store.free_space().map(|bytes| bytes >> 20),
            temperature: machine::temperature(),
            waits_for: self.schedule.waits_for.clone(),
            faults: [&self.probation.trouble, &self.broker_refuses]
                .into_iter()
                .flatten()
                .chain(&self.config_faults)
                .cloned()
                .collect(),
        }
    }
}

/// What the store is to think of a frame that was kept for this reason.
fn interest(why: &Why) -> Interest {
    match why {
        Why::Random => Interest::Ordinary,
        Why::Unsure { .. } | Why::Rare { .. } | Why::New { .. } | Why::Flicker { .. } => Interest::Notable,
        Why::Asked => Interest::Asked,
    }
}

fn found_box(detection: &Detection, picture: &Picture) -> FoundBox {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let share = |low: f32, high: f32, side: f32| {
        let (low, high) = (low.clamp(0.0, side) / side, high.clamp(0.0, side) / side);
        ((low + high) / 2.0, high - low)
    };
    let (cx, w) = share(detection.x1, detection.x2, width);
    let (cy, h) = share(detection.y1, detection.y2, height);
    FoundBox { label: LabelBox { class: detection.class, cx, cy, w, h }, score: detection.score }
}
