//! The link to the broker: connects, subscribes, empties the outbox, hands commands in.
//!
//! Two threads: one turns rumqttc's connection, one publishes. rumqttc forgets what is on its way when
//! a broker has forgotten the session, so every connection gets a client of its own and starts at the
//! outbox's first message that no broker has acknowledged.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet,
    QoS, StateError, SubscribeFilter,
};

use crate::config::Broker;
use crate::store::{Store, StoreError};

use super::facts::Facts;
use super::flight::Flight;
use super::session::end_session;
use super::topics::Topics;

/// Messages on their way at once.
const WINDOW: usize = 16;
/// Connections in a row that may end over the same first message before it is set aside.
const STRIKES: u32 = 5;
/// The largest message that is taken in, bytes; a larger one ends the connection.
const LARGEST_INCOMING: usize = 16 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT_SECONDS: u64 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Whom to speak to, and as whom.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Must differ from that of every other client of the broker.
    pub client_id: String,
    /// Where the broker is.
    pub broker: Broker,
    /// Goes with the broker's user.
    pub password: Option<String>,
    /// The names of topics.
    pub topics: Topics,
    /// Size above which a message is set aside, bytes.
    pub max_packet: usize,
}

/// What the link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Connected,
    /// The broker knows us and does not want us: what it said and what to do.
    Refused(String),
    /// A message on a topic of ours. The broker gets its acknowledgement when the callback says that it
    /// has been taken; otherwise it brings the message again at the next connection.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
    },
}

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
    flight: Flight,
    stopping: bool,
    /// The first message that the last connection ended over, and how many did in a row.
    suspect: Option<(u64, u32)>,
}

impl Link {
    /// Starts to connect. `on_event` is called from the link's thread; it says whether what it was told
    /// has been taken.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        settings: LinkSettings,
        store: Arc<Store>,
        facts: Arc<Facts>,
        on_event: impl FnMut(LinkEvent) -> bool + Send + 'static,
    ) -> std::io::Result<Link> {
        facts.set(settings.topics.status(), b"online".to_vec());
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

    /// Says `offline`, gives the outbox until `deadline` to get empty, and disconnects.
    pub fn stop(self, deadline: Instant) {
        let shared = &self.shared;
        shared.facts.set(shared.settings.topics.status(), b"offline".to_vec());
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
            // A full queue means that the connection hangs; it ends with the process then.
            let _ = client.try_disconnect();
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

    fn keep_connected(&self, mut on_event: impl FnMut(LinkEvent) -> bool) {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(std::process::id()));
        let mut pause = FIRST_WAIT;
        let mut told = String::new();
        let mut forget = false;
        while !self.lock().stopping {
            if forget && let Err(error) = end_session(self.options(), &[]) {
                tracing::warn!("the session is not ended yet: {error}");
            }
            let (client, mut connection) = Client::new(self.options_with_will(), 256);
            connection.eventloop.network_options.set_connection_timeout(CONNECT_TIMEOUT_SECONDS);
            let (was_connected, error) = self.serve(&client, &mut connection, &mut on_event);
            // The broker would bring what is too large again at every connection.
            forget = is_too_large(&error);
            self.disconnected(forget);
            if self.lock().stopping {
                return;
            }
            if was_connected && !forget {
                (pause, told) = (FIRST_WAIT, String::new());
            }
            let words = match refusal(&error, &self.settings) {
                Some(words) => {
                    on_event(LinkEvent::Refused(words.clone()));
                    words
                }
                None if forget => format!(
                    "it brings a message above {LARGEST_INCOMING} bytes; what it has queued for this device is \
                     dropped. Send commands again, and clear the topic if the message is a retained one"
                ),
                None => format!("{error}"),
            };
            // Every attempt fails alike while the broker is away; once is enough to tell.
            if words != told {
                tracing::warn!("broker {}: {words}; trying again until it works", self.settings.broker);
                told = words;
            }
            let jitter = random.random_range(0.75..1.25);
            let until = Instant::now() + pause.mul_f64(jitter);
            let mut state = self.lock();
            while !state.stopping && Instant::now() < until {
                state = self.wait(state, until.saturating_duration_since(Instant::now()));
            }
            pause = (pause * 2).min(LONGEST_WAIT);
        }
    }

    /// Turns one connection until it ends; whether it ever was one, and why it ended.
    fn serve(
        &self,
        client: &Client,
        connection: &mut Connection,
        on_event: &mut impl FnMut(LinkEvent) -> bool,
    ) -> (bool, ConnectionError) {
        let mut connected = false;
        loop {
            match connection.recv() {
                Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                    let filters = self.settings.topics.subscriptions();
                    let filters = filters.map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
                    if client.try_subscribe_many(filters).is_err() {
                        return (connected, ConnectionError::RequestsDone);
                    }
                    connected = true;
                    self.facts.all_due();
                    self.lock().client = Some(client.clone());
                    self.changed.notify_all();
                    on_event(LinkEvent::Connected);
                    tracing::info!("connected to {}", self.settings.broker);
                }
                Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                    let (topic, payload) = (publish.topic.clone(), publish.payload.to_vec());
                    let taken = on_event(LinkEvent::Message { topic, payload });
                    if taken && client.try_ack(&publish).is_err() {
                        return (connected, ConnectionError::RequestsDone);
                    }
                }
                Ok(Ok(Event::Incoming(Packet::PubAck(ack)))) => {
                    let mut state = self.lock();
                    if let Some(message) = state.flight.acknowledge(ack.pkid) {
                        state.suspect = None;
                        self.report(self.store.outbox().acknowledge(message));
                    }
                    self.changed.notify_all();
                }
                Ok(Ok(Event::Outgoing(Outgoing::Publish(packet)))) => self.lock().flight.sent(packet),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return (connected, error),
                Err(_) => return (connected, ConnectionError::RequestsDone),
            }
        }
    }

    /// Forgets the connection; a message that ends one connection after the other is set aside, unless
    /// something else ended it.
    fn disconnected(&self, excused: bool) {
        let mut state = self.lock();
        state.client = None;
        let flight = std::mem::take(&mut state.flight);
        let innocent = excused || flight.acknowledged || state.stopping;
        let Some(first) = flight.first().filter(|_| !innocent) else { return };
        let strikes = match state.suspect {
            Some((message, strikes)) if message == first => strikes + 1,
            _ => 1,
        };
        state.suspect = Some((first, strikes));
        if strikes >= STRIKES {
            tracing::error!("a message ended {strikes} connections in a row; it is set aside");
            self.report(self.store.outbox().set_aside(first));
            state.suspect = None;
        }
    }

    fn keep_publishing(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let pause = match self.publish_next(&mut state) {
                Ok(true) => continue,
                Ok(false) => Duration::from_secs(60),
                Err(error) => {
                    tracing::error!("the outbox can't be read: {error}");
                    Duration::from_secs(5)
                }
            };
            state = self.wait(state, pause);
        }
    }

    /// Hands one message to the client, if there is one, and room for it.
    fn publish_next(&self, state: &mut State) -> Result<bool, StoreError> {
        let Some(client) = &state.client else { return Ok(false) };
        // With a suspect one goes at a time, so that it is clear which one the broker dislikes.
        let window = if state.suspect.is_some() { 1 } else { WINDOW };
        if state.flight.len() >= window {
            return Ok(false);
        }
        if let Some((topic, payload)) = self.facts.next_due() {
            let size = topic.len() + payload.len();
            if size > self.settings.max_packet {
                tracing::error!("{topic} has {size} bytes, above mqtt.max_packet; it is not published");
                self.facts.given(&topic, &payload);
                return Ok(true);
            }
            if client.try_publish(&topic, QoS::AtLeastOnce, true, payload.clone()).is_err() {
                return Ok(false);
            }
            self.facts.given(&topic, &payload);
            state.flight.hand_over(None);
            return Ok(true);
        }
        let Some((id, message)) = self.store.outbox().next(state.flight.last())? else { return Ok(false) };
        let size = message.topic.len() + message.payload.len();
        if size > self.settings.max_packet {
            tracing::error!(
                "a message of {size} bytes for {} is above mqtt.max_packet ({}); it is set aside",
                message.topic,
                self.settings.max_packet
            );
            self.store.outbox().set_aside(id)?;
            return Ok(true);
        }
        if client.try_publish(&message.topic, QoS::AtLeastOnce, false, message.payload).is_err() {
            return Ok(false);
        }
        state.flight.hand_over(Some(id));
        Ok(true)
    }

    fn options_with_will(&self) -> MqttOptions {
        let mut options = self.options();
        let status = self.settings.topics.status();
        options.set_last_will(LastWill::new(status, "offline", QoS::AtLeastOnce, true));
        options
    }

    fn options(&self) -> MqttOptions {
        let settings = &self.settings;
        let mut options = MqttOptions::new(&settings.client_id, &settings.broker.host, settings.broker.port);
        options.set_keep_alive(KEEP_ALIVE);
        // The broker keeps commands for us while we are away.
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_inflight(100);
        options.set_max_packet_size(LARGEST_INCOMING, settings.max_packet + 1024);
        if let Some(user) = &settings.broker.user {
            options.set_credentials(user, settings.password.clone().unwrap_or_default());
        }
        options
    }

    fn report(&self, result: Result<(), StoreError>) {
        if let Err(error) = result {
            tracing::error!("the outbox can't be written: {error}");
        }
    }
}

/// Whether a message that came in was above what is taken in.
fn is_too_large(error: &ConnectionError) -> bool {
    use rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded;
    matches!(error, ConnectionError::MqttState(StateError::Deserialization(PayloadSizeLimitExceeded(_))))
}

/// What to do about a broker that answers but does not want us.
fn refusal(error: &ConnectionError, settings: &LinkSettings) -> Option<String> {
    let ConnectionError::ConnectionRefused(code) = error else { return None };
    let who = match &settings.broker.user {
        Some(user) => format!("user {user:?}"),
        None => "a client without a user".into(),
    };
    Some(match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => format!(
            "the broker refuses {who}; check the user in mqtt.broker (mqtt://user@host) and mqtt.password_file"
        ),
        ConnectReturnCode::BadClientId => {
            format!("the broker refuses the client id {:?}; change device", settings.client_id)
        }
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".into(),
        ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => return None,
    })
}
