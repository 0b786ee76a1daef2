//! Home Assistant: the announcement, its answer to "I have started", and a small picture of the last kept frame.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::mqtt::{Discovery, Topics};
use crate::picture::Picture;
use crate::store::StoreError;

use super::core::Core;

/// Between two pictures at least so long.
const PICTURE_EVERY: Duration = Duration::from_secs(10);
/// The longer side, pixels.
const SIDE: u32 = 320;
/// Below this a picture shows nothing.
const LEAST_SIDE: u32 = 40;
const QUALITY: u8 = 75;

/// What is kept for Home Assistant, where it is to be told.
pub(super) struct HomeAssistant {
    discovery: Discovery,
    enabled: bool,
    image: bool,
    /// The last kept frame, small, until it is given out.
    waiting: Option<Picture>,
    shown: Option<Instant>,
}

impl HomeAssistant {
    pub fn new(config: &Config, topics: &Topics) -> Self {
        let settings = &config.homeassistant;
        HomeAssistant {
            discovery: Discovery {
                topics: topics.clone(),
                device: config.device.clone(),
                id: config.client_id(),
                prefix: settings.prefix.clone(),
            },
            enabled: settings.enabled,
            image: settings.enabled && settings.image,
            waiting: None,
            shown: None,
        }
    }

    /// Whether this says that Home Assistant has started.
    pub fn is_birth(&self, topic: &str, payload: &[u8]) -> bool {
        self.enabled && payload == b"online" && topic == Discovery::birth_topic(&self.discovery.prefix)
    }

    /// A frame was kept.
    pub fn kept(&mut self, picture: &Picture) {
        if self.image {
            self.waiting = Some(picture.within(SIDE));
        }
    }

    /// When the picture that waits may go out.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.as_ref()?;
        Some(self.shown.map_or_else(Instant::now, |shown| shown + PICTURE_EVERY))
    }

    /// The retained topics that are written only for Home Assistant.
    fn wanted(&self) -> Vec<String> {
        let announcement = self.enabled.then(|| self.discovery.topic());
        announcement.into_iter().chain(self.image.then(|| self.discovery.topics.image())).collect()
    }
}

impl Core {
    /// Announces the device, or takes back what an earlier life has announced and this one does not.
    pub(super) fn announce(&mut self) -> Result<(), StoreError> {
        let wanted = self.homeassistant.wanted();
        let mut known = self.store.announced()?;
        let news: Vec<String> = wanted.iter().filter(|topic| !known.contains(topic)).cloned().collect();
        if !news.is_empty() {
            known.extend(news);
            // Before the broker has them: what is forgotten stays there for ever.
            self.store.set_announced(&known)?;
        }
        // At each connection: nobody tells whether the broker was there when it was first done.
        for topic in known.into_iter().filter(|topic| !wanted.contains(topic)) {
            self.publish_fact(&topic, &[]);
        }
        if self.homeassistant.enabled {
            let discovery = &self.homeassistant.discovery;
            let says =
                discovery.announcement(|command| self.forbids(command).is_none(), self.homeassistant.image);
            let payload = serde_json::to_vec(&says).expect("plain objects can be written");
            self.publish_fact(&discovery.topic(), &payload);
        }
        Ok(())
    }

    /// Home Assistant has started: it gets the announcement again.
    pub(super) fn announce_again(&mut self) {
        self.facts.again(&self.homeassistant.discovery.topic());
        self.wake_link();
    }

    /// Gives out the picture of the last kept frame.
    pub(super) fn show_last_kept(&mut self) {
        let home = &mut self.homeassistant;
        let Some(mut picture) = home.waiting.take() else { return };
        home.shown = Some(Instant::now());
        let topic = home.discovery.topics.image();
        let most = self.config.mqtt.max_packet.saturating_sub(topic.len());
        loop {
            match picture.to_jpeg(QUALITY) {
                Ok(bytes) if bytes.len() <= most => {
                    // Nothing for those who listen at the API: it is no text, and they can ask for the frame.
                    self.facts.set(&topic, &bytes);
                    self.wake_link();
                    return;
                }
                Ok(_) if picture.width().max(picture.height()) > LEAST_SIDE => {
                    picture = picture.within(picture.width().max(picture.height()) / 2);
                }
                Ok(_) => return tracing::debug!("no picture fits into mqtt.max_packet"),
                Err(error) => return tracing::warn!("the last kept frame can't be shown: {error}"),
            }
        }
    }
}
