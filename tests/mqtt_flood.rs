//! Nonsense on the command topics: malformed, huge, nested, wrongly typed, duplicate, with honest commands in
//! between. Each is answered, nothing is half done, the memory stays flat.
//!
//! `GRAFTD_PAYLOADS` asks for more (`make torture`).

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::HashMap;

use graftd::mqtt::{COMMANDS, MAX_PAYLOAD};
use graftd::store::Store;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use support::broker::{Mosquitto, PATIENCE, Watcher};
use support::service::Service;

const ROOT: &str = "graftd/test";
/// Payloads, unless `GRAFTD_PAYLOADS` says another number.
const PAYLOADS: usize = 2000;
const SEED: u64 = 20;
/// On their way at once, so that neither the broker nor this test piles them up.
const AT_ONCE: usize = 200;
/// The memory may grow by so much after the first tenth, bytes: sled's cache fills up to 16 MiB, and a
/// payload of the largest size is there a few times.
const GROWTH: u64 = 48 << 20;

/// One payload, and whether an answer has to come.
struct Attempt {
    topic: String,
    payload: Vec<u8>,
    answered_on: Option<String>,
    /// Where it is an honest label: how many boxes.
    boxes: Option<usize>,
}

/// Makes payloads of every kind for a sample that is there.
struct Nonsense {
    random: ChaCha8Rng,
    sample: String,
    made: usize,
}

impl Nonsense {
    fn next(&mut self) -> Attempt {
        self.made += 1;
        let (payload, is_echo, boxes) = self.payload();
        let random = &mut self.random;
        let odd =
            ["fly", "", "LABEL", "label ", "..", "étiquette", "state\u{202e}", "$x", "{}", "label;reboot"];
        let name = match random.random_range(0..5) {
            0 => odd.choose(random).unwrap(),
            _ => COMMANDS.choose(random).unwrap(),
        };
        // What would begin a run or keep a frame is not what is tried here.
        let name = if boxes.is_some() || matches!(*name, "train" | "capture") { "label" } else { name };
        if boxes.is_none() && random.random_ratio(1, 3) {
            let answered_on = Some(format!("{ROOT}/reply/{name}"));
            // Without a status: an answer that comes back does not look like this.
            return Attempt { topic: format!("{ROOT}/request/{name}"), payload, answered_on, boxes: None };
        }
        let id = match random.random_range(0..20) {
            0 => format!("{}-{}", "x".repeat(300), self.made),
            1 => format!("\u{1F331}{}", self.made),
            // A level of a topic may be empty.
            2 if boxes.is_none() => String::new(),
            _ => self.made.to_string(),
        };
        // An honest label needs an honest id.
        let id = if boxes.is_some() { self.made.to_string() } else { id };
        let topic = format!("{ROOT}/cmd/{name}/{id}");
        Attempt { answered_on: (!is_echo).then(|| topic.clone()), topic, payload, boxes }
    }

    /// A payload; whether it looks like an answer that came back; its boxes, where it is an honest label.
    fn payload(&mut self) -> (Vec<u8>, bool, Option<usize>) {
        let random = &mut self.random;
        let good = json!({"class": "crown", "cx": 0.5, "cy": 0.5, "w": 0.2, "h": 0.2});
        let honest = |boxes: Value| json!({"status": "init", "sample": self.sample, "boxes": boxes});
        let text = match random.random_range(0..15) {
            0 => {
                let boxes = random.random_range(0..40);
                return (honest(vec![good; boxes].into()).to_string().into(), false, Some(boxes));
            }
            1 => {
                let mut bytes = vec![0; random.random_range(1..200)];
                random.fill_bytes(&mut bytes);
                return (bytes, false, None);
            }
            2 => {
                ["[", "{\"a\":", "[[{\"b\":["].choose(random).unwrap().repeat(random.random_range(1..20_000))
            }
            3 if random.random_ratio(1, 20) => {
                let size = MAX_PAYLOAD + random.random_range(0..64 * 1024);
                honest(json!([])).to_string() + &" ".repeat(size)
            }
            4 => {
                let whole = honest(json!([good, good])).to_string();
                whole[..random.random_range(1..whole.len())].to_owned()
            }
            5 => {
                let wrong =
                    [json!(null), json!("x"), json!(1e308), json!(-1), json!([]), json!({}), json!(true)];
                let key = ["class", "cx", "cy", "w", "h", "odd"].choose(random).unwrap();
                let mut bad = good.clone();
                bad[*key] = wrong.choose(random).unwrap().clone();
                // Good boxes before and behind a bad one: none of them may be taken.
                let boxes = match key {
                    &"class" | &"odd" => json!([good, bad, good]),
                    _ => json!([good, bad]),
                };
                honest(boxes).to_string()
            }
            6 => {
                let wrong = [json!(1), json!({"a": 1})];
                let mut label = honest(json!([good]));
                label[*["sample", "boxes", "holdout", "covers"].choose(random).unwrap()] =
                    wrong.choose(random).unwrap().clone();
                label.to_string()
            }
            7 => {
                json!({"status": "init", "slot": random.random_range(-5..1_000_000_i64) * 7 + 3}).to_string()
            }
            8 => json!({"status": ["init"], "boxes": 7}).to_string(),
            9 => r#"{"status":"init","status":"init","x":1,"x":2}"#.into(),
            10 => "\u{feff}{\"status\":\"init\"} trailing".into(),
            11 => {
                let status = ["executing", "successful", "failed"].choose(random).unwrap();
                return (json!({"status": status, "x": 1}).to_string().into(), true, None);
            }
            12 => r#"{"status":"init"}"#.into(),
            13 => honest(json!([good])).to_string().replace(&self.sample, "../../x"),
            _ => format!("{{\"status\":\"init\",\"epochs\":{}}}", "9".repeat(random.random_range(1..400))),
        };
        (text.into_bytes(), false, None)
    }
}

#[test]
fn a_flood_of_nonsense_is_answered_and_changes_nothing() {
    let payloads =
        std::env::var("GRAFTD_PAYLOADS").map_or(PAYLOADS, |payloads| payloads.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path());
    let mut daemon = Service::new(folder.path());
    let mqtt = format!("broker = {:?}\ncommands_per_second = 1000000", broker.url());
    daemon.configure(&mqtt, "");
    let picture = image::RgbImage::from_pixel(64, 64, image::Rgb([40, 90, 20]));
    picture.save(folder.path().join("frames/a.png")).unwrap();
    let watcher = Watcher::start(&broker, ROOT);
    daemon.start();
    let (_, sample) = watcher.wait("a kept frame", |topic, _| topic == format!("{ROOT}/event/sample"));
    let sample = sample["sample"].as_str().unwrap().to_owned();

    let random = ChaCha8Rng::seed_from_u64(SEED);
    let mut nonsense = Nonsense { random, sample: sample.clone(), made: 0 };
    // The first honest label, to be sent again and again: it must not be taken twice.
    let mut first: Option<(String, Vec<u8>)> = None;
    // How many answers are still to come on each topic, and what the last honest label said.
    let mut open: HashMap<String, usize> = HashMap::new();
    let (mut waiting, mut sent, mut answered, mut echoes) = (0, 0, 0, 0);
    let mut last_label: Option<usize> = None;
    let mut resident = 0;
    while sent < payloads || waiting > 0 {
        while sent < payloads && waiting < AT_ONCE {
            let attempt = nonsense.next();
            watcher.publish(&attempt.topic, attempt.payload.clone());
            sent += 1;
            last_label = attempt.boxes.or(last_label);
            let Some(topic) = attempt.answered_on else {
                echoes += 1;
                continue;
            };
            *open.entry(topic).or_default() += 1;
            waiting += 1;
            if attempt.boxes.is_some() {
                first.get_or_insert((attempt.topic.clone(), attempt.payload.clone()));
            }
            let again = match nonsense.random.random_range(0..20) {
                0 => first.clone(),
                1 => Some((attempt.topic, attempt.payload)).filter(|_| attempt.boxes.is_none()),
                _ => None,
            };
            // A request has its answer on another topic.
            if let Some((topic, payload)) = again.filter(|(topic, _)| topic.contains("/cmd/")) {
                watcher.publish(&topic, payload);
                *open.entry(topic).or_default() += 1;
                (sent, waiting) = (sent + 1, waiting + 1);
            }
        }
        let Some((topic, value)) = watcher.next(PATIENCE) else {
            panic!(
                "{waiting} of {sent} wait in vain, among them {:?}",
                open.keys().take(5).collect::<Vec<_>>()
            );
        };
        if value["status"] != "failed" && value["status"] != "successful" || value.get("x").is_some() {
            continue;
        }
        if let Some(left) = open.get_mut(&topic) {
            (*left, waiting, answered) = (*left - 1, waiting - 1, answered + 1);
            if *left == 0 {
                open.remove(&topic);
            }
        }
        if resident == 0 && sent >= payloads / 10 {
            resident = daemon.resident();
        }
    }
    assert_eq!(answered + echoes, sent);
    let state = watcher.command(ROOT, "state", "the-end", json!({}))["result"].clone();
    assert_eq!((&state["samples"], &state["slot"], &state["run"]), (&json!(1), &json!(0), &Value::Null));
    let after = daemon.resident();
    println!(
        "{sent} payloads, {answered} answered, {echoes} were answers; {resident} then {after} bytes resident"
    );
    assert!(after < resident + GROWTH, "{resident} bytes became {after}");
    assert_eq!(daemon.end("-TERM"), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());

    // What the last honest label said, whole, and nothing of any other.
    let store = Store::open(&folder.path().join("state")).unwrap();
    let labels = store.samples().get(sample.parse().unwrap()).unwrap().labels.expect("labelled");
    assert_eq!(labels.boxes.len(), last_label.unwrap());
    assert_eq!(store.outbox().len(), 0);
    assert_eq!(store.commands().unsettled().unwrap(), []);
}
