//! What is given to the broker: facts that are due, then the outbox in order.

use std::time::Duration;

use crate::store::StoreError;

use super::super::flight::Item;
use super::super::wire::Parcel;
use super::{Shared, State};

/// Messages on their way at once.
const WINDOW: usize = 16;

impl Shared {
    pub(super) fn keep_publishing(&self) {
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
        let most = self.settings.max_packet.min(state.broker_takes.unwrap_or(usize::MAX));
        if let Some((topic, payload)) = self.facts.next_due() {
            let size = topic.len() + payload.len();
            if size > most {
                tracing::error!("{topic} has {size} bytes, above mqtt.max_packet; it is not published");
                self.facts.given(&topic, &payload);
                return Ok(true);
            }
            let parcel = Parcel {
                topic: topic.clone(),
                payload: payload.clone(),
                retain: true,
                is_event: false,
                correlation: None,
            };
            if client.publish(parcel).is_err() {
                return Ok(false);
            }
            self.facts.given(&topic, &payload);
            state.flight.hand_over(Item::Fact(topic));
            return Ok(true);
        }
        let Some((id, message)) = self.store.outbox().next(state.flight.last())? else { return Ok(false) };
        let size = message.topic.len() + message.payload.len();
        if size > most {
            tracing::error!(
                "a message of {size} bytes for {} is above mqtt.max_packet or what the broker takes ({most}); it \
                 is set aside",
                message.topic,
            );
            self.store.outbox().set_aside(id)?;
            return Ok(true);
        }
        let parcel = Parcel {
            topic: message.topic,
            payload: message.payload,
            retain: false,
            is_event: message.droppable,
            correlation: message.correlation,
        };
        if client.publish(parcel).is_err() {
            return Ok(false);
        }
        state.flight.hand_over(Item::Message(id));
        Ok(true)
    }
}
