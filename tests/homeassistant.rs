//! Home Assistant finds the device by itself: what it is told has the form that its documentation asks for, each
//! entity reads what the daemon really publishes, buttons do what they say, and nothing is left when it is off.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use graftd::picture::Picture;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value, json};
use support::broker::{Mosquitto, PATIENCE, Watcher};
use support::device::{Device, ROOT, is_online};

const CONFIG: &str = "homeassistant/device/graftd-test/config";
const ENABLED: &str = "[homeassistant]\nenabled = true\n";

/// What each platform must have, and what else it may have of what is used here (Home Assistant's pages of the
/// MQTT platforms; an entity of a device has a platform and an id in any case).
const PLATFORMS: [(&str, &[&str], &[&str]); 5] = [
    (
        "sensor",
        &["state_topic"],
        &[
            "value_template",
            "state_class",
            "device_class",
            "unit_of_measurement",
            "options",
            "suggested_display_precision",
        ],
    ),
    (
        "binary_sensor",
        &["state_topic"],
        &["value_template", "device_class", "json_attributes_topic", "json_attributes_template"],
    ),
    ("button", &["command_topic"], &["payload_press", "qos"]),
    ("update", &["state_topic"], &["value_template"]),
    ("image", &["image_topic"], &["content_type"]),
];
const OF_ALL: [&str; 5] = ["p", "unique_id", "name", "icon", "entity_category"];

/// The entities by name, checked for form. Those that are taken back have a platform alone.
fn entities(config: &Value) -> Map<String, Value> {
    let keys: BTreeSet<&str> = config.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["availability", "cmps", "dev", "o", "qos"]));
    assert!(config["dev"]["ids"][0].is_string() && config["dev"]["name"].is_string());
    assert!(config["o"]["name"].is_string());
    assert_eq!(config["availability"], json!([{"topic": format!("{ROOT}/status")}]));
    let entities = config["cmps"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for (name, entity) in entities {
        let entity = entity.as_object().unwrap();
        let platform = entity["p"].as_str().unwrap();
        let (_, required, optional) = PLATFORMS.iter().find(|(known, ..)| *known == platform).unwrap();
        if entity.len() == 1 {
            continue;
        }
        assert!(ids.insert(entity["unique_id"].as_str().unwrap()), "{name}");
        assert!(required.iter().all(|key| entity[*key].is_string()), "{name}");
        for key in entity.keys().map(String::as_str) {
            assert!(
                [required, optional, &&OF_ALL[..]].iter().any(|keys| keys.contains(&key)),
                "{name}: {key}"
            );
        }
        // An enum has options and neither class nor unit; a unit says what a class measures.
        let is_enum = entity.get("device_class") == Some(&json!("enum"));
        assert_eq!(entity.contains_key("options"), is_enum, "{name}");
        assert!(!is_enum || !entity.contains_key("state_class"), "{name}");
    }
    entities.clone()
}

/// What a template makes of a payload. A path that is not there is an error.
fn render(template: &Value, payload: &Value) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let template = template.as_str().unwrap();
    let text = environment.render_str(template, json!({"value_json": payload}));
    text.unwrap_or_else(|error| panic!("{template} with {payload}: {error}"))
}

/// What Home Assistant shows of each entity that has a state.
fn states(entities: &Map<String, Value>, retained: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for (name, entity) in entities {
        let Some(topic) = entity["state_topic"].as_str() else { continue };
        let payload = retained.get(topic).unwrap_or_else(|| panic!("{name}: nobody writes {topic}"));
        let state = render(&entity["value_template"], payload);
        match entity["p"].as_str().unwrap() {
            "binary_sensor" => assert!(state == "ON" || state == "OFF", "{name}: {state}"),
            "update" => {
                let update: Map<String, Value> = serde_json::from_str(&state).unwrap();
                let known = ["installed_version", "latest_version", "title", "release_summary"];
                assert!(update.iter().all(|(key, value)| known.contains(&&**key) && value.is_string()));
            }
            // An unknown value is told as None.
            _ if entity["state_class"].is_string() => {
                assert!(state.to_lowercase() == "none" || state.parse::<f64>().is_ok(), "{name}: {state}");
            }
            _ if entity["options"].is_array() => {
                assert!(entity["options"].as_array().unwrap().contains(&json!(state)), "{name}: {state}");
            }
            _ => assert!(!state.is_empty() && state.chars().count() <= 255, "{name}: {state}"),
        }
        if let Some(template) = entity.get("json_attributes_template") {
            assert_eq!(entity["json_attributes_topic"], entity["state_topic"], "{name}");
            serde_json::from_str::<Map<String, Value>>(&render(template, payload)).unwrap();
        }
        states.insert(name.clone(), state);
    }
    states
}

/// What is retained below the root now.
fn retained(broker: &Mosquitto) -> BTreeMap<String, Value> {
    let newcomer = Watcher::start(broker, ROOT);
    let mut retained = BTreeMap::new();
    newcomer.wait("state and model", |topic, value| {
        retained.insert(topic.to_owned(), value.clone());
        ["state", "model"].iter().all(|name| retained.contains_key(&format!("{ROOT}/{name}")))
    });
    retained
}

fn announced(home: &Watcher) -> Value {
    home.wait("the announcement", |topic, value| topic == CONFIG && value.is_object()).1
}

/// Presses a button as Home Assistant does; the answer.
fn press(watcher: &Watcher, button: &Value) -> Value {
    let topic = button["command_topic"].as_str().unwrap();
    watcher.publish(topic, button["payload_press"].as_str().unwrap());
    let reply = topic.replace("/request/", "/reply/");
    watcher.wait("the button's answer", |topic, _| topic == reply).1
}

/// All that came until now.
fn rest(home: &Watcher) -> Vec<(String, Value)> {
    home.publish("homeassistant/sentinel", "x");
    let mut found = Vec::new();
    home.wait("the sentinel", |topic, value| {
        found.push((topic.to_owned(), value.clone()));
        topic.ends_with("/sentinel")
    });
    found.pop();
    found
}

#[test]
fn entities_read_what_the_daemon_writes_and_buttons_do_what_they_say() {
    let train = "epochs = 60\nlr = 0.01\npatience = 0\nviews = 4\n";
    let mut device = Device::new(24, 8, &format!("{train}{ENABLED}"));
    let home = Watcher::start(&device.broker, "homeassistant");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    watcher.wait("the daemon to be online", is_online);
    let entities = entities(&announced(&home));
    device.label_all(&watcher);

    let now = retained(&device.broker);
    let before = states(&entities, &now);
    let state = &now[&format!("{ROOT}/state")];
    assert_eq!(before["samples"], "32");
    assert_eq!(before["labelled"], "32");
    assert_eq!(before["unlabelled"], "0");
    assert_eq!(before["map50_95"].to_lowercase(), "none");
    assert_eq!(before["camera"], state["camera"].as_str().unwrap());
    assert_eq!((&*before["problem"], &*before["run"]), ("OFF", "OFF"));
    assert!(before["model"].contains("\"installed_version\":\"0\""), "{}", before["model"]);

    // The folder has no more frames: that is what the button's answer says.
    let capture = press(&watcher, &entities["capture"]);
    assert!(capture["reason"].as_str().unwrap().contains("camera"), "{capture}");

    let ended = press(&watcher, &entities["train"]);
    assert_eq!(ended["result"]["promoted"], true, "{ended}");
    watcher.wait("the state without a run", |topic, value| {
        topic == format!("{ROOT}/state") && value["slot"] == 1 && value["run"].is_null()
    });
    let after = states(&entities, &retained(&device.broker));
    let score: f64 = after["map50_95"].parse().unwrap();
    assert!((score - ended["result"]["after"]["mAP50_95"].as_f64().unwrap()).abs() < 1e-9);
    assert!(after["model"].contains("\"latest_version\":\"1\""), "{}", after["model"]);

    let back = press(&watcher, &entities["rollback"]);
    assert_eq!(back["result"]["slot"], 0, "{back}");
    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());
}

#[test]
fn it_is_told_again_and_everything_is_gone_when_it_is_off() {
    let mut device = watching(640, 480);
    device.daemon.configure(&mqtt(&device, ""), ENABLED);
    let home = Watcher::start(&device.broker, "homeassistant");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let entities = entities(&announced(&home));

    // The button keeps a frame, and a picture of it comes.
    let kept = press(&watcher, &entities["capture"]);
    assert!(kept["result"]["sample"].is_string(), "{kept}");
    let pictures = Watcher::start(&device.broker, ROOT);
    let topic = entities["image"]["image_topic"].as_str().unwrap();
    let picture = loop {
        let (found, bytes) = pictures.next_bytes(PATIENCE).expect("a picture");
        if found == topic {
            break Picture::decode(&bytes).unwrap();
        }
    };
    assert_eq!(picture.width().max(picture.height()), 320);

    // Only `online` is a birth.
    home.publish("homeassistant/status", "offline");
    watcher.command(ROOT, "state", "s1", json!({}));
    assert!(rest(&home).iter().all(|(topic, _)| topic != CONFIG));
    home.publish("homeassistant/status", "online");
    announced(&home);

    // A broker that has lost it gets it at the next connection.
    let clear = |topic: &str| home.client.publish(topic, rumqttc::QoS::AtLeastOnce, true, "").unwrap();
    clear(CONFIG);
    home.wait("the topic to be clear", |topic, value| topic == CONFIG && value == "");
    device.broker.restart();
    announced(&home);

    // Off again: cleared, and nothing comes any more.
    device.end("-KILL");
    device.daemon.configure(&mqtt(&device, ""), "");
    device.start();
    home.wait("the topic to be clear", |topic, value| topic == CONFIG && value == "");
    watcher.wait("the picture to be gone", |found, value| found == topic && value == "");
    home.publish("homeassistant/status", "online");
    watcher.command(ROOT, "capture", "c2", json!({}));
    let newcomer = Watcher::start(&device.broker, "homeassistant");
    assert!(rest(&newcomer).iter().all(|(topic, _)| topic != CONFIG));
    let found: BTreeSet<String> = retained(&device.broker).into_keys().collect();
    assert!(!found.contains(topic), "{found:?}");
    assert_eq!(device.end("-TERM"), Some(0), "{}", device.log());
}

#[test]
fn what_is_not_allowed_has_no_button_and_what_is_not_asked_for_is_not_told() {
    let mut device = watching(640, 480);
    device.daemon.configure(
        &mqtt(&device, "commands = [\"capture\", \"state\", \"train\"]\n"),
        "allow_remote = false\n[homeassistant]\nenabled = true\nprefix = \"home/a\"\nimage = false\n",
    );
    let home = Watcher::start(&device.broker, "home/a");
    let watcher = Watcher::start(&device.broker, ROOT);
    device.start();
    let topic = "home/a/device/graftd-test/config";
    let (_, config) = home.wait("the announcement", |found, _| found == topic);
    let entities = entities(&config);
    assert!(entities["capture"]["command_topic"].is_string());
    for (name, platform) in [("train", "button"), ("rollback", "button"), ("image", "image")] {
        assert_eq!(entities[name], json!({"p": platform}), "{name}");
    }
    let kept = press(&watcher, &entities["capture"]);
    assert!(kept["result"]["sample"].is_string(), "{kept}");
    watcher.command(ROOT, "state", "s1", json!({}));
    let image = format!("{ROOT}/image");
    while let Some((topic, _)) = watcher.next(Duration::ZERO) {
        assert_ne!(topic, image);
    }

    // Allowed after all, while it runs.
    device.daemon.configure(
        &mqtt(&device, "commands = [\"capture\", \"state\", \"train\"]\n"),
        "[homeassistant]\nenabled = true\nprefix = \"home/a\"\nimage = false\n",
    );
    let hup = std::process::Command::new("kill").args(["-HUP", &device.daemon.id().to_string()]).status();
    assert!(hup.unwrap().success());
    home.wait("the button", |found, config| {
        found == topic && config["cmps"]["train"]["command_topic"] == format!("{ROOT}/request/train")
    });
    device.end("-KILL");

    // Another device, which nobody has told of Home Assistant.
    device.daemon.configure(&mqtt(&device, "root = \"other\""), "");
    std::fs::remove_dir_all(device.path("state")).unwrap();
    let all = Watcher::start(&device.broker, "homeassistant");
    let other = Watcher::start(&device.broker, "other");
    device.start();
    other.wait("the daemon to be online", |topic, value| topic == "other/status" && value == "online");
    let kept = other.command("other", "capture", "c1", json!({}));
    assert_eq!(kept["status"], "successful", "{kept}");
    assert_eq!(rest(&all), []);
    let (_, state) = other.wait("the state", |topic, _| topic == "other/state");
    assert!(state.is_object());
    while let Some((topic, _)) = other.next(Duration::ZERO) {
        assert_ne!(topic, "other/image");
    }
}

/// A device whose camera has a frame of this size whenever it is asked.
fn watching(width: u32, height: u32) -> Device {
    let mut device = Device::new(1, 1, "");
    for frame in std::fs::read_dir(device.path("frames")).unwrap() {
        std::fs::remove_file(frame.unwrap().path()).unwrap();
    }
    Picture::filled(width, height, [90, 120, 60]).save(&device.path("frames/field.jpg")).unwrap();
    let environment = [("GRAFTD_CAMERA__REPEAT", "true"), ("GRAFTD_CAMERA__FPS", "5.0")];
    device.environment = environment.map(|(name, value)| (name.into(), value.into())).to_vec();
    device
}

/// A configuration's `[mqtt]`; `more` goes into that table too.
fn mqtt(device: &Device, more: &str) -> String {
    format!("broker = {:?}\n{more}", device.broker.url())
}
