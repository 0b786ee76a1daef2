//! MQTT 3.1.1.

use rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded;
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet,
    QoS, StateError, SubscribeFilter, SubscribeReasonCode,
};

use super::super::settings::LinkSettings;
use super::super::tls::TlsError;
use super::{
    Busy, CONNECT_TIMEOUT_SECONDS, Delivery, End, INFLIGHT, KEEP_ALIVE, LARGEST_INCOMING, Parcel, QUEUE,
    Ticket, Turn,
};

pub(super) fn start(settings: &LinkSettings) -> Result<(Client, Connection), TlsError> {
    let mut options = options(settings)?;
    options.set_last_will(LastWill::new(settings.topics.status(), "offline", QoS::AtLeastOnce, true));
    let (client, mut connection) = Client::new(options, QUEUE);
    connection.eventloop.network_options.set_connection_timeout(CONNECT_TIMEOUT_SECONDS);
    Ok((client, connection))
}

/// A connection's options, without a last will.
pub(in super::super) fn options(settings: &LinkSettings) -> Result<MqttOptions, TlsError> {
    let mut options = MqttOptions::new(&settings.client_id, &settings.broker.host, settings.broker.port);
    options.set_keep_alive(KEEP_ALIVE);
    // The broker keeps commands for us while we are away.
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_inflight(INFLIGHT);
    options.set_max_packet_size(LARGEST_INCOMING, settings.max_packet + 1024);
    if let Some((user, password)) = settings.credentials() {
        options.set_credentials(user, password);
    }
    if settings.broker.tls {
        options.set_transport(settings.tls.transport()?);
    }
    Ok(options)
}

pub(super) fn turn(connection: &mut Connection, settings: &LinkSettings) -> Result<Turn, End> {
    let event = connection.recv().unwrap_or(Err(ConnectionError::RequestsDone));
    let event = event.map_err(|error| end(&error, settings))?;
    Ok(match event {
        Event::Incoming(Packet::ConnAck(_)) => Turn::Connected { max_packet: None },
        Event::Incoming(Packet::SubAck(ack)) => {
            let refused = ack.return_codes.iter().enumerate();
            let refused = refused.filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure));
            Turn::Subscribed { refused: refused.map(|(place, _)| place).collect() }
        }
        Event::Incoming(Packet::Publish(publish)) => Turn::Message(Box::new(Delivery {
            topic: publish.topic.clone(),
            payload: publish.payload.to_vec(),
            reply: None,
            ticket: Ticket::V3(publish),
        })),
        Event::Incoming(Packet::PubAck(ack)) => Turn::Acknowledged { packet: ack.pkid, refusal: None },
        Event::Outgoing(Outgoing::Publish(packet)) => Turn::Sent(packet),
        _ => Turn::Other,
    })
}

pub(super) fn subscribe(client: &Client, filters: &[String]) -> Result<(), Busy> {
    let filters = filters.iter().map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Busy)
}

pub(super) fn publish(client: &Client, parcel: Parcel) -> Result<(), Busy> {
    let Parcel { topic, payload, retain, .. } = parcel;
    client.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|_| Busy)
}

fn end(error: &ConnectionError, settings: &LinkSettings) -> End {
    match error {
        ConnectionError::MqttState(StateError::Deserialization(PayloadSizeLimitExceeded(_))) => End::TooLarge,
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                End::Refused(super::not_authorised(settings))
            }
            ConnectReturnCode::BadClientId => End::Refused(super::bad_client_id(settings)),
            ConnectReturnCode::RefusedProtocolVersion => {
                End::Refused("the broker does not speak MQTT 3.1.1; try mqtt.version = 5".into())
            }
            ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => {
                super::broke(error, settings)
            }
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => End::Cut(error.to_string()),
        error => super::broke(error, settings),
    }
}
