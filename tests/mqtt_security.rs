//! The link against a broker that demands TLS client certificates and keeps access lists: who may, gets
//! through; who may not, is told why and goes on trying; a secret is seen nowhere.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::authority::Authority;
use support::broker::{Mosquitto, Watcher, free_port, wait_until};
use support::service::Service;

const ROOT: &str = "graftd/test";

/// A farm: a broker that demands certificates of its authority, a listener without TLS for watchers.
struct Farm {
    // Dropped first: it writes into the folder.
    daemon: Service,
    broker: Mosquitto,
    authority: Authority,
    /// Port of the listener without TLS.
    inside: u16,
    folder: tempfile::TempDir,
}

impl Farm {
    /// `access` are lines of the access list for the client whose certificate is for `device`.
    fn new(access: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "farm");
        let (certificate, key) = authority.sign("broker", "localhost");
        let inside = free_port();
        let list = folder.path().join("access");
        // What stands before the first user is for those without one: the watchers.
        std::fs::write(&list, format!("topic readwrite #\n\nuser device\n{access}\n")).unwrap();
        let text = |path: &Path| path.display().to_string();
        let settings = format!(
            "max_queued_messages 100000\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
             listener {inside} 127.0.0.1\nallow_anonymous true\nacl_file {}\n",
            text(&authority.certificate),
            text(&certificate),
            text(&key),
            text(&list)
        );
        let broker = Mosquitto::with(folder.path(), &settings);
        let daemon = Service::new(folder.path());
        Farm { daemon, broker, authority, inside, folder }
    }

    /// The `[mqtt]` table: TLS with these files, as they lie in the folder.
    fn configure(&self, ca: &str, client: Option<&str>, extra: &str) {
        let mut mqtt = format!("broker = \"mqtts://localhost:{}\"\nca_file = {ca:?}\n", self.broker.port);
        if let Some(name) = client {
            mqtt += &format!("client_cert = \"{name}.crt\"\nclient_key = \"{name}.key\"\n");
        }
        self.daemon.configure(&(mqtt + extra), "");
    }

    fn watcher(&self) -> Watcher {
        Watcher::at(self.inside, ROOT)
    }

    fn logs(&mut self, words: &str) {
        self.logs_one_of(&[words]);
    }

    fn logs_one_of(&mut self, words: &[&str]) {
        let daemon = &mut self.daemon;
        let is_there = |log: String| words.iter().any(|words| log.contains(words));
        wait_until(&format!("the log has {words:?}"), || is_there(daemon.log()) || !daemon.is_alive());
        assert!(self.daemon.is_alive(), "it goes on trying: {}", self.daemon.log());
    }
}

fn is_online(topic: &str, value: &Value) -> bool {
    topic == format!("{ROOT}/status") && value == "online"
}

#[test]
fn a_client_certificate_lets_the_device_in() {
    for version in [3, 5] {
        let mut farm = Farm::new("topic readwrite graftd/test/#");
        farm.authority.sign("device", "device");
        farm.configure("farm.pem", Some("device"), &format!("version = {version}"));
        let watcher = farm.watcher();
        farm.daemon.start();
        watcher.wait("the daemon to be online", is_online);
        assert_eq!(watcher.command(ROOT, "state", "1", json!({}))["status"], "successful");
        // The will is the broker's last word on it.
        farm.daemon.end("-KILL");
        watcher.wait("offline", |topic, value| topic == format!("{ROOT}/status") && value == "offline");
    }
}

#[test]
fn a_device_is_looked_at_from_afar_over_tls() {
    let mut farm = Farm::new("topic readwrite graftd/test/#\n\nuser farmer\ntopic read graftd/test/#");
    for name in ["device", "farmer"] {
        farm.authority.sign(name, name);
    }
    farm.configure("farm.pem", Some("device"), "");
    let watcher = farm.watcher();
    farm.daemon.start();
    watcher.wait("the daemon to be online", is_online);
    let broker = format!("mqtts://localhost:{}", farm.broker.port);
    let status = |more: &[&str]| {
        let mut command = support::graftd();
        command.current_dir(farm.folder.path()).args(["status", "--device", "test", "--broker", &broker]);
        let output = command.args(more).output().unwrap();
        let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.success(), words.concat())
    };
    let ours = ["--client-cert", "farmer.crt", "--client-key", "farmer.key"];
    let (is_good, page) = status(&[&["--ca-file", "farm.pem"], &ours[..]].concat());
    assert!(is_good && page.contains("slot 0"), "{page}");
    for (more, words) in [
        (vec!["--ca-file", "farm.pem"], "--client-cert"),
        (ours.to_vec(), "--ca-file"),
        (vec!["--ca-file", "nobody.pem"], "--ca-file nobody.pem"),
    ] {
        let (is_good, said) = status(&more);
        assert!(!is_good && said.contains(words) && !said.contains("mqtt."), "{more:?}: {said}");
    }
}

#[test]
fn what_is_wrong_with_certificates_is_told_and_mended_without_a_restart() {
    for version in [3, 5] {
        let mut farm = Farm::new("topic readwrite graftd/test/#");
        let version = format!("version = {version}");
        farm.authority.sign("device", "device");
        farm.authority.sign_until("expired", "device", 2021);
        let stranger = Authority::new(farm.folder.path(), "stranger");
        stranger.sign("unknown", "device");
        let ours = farm.folder.path().to_owned();
        let copy = |from: &str, to: &str| {
            std::fs::copy(ours.join(from), ours.join(to)).unwrap();
        };

        // A broker of another authority.
        copy("stranger.pem", "ca.pem");
        farm.configure("ca.pem", Some("device"), &version);
        let watcher = farm.watcher();
        farm.daemon.start();
        farm.logs("signed by nobody who is trusted by mqtt.ca_file");
        copy("farm.pem", "ca.pem");
        watcher.wait("the daemon to be online", is_online);
        farm.daemon.end("-TERM");

        // A certificate that has expired, then one of another authority.
        copy("expired.crt", "client.crt");
        copy("expired.key", "client.key");
        farm.configure("farm.pem", Some("client"), &version);
        farm.daemon.start();
        // What the broker says may be lost when it closes.
        let perhaps = "perhaps it refuses the client certificate";
        farm.logs_one_of(&["client.crt has expired", perhaps]);
        copy("unknown.crt", "client.crt");
        copy("unknown.key", "client.key");
        farm.logs_one_of(&["client.crt (UnknownCA)", perhaps]);
        copy("device.crt", "client.crt");
        copy("device.key", "client.key");
        watcher.wait("the daemon to be online", is_online);
        farm.daemon.end("-TERM");

        // None.
        farm.configure("farm.pem", None, &version);
        farm.daemon.start();
        farm.logs("set mqtt.client_cert");
        farm.daemon.end("-TERM");
    }
}

#[test]
fn the_brokers_certificate_must_be_for_its_name() {
    let mut farm = Farm::new("");
    farm.authority.sign("device", "device");
    // The same machine under an address that the certificate is not for.
    let mqtt = format!(
        "broker = \"mqtts://127.0.0.1:{}\"\nca_file = \"farm.pem\"\nclient_cert = \"device.crt\"\n\
         client_key = \"device.key\"",
        farm.broker.port
    );
    farm.daemon.configure(&mqtt, "");
    farm.daemon.start();
    farm.logs("is not for \"127.0.0.1\"");
}

#[test]
fn a_file_of_tls_that_cant_be_used_ends_the_start() {
    let mut farm = Farm::new("");
    let (certificate, _) = farm.authority.sign("device", "device");
    let (_, key) = farm.authority.sign("other", "device");
    std::fs::copy(key, certificate.with_extension("key")).unwrap();
    farm.configure("farm.pem", Some("device"), "");
    farm.daemon.start();
    wait_until("it has ended", || !farm.daemon.is_alive());
    let log = farm.daemon.log();
    assert!(log.contains("mqtt.client_key") && log.contains("is it the key of mqtt.client_cert?"), "{log}");
}

#[test]
fn a_forbidden_topic_does_not_hold_up_the_others() {
    for version in [3, 5] {
        let mut farm = Farm::new("topic readwrite graftd/test/#\ntopic deny graftd/test/event/sample");
        farm.authority.sign("device", "device");
        farm.configure("farm.pem", Some("device"), &format!("version = {version}"));
        let frames = farm.folder.path().join("frames");
        for index in 0..40_u8 {
            let picture = image::RgbImage::from_pixel(64, 64, image::Rgb([index * 6, 90, 20]));
            picture.save(frames.join(format!("{index:02}.png"))).unwrap();
        }
        let watcher = farm.watcher();
        farm.daemon.start();
        watcher.wait("the daemon to be online", is_online);
        let state = |id: &str| watcher.command(ROOT, "state", id, json!({}))["result"].clone();
        let mut tries = 0;
        wait_until("the outbox is empty", || {
            tries += 1;
            let state = state(&tries.to_string());
            // The answer that is on its way is one of the messages.
            state["samples"] == 40 && state["outbox"].as_u64().unwrap() <= 1
        });
        // MQTT 3.1.1 has no way to say that a message was refused.
        let aside = state("last")["set_aside"].as_u64().unwrap();
        assert_eq!(aside, if version == 5 { 40 } else { 0 });
        let told = farm.daemon.log().matches("refuses a message (NotAuthorized)").count();
        assert_eq!(told, usize::from(version == 5), "{}", farm.daemon.log());
    }
}

#[test]
fn user_and_password_come_from_credentials_and_are_seen_nowhere() {
    const USER: &str = "user-that-nobody-sees";
    const PASSWORD: &str = "password-that-nobody-sees";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut made = Command::new("mosquitto_passwd");
    assert!(made.arg("-b").arg("-c").arg(path("users")).args([USER, PASSWORD]).status().unwrap().success());
    // Whoever names no user may come in and watch.
    let settings = format!("allow_anonymous true\npassword_file {}\n", path("users").display());
    let broker = Mosquitto::with(folder.path(), &settings);
    let credentials = path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("mqtt-user"), format!("{USER}\n")).unwrap();
    std::fs::write(credentials.join("mqtt-password"), format!("{PASSWORD}\n")).unwrap();

    let mut daemon = Service::new(folder.path());
    let mqtt = format!(
        "broker = \"mqtt://127.0.0.1:{}\"\nusername_file = \"mqtt-user\"\npassword_file = \"mqtt-password\"",
        broker.port
    );
    daemon.configure(&mqtt, "");
    let watcher = Watcher::start(&broker, ROOT);
    let start = |daemon: &mut Service| {
        daemon.start_with(|command| {
            command.env("CREDENTIALS_DIRECTORY", &credentials).env("RUST_LOG", "trace")
        });
    };
    start(&mut daemon);
    let mut seen = Vec::new();
    watcher.wait("the daemon to be online", |topic, value| {
        seen.push(format!("{topic} {value}"));
        is_online(topic, value)
    });
    watcher.publish(&format!("{ROOT}/cmd/state/1"), r#"{"status":"init"}"#);
    watcher.wait("an answer", |topic, value| {
        seen.push(format!("{topic} {value}"));
        value["status"] == "successful"
    });
    assert_eq!(daemon.end("-TERM"), Some(0), "{}", daemon.log());

    // A password that is not the right one: refused, and as silent.
    std::fs::write(credentials.join("mqtt-password"), format!("{PASSWORD}-and-wrong\n")).unwrap();
    start(&mut daemon);
    wait_until("it has ended", || !daemon.is_alive());
    let log = daemon.log();
    assert!(log.contains("refuses the user of mqtt.username_file"), "{log}");
    for secret in [USER, PASSWORD] {
        assert!(!log.contains(secret), "in the log");
        assert!(!seen.iter().any(|message| message.contains(secret)), "in a message");
    }
}

#[test]
fn commands_that_are_not_allowed_are_neither_announced_nor_done() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path());
    let watcher = Watcher::start(&broker, ROOT);
    let mut daemon = Service::new(folder.path());
    let mqtt = format!("broker = {:?}", broker.url());
    daemon.configure(&mqtt, "");
    daemon.start();
    watcher.wait("rollback to be announced", |topic, value| {
        topic == format!("{ROOT}/cmd/rollback") && value["type"] == "object"
    });
    assert_eq!(daemon.end("-TERM"), Some(0), "{}", daemon.log());

    daemon.configure(
        &format!("{mqtt}\ncommands = [\"state\", \"train\", \"label\"]"),
        "allow_remote = false\n",
    );
    daemon.start();
    // What was announced before is taken back.
    let mut cleared = 0;
    watcher.wait("seven commands to be taken back", |topic, value| {
        cleared += usize::from(topic.starts_with(&format!("{ROOT}/cmd/")) && value == "");
        cleared == 7
    });
    for (command, key) in [("rollback", "mqtt.commands"), ("train", "train.allow_remote")] {
        let answer = watcher.command(ROOT, command, "1", json!({}));
        assert_eq!(answer["status"], "failed", "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains(key), "{answer}");
        watcher.publish(&format!("{ROOT}/request/{command}"), "{}");
        let (_, answer) = watcher.wait("a reply", |topic, _| topic == format!("{ROOT}/reply/{command}"));
        assert!(answer["reason"].as_str().unwrap().contains(key), "{answer}");
    }
    assert_eq!(watcher.command(ROOT, "state", "1", json!({}))["status"], "successful");
    assert_eq!(daemon.end("-TERM"), Some(0), "{}", daemon.log());

    // An id that was refused was not used up.
    daemon.configure(&mqtt, "");
    daemon.start();
    let answer = watcher.command(ROOT, "rollback", "1", json!({}));
    assert!(answer["reason"].as_str().unwrap().contains("nothing before"), "{answer}");
}
