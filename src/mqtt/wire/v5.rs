//! MQTT 5.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::Error::PayloadSizeLimitExceeded;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, Filter, LastWill, Packet, PubAckReason, Publish, PublishProperties,
    SubscribeReasonCode,
};
use rumqttc::v5::{Client, Connection, ConnectionError, Event, MqttOptions, StateError};

use super::super::settings::LinkSettings;
use super::super::tls::TlsError;
use super::{
    Busy, CONNECT_TIMEOUT_SECONDS, Delivery, End, INFLIGHT, KEEP_ALIVE, LARGEST_INCOMING, Parcel, QUEUE,
    ReplyTo, Ticket, Turn,
};

/// How long the broker keeps what may go.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Expiry {
    pub event_seconds: u32,
}

pub(super) fn start(settings: &LinkSettings) -> Result<(Client, Connection), TlsError> {
    let mut options = MqttOptions::new(&settings.client_id, &settings.broker.host, settings.broker.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_connection_timeout(CONNECT_TIMEOUT_SECONDS);
    // The broker keeps commands for us while we are away.
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(settings.session_seconds));
    options.set_manual_acks(true);
    options.set_outgoing_inflight_upper_limit(INFLIGHT);
    options.set_max_packet_size(u32::try_from(LARGEST_INCOMING).ok());
    if let Some((user, password)) = settings.credentials() {
        options.set_credentials(user, password);
    }
    if settings.broker.tls {
        options.set_transport(settings.tls.transport()?);
    }
    let will = LastWill::new(settings.topics.status(), "offline", QoS::AtLeastOnce, true, None);
    options.set_last_will(will);
    Ok(Client::new(options, QUEUE))
}

pub(super) fn turn(connection: &mut Connection, settings: &LinkSettings) -> Result<Turn, End> {
    let event = connection.recv().unwrap_or(Err(ConnectionError::RequestsDone));
    let event = event.map_err(|error| end(&error, settings))?;
    Ok(match event {
        Event::Incoming(Packet::ConnAck(ack)) => {
            let max_packet = ack.properties.and_then(|properties| properties.max_packet_size);
            Turn::Connected { max_packet: max_packet.map(|size| size as usize) }
        }
        Event::Incoming(Packet::SubAck(ack)) => {
            let refused = ack.return_codes.iter().enumerate();
            let refused = refused.filter(|(_, code)| !matches!(code, SubscribeReasonCode::Success(_)));
            Turn::Subscribed { refused: refused.map(|(place, _)| place).collect() }
        }
        Event::Incoming(Packet::Publish(publish)) => Turn::Message(Box::new(Delivery {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            reply: reply_to(&publish),
            ticket: Ticket::V5(publish),
        })),
        Event::Incoming(Packet::PubAck(ack)) => {
            let taken = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            let refusal = (!taken).then(|| format!("{:?}", ack.reason));
            Turn::Acknowledged { packet: ack.pkid, refusal }
        }
        Event::Outgoing(Outgoing::Publish(packet)) => Turn::Sent(packet),
        _ => Turn::Other,
    })
}

fn reply_to(publish: &Publish) -> Option<ReplyTo> {
    let properties = publish.properties.as_ref()?;
    let correlation = properties.correlation_data.as_ref().map(|data| data.to_vec());
    Some(ReplyTo { topic: properties.response_topic.clone()?, correlation })
}

pub(super) fn subscribe(client: &Client, filters: &[String]) -> Result<(), Busy> {
    // Our own answers need not come back to us.
    let filters =
        filters.iter().map(|topic| Filter { nolocal: true, ..Filter::new(topic.clone(), QoS::AtLeastOnce) });
    client.try_subscribe_many(filters).map_err(|_| Busy)
}

pub(super) fn publish(client: &Client, expiry: &Expiry, parcel: Parcel) -> Result<(), Busy> {
    let Parcel { topic, payload, retain, is_event, correlation } = parcel;
    let properties = PublishProperties {
        message_expiry_interval: is_event.then_some(expiry.event_seconds),
        correlation_data: correlation.map(Into::into),
        content_type: content_type(&payload).map(Into::into),
        ..PublishProperties::default()
    };
    client.try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties).map_err(|_| Busy)
}

/// Of our own payloads: reports are objects, pictures JPEGs, `online` and what clears a topic nothing of these.
fn content_type(payload: &[u8]) -> Option<&'static str> {
    match payload {
        [b'{', ..] => Some("application/json"),
        [0xff, 0xd8, ..] => Some("image/jpeg"),
        _ => None,
    }
}

fn end(error: &ConnectionError, settings: &LinkSettings) -> End {
    use ConnectReturnCode as Code;
    match error {
        ConnectionError::MqttState(
            StateError::IncomingPacketTooLarge { .. }
            | StateError::Deserialization(PayloadSizeLimitExceeded { .. }),
        ) => End::TooLarge,
        ConnectionError::ConnectionRefused(code) => match code {
            Code::BadUserNamePassword
            | Code::NotAuthorized
            | Code::Banned
            | Code::BadAuthenticationMethod => End::Refused(super::not_authorised(settings)),
            Code::BadClientId | Code::ClientIdentifierNotValid => {
                End::Refused(super::bad_client_id(settings))
            }
            Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
                End::Refused("the broker does not speak MQTT 5; try mqtt.version = 3".into())
            }
            _ => super::broke(error, settings),
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => End::Cut(error.to_string()),
        // It does not tell what it comes from.
        ConnectionError::MqttState(StateError::Deserialization(error)) => super::broke(error, settings),
        error => super::broke(error, settings),
    }
}
