//! A real mosquitto on a free loopback port, and a client that sees everything.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that is killed when it is dropped.
pub struct Mosquitto {
    pub port: u16,
    config: PathBuf,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one that lets everybody in, with its files in `folder`.
    pub fn start(folder: &Path) -> Self {
        Self::with(folder, "allow_anonymous true\n")
    }

    /// Starts one with these settings.
    pub fn with(folder: &Path, settings: &str) -> Self {
        let port = free_port();
        let config = folder.join("mosquitto.conf");
        // What a watcher has not got yet must survive the broker's restart: see `restart`.
        // Started by root it would become another user, who may not write here.
        let kept = format!("user root\npersistence true\npersistence_location {}/\n", folder.display());
        let text = format!("listener {port} 127.0.0.1\nmax_queued_messages 0\n{kept}{settings}");
        std::fs::write(&config, text).unwrap();
        let mut broker = Mosquitto { port, config, child: None };
        broker.up();
        broker
    }

    /// Starts it again on the same port.
    pub fn up(&mut self) {
        let program =
            ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("mosquitto is missing (`scripts/setup.sh test` installs it)");
        let child = Command::new(program).arg("-c").arg(&self.config).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        wait_until("mosquitto accepts", || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
    }

    /// Ends it, so that every connection breaks, and starts it again. What it acknowledged before it ended
    /// reaches its subscribers afterwards; a broker that is killed forgets that, and a test that counts
    /// messages at a subscriber would count the broker's losses as the daemon's.
    pub fn restart(&mut self) {
        self.stop();
        self.up();
    }

    /// Ends it in good order: it remembers its sessions.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(ended.success());
        child.wait().unwrap();
    }

    /// Kills it.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.down();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits for a condition.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A client that subscribes to everything below a root and reconnects by itself.
pub struct Watcher {
    pub client: Client,
    messages: Receiver<(String, Vec<u8>)>,
}

impl Watcher {
    /// Comes back when the broker has its subscription; the session outlives connections.
    pub fn start(broker: &Mosquitto, root: &str) -> Self {
        Self::at(broker.port, root)
    }

    /// The same at a port of this machine.
    pub fn at(port: u16, root: &str) -> Self {
        static WATCHERS: AtomicU32 = AtomicU32::new(0);
        let id = format!("watcher-{}", WATCHERS.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_max_packet_size(32 << 20, 32 << 20);
        options.set_clean_session(false);
        let (client, mut connection) = Client::new(options, 10_000);
        let (seen, messages) = channel();
        let (subscribed, ready) = channel();
        let (subscriber, filter) = (client.clone(), format!("{root}/#"));
        thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        subscriber.try_subscribe(&filter, QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        let _ = subscribed.send(());
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        if seen.send((publish.topic, publish.payload.to_vec())).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        ready.recv_timeout(PATIENCE).expect("the broker takes the subscription");
        Watcher { client, messages }
    }

    /// The next message as it came, if one comes in time.
    pub fn next_bytes(&self, patience: Duration) -> Option<(String, Vec<u8>)> {
        self.messages.recv_timeout(patience).ok()
    }

    /// The next message, as JSON (a string where it is none), if one comes in time.
    pub fn next(&self, patience: Duration) -> Option<(String, Value)> {
        let (topic, payload) = self.next_bytes(patience)?;
        let text = String::from_utf8_lossy(&payload).into_owned();
        Some((topic, serde_json::from_slice(&payload).unwrap_or(Value::String(text))))
    }

    /// The next message that the predicate wants; others are passed over.
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&str, &Value) -> bool) -> (String, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((topic, value)) = self.next(left) else { panic!("waited in vain for {what}") };
            if wanted(&topic, &value) {
                return (topic, value);
            }
        }
    }

    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
    }

    /// Sends a command; its last answer.
    pub fn command(&self, root: &str, command: &str, id: &str, mut arguments: Value) -> Value {
        arguments["status"] = "init".into();
        let topic = format!("{root}/cmd/{command}/{id}");
        self.publish(&topic, arguments.to_string());
        self.settled(&topic)
    }

    /// The answer that ends a command.
    pub fn settled(&self, topic: &str) -> Value {
        let ends = |found: &str, value: &Value| {
            found == topic && (value["status"] == "successful" || value["status"] == "failed")
        };
        self.wait(&format!("an answer on {topic}"), ends).1
    }
}
