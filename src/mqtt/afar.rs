//! A device seen from afar: what it has retained at the broker, and what it tells.

use std::time::{Duration, Instant};

use rumqttc::{
    Client, Connection, ConnectionError, Event, MqttOptions, Packet, QoS, RecvTimeoutError, SubscribeFilter,
};
use uuid::Uuid;

use crate::config::Broker;

use super::tls::{self, TlsFiles};
use super::topics::Topics;

const CONNECT_TIMEOUT_SECONDS: u64 = 5;
/// The largest message that is taken in, bytes.
const LARGEST: usize = 16 * 1024 * 1024;

/// Why nothing is seen.
#[derive(Debug, thiserror::Error)]
#[error("broker {broker}: {reason}")]
pub struct AfarError {
    broker: Broker,
    reason: String,
}

/// A message of the device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its topic, without the root.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Listens to one device, and says nothing.
pub struct Afar {
    broker: Broker,
    topics: Topics,
    filters: Vec<String>,
    client: Client,
    connection: Connection,
    tls: TlsFiles,
}

impl Afar {
    /// Will listen to what matches these filters, below the device's root. The files are those of TLS, where the
    /// broker's address asks for it.
    ///
    /// # Errors
    /// When one of the files can't be used.
    pub fn new(
        broker: Broker,
        password: Option<String>,
        tls: TlsFiles,
        topics: Topics,
        filters: &[&str],
    ) -> Result<Self, AfarError> {
        // Another client may look at the same device at the same time.
        let id = format!("graftd-look-{}", Uuid::now_v7().simple());
        let mut options = MqttOptions::new(id, &broker.host, broker.port);
        options.set_clean_session(true);
        options.set_max_packet_size(LARGEST, 64 * 1024);
        if let Some(user) = &broker.user {
            options.set_credentials(user, password.unwrap_or_default());
        }
        if broker.tls {
            let transport = tls.transport().map_err(|error| AfarError {
                broker: broker.clone(),
                reason: as_options(&error.to_string()),
            })?;
            options.set_transport(transport);
        }
        let filters = filters.iter().map(|filter| topics.absolute(filter)).collect();
        let (client, mut connection) = Client::new(options, 16);
        connection.eventloop.network_options.set_connection_timeout(CONNECT_TIMEOUT_SECONDS);
        Ok(Afar { broker, topics, filters, client, connection, tls })
    }

    /// The next message until `deadline`; none when there is none.
    ///
    /// # Errors
    /// When the connection can't be had or ends. The next call connects again.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Heard>, AfarError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.connection.recv_timeout(left.max(Duration::from_millis(1))) {
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(self.error("the connection has ended")),
                Ok(Err(error)) => return Err(self.error(self.words(&error))),
                Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                    let filters = self.filters.iter();
                    let filters =
                        filters.map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                    if let Err(error) = self.client.try_subscribe_many(filters) {
                        return Err(self.error(error));
                    }
                }
                Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                    if let Some(topic) = self.topics.below(&publish.topic) {
                        return Ok(Some(Heard {
                            topic: topic.to_owned(),
                            payload: publish.payload.to_vec(),
                        }));
                    }
                }
                Ok(Ok(_)) => {}
            }
        }
    }

    fn error(&self, reason: impl std::fmt::Display) -> AfarError {
        AfarError { broker: self.broker.clone(), reason: reason.to_string() }
    }

    fn words(&self, error: &ConnectionError) -> String {
        if let Some(cause) = tls::find(error) {
            return as_options(&tls::advice(cause, &self.broker.host, &self.tls));
        }
        match error {
            ConnectionError::ConnectionRefused(code) => {
                format!("it refuses us ({code:?}); name a user in --broker and give --password-file")
            }
            other => format!("{other}; is it running, and can it be reached from here?"),
        }
    }
}

/// What is said with the configuration's keys, said with the options of the command line.
fn as_options(text: &str) -> String {
    let options = [
        ("mqtt.ca_file", "--ca-file"),
        ("mqtt.client_cert", "--client-cert"),
        ("mqtt.client_key", "--client-key"),
        ("mqtt.broker", "--broker"),
    ];
    options.into_iter().fold(text.to_owned(), |text, (key, option)| text.replace(key, option))
}
