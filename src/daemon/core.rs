//! The loop: takes one event after the other and decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use crate::config::{Config, Remote};
use crate::detect::Detector;
use crate::mqtt::{COMMANDS, Facts, Link, LinkEvent, ModelEvent, Taken, Topics, capability};
use crate::runtime::{self, Runtime};
use crate::select::Selector;
use crate::store::{Looks, Message, Slot, Store, StoreError};
use crate::web::Hub;

use super::errands::{self, Errand};
use super::event::Event;
use super::frames::Eyes;
use super::heart::{self, Heart};
use super::homeassistant::HomeAssistant;
use super::names::Names;
use super::probation::Probation;
use super::runs::Run;
use super::schedule::Scheduler;
use super::{DaemonError, looks, models, reload};

/// From the wish to stop to the end.
const STOP_WITHIN: Duration = Duration::from_secs(3);
/// What the loop owns.
pub(super) struct Core {
    pub config: Config,
    pub store: Arc<Store>,
    pub topics: Topics,
    pub events: SyncSender<Event>,
    pub runtime: Box<dyn Runtime>,
    pub detector: Detector,
    pub slot: Slot,
    /// What classes are called.
    pub names: Names,
    /// The camera and its frames.
    pub eyes: Eyes,
    pub run: Option<Run>,
    /// What else goes on.
    pub errand: Option<Errand>,
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
    pub broker_refuses: Option<String>,
    /// What was set from afar.
    pub remote: Remote,
    /// What of the configuration is not in force.
    pub config_faults: Vec<String>,
    /// Whether all parts go on.
    pub heart: Heart,
    pub started: Instant,
    was_connected: bool,
    pub state_published: Instant,
    pub state_due: Instant,
}

impl Core {
    pub fn open(
        config: Config,
        read_config: reload::Read,
        store: Arc<Store>,
        topics: Topics,
        facts: Arc<Facts>,
        events: SyncSender<Event>,
        stopping: Arc<AtomicBool>,
    ) -> Result<Self, DaemonError> {
        errands::sweep(&config.state_dir);
        let (config, remote, config_faults) = reload::at_start(config, &read_config);
        let runtime = runtime::open(&config.runtime.backbone())?;
        let (slot, detector, left) = models::open_working(&config, &store, &*runtime)?;
        let names = Names::open(&store, detector.classes())?;
        let mut selector = Selector::new(config.select.clone(), &names.model, u64::from(std::process::id()));
        let looks = looks::open(&store, &detector, &names, &mut selector);
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
            names,
            eyes: Eyes::default(),
            run: None,
            errand: None,
            stopping,
            facts,
            hub: Arc::default(),
            link: None,
            probation: Probation::default(),
            schedule: Scheduler::new(),
            read_config,
            broker_refuses: None,
            remote,
            config_faults,
            heart: Heart::default(),
            started: now,
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
            self.publish_fact(&self.topics.capability(command), &payload);
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
        self.eyes.camera = None;
        let again = "graftd was stopped; send the command again under a new id";
        let unanswered = self.no_frame(again).and(self.give_up_errand(again));
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
            Event::Camera { keeper, event } if keeper == self.eyes.keeper => self.camera_tells(event),
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
            Event::ErrandEnded(done) => self.errand_ended(done),
            Event::Reload => {
                self.reload();
                Ok(())
            }
            // The loop looks at `stopping` next.
            Event::Stop => Ok(()),
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
    pub fn publish_fact(&self, topic: &str, payload: &[u8]) {
        if self.facts.set(topic, payload) {
            self.wake_link();
            self.tell_listeners(topic, payload);
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
}
