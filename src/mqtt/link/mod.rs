//! The link to the broker: connects, subscribes, empties the outbox, hands commands in.
//!
//! Two threads: one turns rumqttc's connection, one publishes. rumqttc forgets what is on its way when
//! a broker has forgotten the session, so every connection gets a client of its own and starts at the
//! outbox's first message that no broker has acknowledged.

mod event;
mod outgoing;

pub use event::{LinkEvent, Taken};

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::store::{Store, StoreError};

use super::facts::Facts;
use super::flight::{Flight, Item};
use super::pace::Pace;
use super::session::end_session;
use super::settings::LinkSettings;
use super::tls;
use super::wire::{self, Client, Connection, Delivery, End, LARGEST_INCOMING, Turn};

/// Connections in a row that may end over the same item before it is set aside.
const STRIKES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A link that keeps itself up.
pub struct Link {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: LinkSettings,
    store: Arc<Store>,
    facts: Arc<Facts>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// There while connected.
    client: Option<Client>,
    /// Size above which this broker takes nothing, where it says so.
    broker_takes: Option<usize>,
    /// Whether it was told that this broker refuses a message.
    refusal_told: bool,
    flight: Flight,
    stopping: bool,
    /// What the last connection ended over, and how many did in a row.
    suspect: Option<(Item, u32)>,
}

impl Link {
    /// Starts to connect. `on_event` is called from the link's thread; it says what became of what it was
    /// told.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        settings: LinkSettings,
        store: Arc<Store>,
        facts: Arc<Facts>,
        on_event: impl FnMut(LinkEvent) -> Taken + Send + 'static,
    ) -> std::io::Result<Link> {
        facts.set(&settings.topics.status(), b"online");
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { settings, store, facts, state, changed });
        let (connecting, publishing) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::Builder::new().name("mqtt".into()).spawn(move || connecting.keep_connected(on_event))?,
            thread::Builder::new().name("mqtt-out".into()).spawn(move || publishing.keep_publishing())?,
        ];
        Ok(Link { shared, threads })
    }

    /// Something new lies in the outbox or among the facts.
    pub fn wake(&self) {
        let _state = self.shared.lock();
        self.shared.changed.notify_all();
    }

    /// Whether the broker has us now.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().client.is_some()
    }

    /// Whether a thread of it has ended that should not: a fault of graftd's own.
    pub fn has_crashed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Says `offline`, gives the outbox until `deadline` to get empty, and disconnects.
    pub fn stop(self, deadline: Instant) {
        let shared = &self.shared;
        shared.facts.set(&shared.settings.topics.status(), b"offline");
        let mut state = shared.lock();
        shared.changed.notify_all();
        let all_sent = |state: &State| {
            state.flight.len() == 0 && shared.facts.next_due().is_none() && shared.store.outbox().is_empty()
        };
        while state.client.is_some() && !all_sent(&state) && Instant::now() < deadline {
            state = shared.wait(state, Duration::from_millis(50));
        }
        state.stopping = true;
        if let Some(client) = &state.client {
            client.disconnect();
        }
        drop(state);
        shared.changed.notify_all();
        for thread in self.threads {
            // A thread in the middle of a connection attempt need not be waited for: it holds nothing.
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of one thread must not take the link down for good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    fn keep_connected(&self, mut on_event: impl FnMut(LinkEvent) -> Taken) {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(std::process::id()));
        let mut pace = Pace::new(self.settings.commands_per_second, Instant::now());
        let mut pause = FIRST_WAIT;
        let mut told = String::new();
        let mut forget = false;
        let mut is_tried = false;
        while !self.lock().stopping {
            self.settings.pulse.beat();
            if forget {
                self.forget_session();
            }
            let (was_connected, end) = match wire::start(&self.settings) {
                Ok((client, mut connection)) => {
                    self.serve(&client, &mut connection, &mut pace, &mut on_event)
                }
                Err(error) => (false, End::Broke(error.to_string())),
            };
            // The broker would bring what is too large again at every connection.
            forget = matches!(end, End::TooLarge);
            self.disconnected(forget);
            if self.lock().stopping {
                return;
            }
            if was_connected && !forget {
                (pause, told) = (FIRST_WAIT, String::new());
            }
            let words = match end {
                End::Refused(words) => {
                    on_event(LinkEvent::Refused(words.clone()));
                    words
                }
                End::TooLarge => format!(
                    "it brings a message above {LARGEST_INCOMING} bytes; what it has queued for this device is \
                     dropped. Send commands again, and clear the topic if the message is a retained one"
                ),
                End::Cut(words) if !was_connected && self.settings.broker.tls => {
                    format!("{words}; {}", tls::advice_when_cut(&self.settings.tls))
                }
                End::Cut(words) | End::Broke(words) => words,
            };
            // Every attempt fails alike while the broker is away; once is enough to tell.
            if words != told {
                tracing::warn!("broker {}: {words}; trying again until it works", self.settings.broker);
                told = words;
            }
            if !std::mem::replace(&mut is_tried, true) {
                on_event(LinkEvent::Away);
            }
            self.sleep(pause.mul_f64(random.random_range(0.75..1.25)));
            pause = (pause * 2).min(LONGEST_WAIT);
        }
    }

    /// Waits, unless the link stops.
    fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.stopping && Instant::now() < until {
            self.settings.pulse.beat();
            state = self.wait(state, until.saturating_duration_since(Instant::now()));
        }
    }

    fn forget_session(&self) {
        let ended = wire::options(&self.settings)
            .map_err(|error| error.to_string())
            .and_then(|options| end_session(options, &[]).map_err(|error| error.to_string()));
        if let Err(error) = ended {
            tracing::warn!("the session is not ended yet: {error}");
        }
    }

    /// Turns one connection until it ends; whether it ever was one, and why it ended.
    fn serve(
        &self,
        client: &Client,
        connection: &mut Connection,
        pace: &mut Pace,
        on_event: &mut impl FnMut(LinkEvent) -> Taken,
    ) -> (bool, End) {
        let busy = || End::Broke("the connection hangs".into());
        let mut connected = false;
        loop {
            self.settings.pulse.beat();
            match connection.turn(&self.settings) {
                Ok(Turn::Connected { max_packet }) => {
                    if client.subscribe(&self.settings.subscriptions()).is_err() {
                        return (connected, busy());
                    }
                    connected = true;
                    self.connected(client, max_packet);
                    on_event(LinkEvent::Connected);
                    tracing::info!("connected to {}", self.settings.broker);
                }
                Ok(Turn::Subscribed { refused }) => {
                    let filters = self.settings.subscriptions();
                    for filter in refused.into_iter().filter_map(|place| filters.get(place)) {
                        tracing::error!(
                            "the broker lets {} not subscribe to {filter}: such messages do not arrive; change \
                             its access list",
                            self.settings.who()
                        );
                    }
                }
                Ok(Turn::Message(delivery)) => {
                    let Delivery { topic, payload, reply, .. } = &*delivery;
                    let (topic, payload, reply) = (topic.clone(), payload.clone(), reply.clone());
                    let taken = on_event(LinkEvent::Message { topic, payload, reply });
                    if taken != Taken::No && client.acknowledge(&delivery).is_err() {
                        return (connected, busy());
                    }
                    if taken == Taken::Command {
                        let wait = pace.count(Instant::now(), self.store.outbox().is_crowded());
                        self.sleep(wait);
                    }
                }
                Ok(Turn::Acknowledged { packet, refusal }) => self.acknowledged(packet, refusal),
                Ok(Turn::Sent(packet)) => self.lock().flight.sent(packet),
                Ok(Turn::Other) => {}
                Err(end) => return (connected, end),
            }
        }
    }

    fn connected(&self, client: &Client, max_packet: Option<usize>) {
        self.facts.all_due();
        let mut state = self.lock();
        state.client = Some(client.clone());
        state.broker_takes = max_packet;
        state.refusal_told = false;
        self.changed.notify_all();
    }

    /// The broker has taken a message, or has said that it never will.
    fn acknowledged(&self, packet: u16, refusal: Option<String>) {
        let mut state = self.lock();
        let item = state.flight.acknowledge(packet);
        if let Some(reason) = &refusal
            && !std::mem::replace(&mut state.refusal_told, true)
        {
            tracing::error!(
                "the broker refuses a message ({reason}); it is set aside, and so are others that it refuses. \
                 Change its access list for {}",
                self.settings.who()
            );
        }
        match item {
            Some(Item::Message(message)) => {
                state.suspect = None;
                self.report(match refusal {
                    Some(_) => self.store.outbox().set_aside(message),
                    None => self.store.outbox().acknowledge(message),
                });
            }
            Some(fact) if state.suspect.as_ref().is_some_and(|(suspect, _)| *suspect == fact) => {
                state.suspect = None;
            }
            _ => {}
        }
        self.changed.notify_all();
    }

    /// Forgets the connection; what ends one connection after the other is set aside, unless something else
    /// ended them.
    fn disconnected(&self, excused: bool) {
        let mut state = self.lock();
        state.client = None;
        let flight = std::mem::take(&mut state.flight);
        let innocent = excused || flight.acknowledged || state.stopping;
        let Some(first) = flight.first().filter(|_| !innocent) else { return };
        let strikes = match &state.suspect {
            Some((item, strikes)) if item == first => strikes + 1,
            _ => 1,
        };
        state.suspect = Some((first.clone(), strikes));
        if strikes < STRIKES {
            return;
        }
        state.suspect = None;
        match first {
            Item::Message(message) => {
                tracing::error!("a message ended {strikes} connections in a row; it is set aside");
                self.report(self.store.outbox().set_aside(*message));
            }
            Item::Fact(topic) => {
                tracing::error!(
                    "what {topic} says ended {strikes} connections in a row; it is not published for ten minutes"
                );
                self.facts.withdraw(topic);
            }
        }
    }

    fn report(&self, result: Result<(), StoreError>) {
        if let Err(error) = result {
            tracing::error!("the outbox can't be written: {error}");
        }
    }
}
