//! One connection to a broker, in either version of MQTT, as the link sees it.

mod v3;
mod v5;

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::config::MqttVersion;

use super::settings::LinkSettings;
use super::tls::{self, TlsError};

/// The largest message that is taken in, bytes; a larger one ends the connection.
pub(super) const LARGEST_INCOMING: usize = 16 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT_SECONDS: u64 = 5;
/// Messages and acknowledgements that wait for the connection, at most.
const QUEUE: usize = 256;
/// Messages on their way that rumqttc keeps track of; the link has fewer on their way.
const INFLIGHT: u16 = 100;

/// A message for the broker.
pub(super) struct Parcel {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    /// May go after a while.
    pub is_event: bool,
    /// Tells its receiver which request it answers.
    pub correlation: Option<Vec<u8>>,
}

/// Where an answer is to go; MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// Response topic.
    pub topic: String,
    /// Correlation data.
    pub correlation: Option<Vec<u8>>,
}

/// A message from the broker.
pub(super) struct Delivery {
    pub topic: String,
    pub payload: Vec<u8>,
    pub reply: Option<ReplyTo>,
    ticket: Ticket,
}

/// What an acknowledgement needs.
enum Ticket {
    V3(rumqttc::Publish),
    V5(rumqttc::v5::mqttbytes::v5::Publish),
}

/// What a connection did.
pub(super) enum Turn {
    /// The broker takes us, and packets of so many bytes, where it says so.
    Connected {
        max_packet: Option<usize>,
    },
    /// It answers a subscription: of which filters, by their place, it wants nothing to know.
    Subscribed {
        refused: Vec<usize>,
    },
    Message(Box<Delivery>),
    /// A message of ours went out under this number.
    Sent(u16),
    /// The broker has taken a message, or says why it never will.
    Acknowledged {
        packet: u16,
        refusal: Option<String>,
    },
    Other,
}

/// Why a connection ended, or never was.
pub(super) enum End {
    /// The broker knows us and does not want us: what it said and what to do.
    Refused(String),
    /// It brought a message above [`LARGEST_INCOMING`].
    TooLarge,
    /// The other side closed: what the system said.
    Cut(String),
    /// Anything else, in words.
    Broke(String),
}

/// Gives a connection something to do, from any thread.
#[derive(Clone)]
pub(super) enum Client {
    V3(rumqttc::Client),
    V5(rumqttc::v5::Client, v5::Expiry),
}

/// Turns a connection.
pub(super) enum Connection {
    V3(Box<rumqttc::Connection>),
    V5(Box<rumqttc::v5::Connection>),
}

/// Gets a connection ready; it is made when it is first turned.
pub(super) fn start(settings: &LinkSettings) -> Result<(Client, Connection), TlsError> {
    Ok(match settings.version {
        MqttVersion::V3 => {
            let (client, connection) = v3::start(settings)?;
            (Client::V3(client), Connection::V3(Box::new(connection)))
        }
        MqttVersion::V5 => {
            let (client, connection) = v5::start(settings)?;
            let expiry = v5::Expiry { event_seconds: settings.event_seconds };
            (Client::V5(client, expiry), Connection::V5(Box::new(connection)))
        }
    })
}

pub(super) use v3::options;

impl Connection {
    /// Waits until the connection does something, or ends.
    pub fn turn(&mut self, settings: &LinkSettings) -> Result<Turn, End> {
        match self {
            Connection::V3(connection) => v3::turn(connection, settings),
            Connection::V5(connection) => v5::turn(connection, settings),
        }
    }
}

/// The connection has as much to do as it can hold.
#[derive(Debug)]
pub(super) struct Busy;

impl Client {
    pub fn subscribe(&self, filters: &[String]) -> Result<(), Busy> {
        match self {
            Client::V3(client) => v3::subscribe(client, filters),
            Client::V5(client, _) => v5::subscribe(client, filters),
        }
    }

    pub fn publish(&self, parcel: Parcel) -> Result<(), Busy> {
        match self {
            Client::V3(client) => v3::publish(client, parcel),
            Client::V5(client, expiry) => v5::publish(client, expiry, parcel),
        }
    }

    pub fn acknowledge(&self, delivery: &Delivery) -> Result<(), Busy> {
        let done = match (self, &delivery.ticket) {
            (Client::V3(client), Ticket::V3(publish)) => client.try_ack(publish).is_ok(),
            (Client::V5(client, _), Ticket::V5(publish)) => client.try_ack(publish).is_ok(),
            // A delivery is acknowledged to the connection that brought it.
            _ => false,
        };
        done.then_some(()).ok_or(Busy)
    }

    pub fn disconnect(&self) {
        // A full queue means that the connection hangs; it ends with the process then.
        match self {
            Client::V3(client) => drop(client.try_disconnect()),
            Client::V5(client, _) => drop(client.try_disconnect()),
        }
    }
}

/// An error that is neither a refusal nor about sizes, in words.
fn broke(error: &(dyn Error + 'static), settings: &LinkSettings) -> End {
    match tls::find(error) {
        Some(error) => End::Broke(tls::advice(error, &settings.broker.host, &settings.tls)),
        None if was_cut(error) => End::Cut(error.to_string()),
        None => End::Broke(error.to_string()),
    }
}

/// Whether the other side has closed.
fn was_cut(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut kinds = tls::causes(error).filter_map(|cause| cause.downcast_ref()).map(io::Error::kind);
    kinds.any(|kind| matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

/// What to do about a broker that does not let us in.
fn not_authorised(settings: &LinkSettings) -> String {
    format!(
        "the broker refuses {}; check the user in mqtt.broker (mqtt://user@host) or mqtt.username_file, and \
         mqtt.password_file",
        settings.who()
    )
}

fn bad_client_id(settings: &LinkSettings) -> String {
    format!("the broker refuses the client id {:?}; change device", settings.client_id)
}
