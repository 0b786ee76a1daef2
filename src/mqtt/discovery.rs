//! What Home Assistant is told, so that it finds the device by itself: one retained message for all of its
//! entities, which read the topics that there are anyway.
//!
//! Formats: the MQTT integration of Home Assistant, "Device discovery payload", and the pages of the platforms
//! `sensor`, `binary_sensor`, `button`, `update` and `image`.

use serde_json::{Map, Value, json};

use super::topics::Topics;

/// A state of Home Assistant has at most 255 characters.
const WAITS_FOR: &str = "{{ (value_json.waits_for | join('; '))[:250] or 'nothing' }}";
/// No key may be null there, and none may be one that Home Assistant doesn't know.
const MODEL: &str = "{{ {'installed_version': value_json.slot | string, \
                     'latest_version': value_json.slot | string, 'title': 'Model', \
                     'release_summary': value_json.trained_on or ''} | tojson }}";
const PROBLEM: &str = "{{ 'ON' if value_json.faults or value_json.camera_trouble or \
                       value_json.storage == 'full' else 'OFF' }}";
const PROBLEM_DETAILS: &str = "{{ {'faults': value_json.faults, 'camera': value_json.camera_trouble, \
                               'storage': value_json.storage} | tojson }}";
const UNLABELLED: &str = "{{ value_json.samples - value_json.labelled - value_json.holdout }}";
const SCORE: &str = "{{ value_json.after.mAP50_95 if value_json.after else None }}";

/// What Home Assistant is told of one device.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The topics that its entities read and write.
    pub topics: Topics,
    /// What it is called there.
    pub device: String,
    /// What no other device has: its name at the broker.
    pub id: String,
    /// What Home Assistant looks below.
    pub prefix: String,
}

impl Discovery {
    /// Where the announcement goes.
    pub fn topic(&self) -> String {
        // A name may have a point, this part of the topic may not.
        const POINT: &str = "_dot_";
        let mut object = self.id.replace('.', POINT);
        if self.id.contains(POINT) {
            // Another device's name may have a point there.
            object += &format!("-{:08x}", crc32fast::hash(self.id.as_bytes()));
        }
        format!("{}/device/{object}/config", self.prefix)
    }

    /// Where Home Assistant says that it has started: `online`.
    pub fn birth_topic(prefix: &str) -> String {
        format!("{prefix}/status")
    }

    /// The announcement. Buttons are there for what is allowed; the last kept frame where there is a picture of it.
    pub fn announcement(&self, is_allowed: impl Fn(&str) -> bool, has_image: bool) -> Value {
        let mut entities = self.sensors();
        entities.extend(self.alarms());
        let buttons = [
            ("train", "Train", "mdi:school"),
            ("capture", "Capture", "mdi:camera"),
            ("rollback", "Roll back", "mdi:undo"),
        ];
        for (command, name, icon) in buttons {
            let button = json!({
                "name": name, "icon": icon, "payload_press": "{}", "qos": 1,
                "command_topic": self.topics.request(command),
            });
            entities.push((command, "button", is_allowed(command).then_some(button)));
        }
        entities.push((
            "model",
            "update",
            Some(json!({
                "name": "Model", "icon": "mdi:head-snowflake", "state_topic": self.topics.model(),
                "value_template": MODEL,
            })),
        ));
        let image = json!({
            "name": "Last kept frame", "image_topic": self.topics.image(), "content_type": "image/jpeg",
        });
        entities.push(("image", "image", has_image.then_some(image)));

        let mut components = Map::new();
        for (name, platform, entity) in entities {
            // One with a platform alone takes back what was there before.
            let mut component = entity.unwrap_or(Value::Null);
            if !component.is_null() {
                component["unique_id"] = format!("{}_{name}", self.id).into();
            }
            component["p"] = platform.into();
            components.insert(name.into(), component);
        }
        let version = env!("CARGO_PKG_VERSION");
        json!({
            "dev": {"ids": [self.id], "name": self.device, "mf": "graftd", "mdl": "graftd", "sw": version},
            "o": {"name": "graftd", "sw": version},
            "availability": [{"topic": self.topics.status()}],
            "qos": 1,
            "cmps": components,
        })
    }

    /// Numbers and words: name, platform and the rest.
    fn sensors(&self) -> Vec<(&'static str, &'static str, Option<Value>)> {
        let (state, model) = (self.topics.state(), self.topics.model());
        let sensor = |name: &str, topic: &str, template: &str, others: Value| {
            let mut sensor = json!({"name": name, "state_topic": topic, "value_template": template});
            let (Value::Object(sensor_keys), Value::Object(others)) = (&mut sensor, others) else {
                return Some(sensor);
            };
            sensor_keys.extend(others);
            Some(sensor)
        };
        let count = |icon: &str| json!({"state_class": "measurement", "icon": icon});
        vec![
            (
                "map50_95",
                "sensor",
                sensor(
                    "Hold-out mAP50-95",
                    &model,
                    SCORE,
                    json!({"state_class": "measurement", "icon": "mdi:target", "suggested_display_precision": 3}),
                ),
            ),
            (
                "samples",
                "sensor",
                sensor("Samples", &state, "{{ value_json.samples }}", count("mdi:image-multiple")),
            ),
            (
                "labelled",
                "sensor",
                sensor(
                    "Labelled samples",
                    &state,
                    "{{ value_json.labelled + value_json.holdout }}",
                    count("mdi:tag-multiple"),
                ),
            ),
            (
                "unlabelled",
                "sensor",
                sensor("Samples waiting for labels", &state, UNLABELLED, count("mdi:tag-off")),
            ),
            (
                "waits_for",
                "sensor",
                sensor("Next run waits for", &state, WAITS_FOR, json!({"icon": "mdi:timer-sand"})),
            ),
            (
                "temperature",
                "sensor",
                sensor(
                    "Temperature",
                    &state,
                    "{{ value_json.temperature }}",
                    json!({
                        "state_class": "measurement", "device_class": "temperature",
                        "unit_of_measurement": "°C", "entity_category": "diagnostic",
                    }),
                ),
            ),
            (
                "camera",
                "sensor",
                sensor(
                    "Camera",
                    &state,
                    "{{ value_json.camera }}",
                    json!({
                        "device_class": "enum", "options": ["on", "away", "off"], "icon": "mdi:cctv",
                        "entity_category": "diagnostic",
                    }),
                ),
            ),
            (
                "frames",
                "sensor",
                sensor(
                    "Frames",
                    &state,
                    "{{ value_json.frames }}",
                    json!({
                        "state_class": "total_increasing", "icon": "mdi:filmstrip",
                        "entity_category": "diagnostic",
                    }),
                ),
            ),
            (
                "outbox",
                "sensor",
                sensor(
                    "Outbox",
                    &state,
                    "{{ value_json.outbox }}",
                    json!({
                        "state_class": "measurement", "icon": "mdi:tray-full",
                        "entity_category": "diagnostic",
                    }),
                ),
            ),
        ]
    }

    /// What is so or not: name, platform and the rest.
    fn alarms(&self) -> Vec<(&'static str, &'static str, Option<Value>)> {
        let state = self.topics.state();
        let problem = json!({
            "name": "Problem", "device_class": "problem", "state_topic": state, "value_template": PROBLEM,
            "json_attributes_topic": state, "json_attributes_template": PROBLEM_DETAILS,
        });
        let running = json!({
            "name": "Run", "device_class": "running", "state_topic": state,
            "value_template": "{{ 'ON' if value_json.run else 'OFF' }}",
        });
        vec![("problem", "binary_sensor", Some(problem)), ("run", "binary_sensor", Some(running))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Home Assistant takes letters, digits, `_` and `-` in that part of the topic.
    #[test]
    fn the_announcements_topic_is_one_that_is_listened_to() {
        let discovery = Discovery {
            topics: Topics::new("graftd/barn.7"),
            device: "barn.7".into(),
            id: "graftd-barn.7".into(),
            prefix: "homeassistant".into(),
        };
        assert_eq!(discovery.topic(), "homeassistant/device/graftd-barn_dot_7/config");
        let other = Discovery { id: "graftd-barn_dot_7".into(), ..discovery.clone() };
        assert_ne!(other.topic(), discovery.topic());
        let all = discovery.announcement(|_| true, true);
        let ids: Vec<&Value> =
            all["cmps"].as_object().expect("entities").values().map(|e| &e["unique_id"]).collect();
        assert!(
            ids.iter().all(|id| id.as_str().is_some_and(|id| id.starts_with("graftd-barn.7_"))),
            "{ids:?}"
        );
    }
}
