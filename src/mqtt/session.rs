//! What a broker keeps for a client that is away.

use rumqttc::{Client, ConnectionError, Event, MqttOptions, Outgoing, Packet, QoS};

/// Ends the session that a broker keeps for the client of these options, with all that is queued in it,
/// and clears retained topics: one connection with a clean session, under the same name and without a
/// last will.
///
/// # Errors
/// When the broker can't be reached or refuses.
pub fn end_session(mut options: MqttOptions, retained: &[String]) -> Result<(), Box<ConnectionError>> {
    options.set_clean_session(true);
    let (client, mut connection) = Client::new(options, 4 + retained.len());
    let mut cleared = 0;
    for event in connection.iter() {
        let sent = match event.map_err(Box::new)? {
            Event::Incoming(Packet::ConnAck(_)) => retained
                .iter()
                .try_for_each(|topic| client.try_publish(topic, QoS::AtLeastOnce, true, []))
                .and_then(|()| if retained.is_empty() { client.try_disconnect() } else { Ok(()) }),
            Event::Incoming(Packet::PubAck(_)) => {
                cleared += 1;
                if cleared == retained.len() { client.try_disconnect() } else { Ok(()) }
            }
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            _ => Ok(()),
        };
        // There is room for each of them.
        sent.map_err(|_| Box::new(ConnectionError::RequestsDone))?;
    }
    Err(Box::new(ConnectionError::RequestsDone))
}
