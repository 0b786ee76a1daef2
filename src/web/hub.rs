//! The daemon's reports as they go, for everybody who listens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Listeners at once.
const LISTENERS: usize = 8;
/// Reports that wait for a listener; one that falls behind further is let go, and may come back.
const QUEUE: usize = 256;

/// Hands reports on to those who listen, and counts them. Never waits for anybody.
#[derive(Debug, Default)]
pub struct Hub {
    listeners: Mutex<Vec<SyncSender<String>>>,
    kept: AtomicU64,
    labelled: AtomicU64,
}

impl Hub {
    /// A report on a topic below the root, with its payload in JSON.
    pub fn tell(&self, topic: &str, payload: &[u8]) {
        if topic == "event/sample" {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        let mut listeners = self.listeners();
        if listeners.is_empty() {
            return;
        }
        let line = line(topic, payload);
        listeners.retain(|listener| listener.try_send(line.clone()).is_ok());
    }

    /// A sample was labelled.
    pub fn count_label(&self) {
        self.labelled.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames kept since the start.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Labels taken since the start.
    pub(super) fn labelled(&self) -> u64 {
        self.labelled.load(Ordering::Relaxed)
    }

    /// All reports from now on, a line of JSON each; none when too many listen already.
    pub(super) fn listen(&self) -> Option<Receiver<String>> {
        let mut listeners = self.listeners();
        if listeners.len() >= LISTENERS {
            return None;
        }
        let (send, receive) = sync_channel(QUEUE);
        listeners.push(send);
        Some(receive)
    }

    /// There will be no more reports.
    pub(super) fn close(&self) {
        self.listeners().clear();
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<SyncSender<String>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A report as listeners get it: `{"topic": …, "payload": …}`.
pub(super) fn line(topic: &str, payload: &[u8]) -> String {
    // Our own JSON, on one line: it need not be read to be handed on.
    let payload = std::str::from_utf8(payload).ok().filter(|text| !text.contains('\n')).unwrap_or("null");
    format!(r#"{{"topic":{},"payload":{payload}}}"#, serde_json::Value::from(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_hears_everything_in_order() {
        let hub = Hub::default();
        hub.tell("state", b"{}");
        let (first, second) = (hub.listen().expect("room"), hub.listen().expect("room"));
        hub.tell("event/sample", br#"{"sample":"a"}"#);
        hub.tell("cmd/fly/line\nbreak", br#"{"status":"failed"}"#);
        for listener in [first, second] {
            assert_eq!(listener.recv(), Ok(r#"{"topic":"event/sample","payload":{"sample":"a"}}"#.into()));
            let line = listener.recv().expect("a report");
            assert!(line.contains(r"line\nbreak") && !line.contains('\n'), "{line}");
        }
        assert_eq!(hub.kept(), 1);
    }

    #[test]
    fn who_does_not_listen_any_more_holds_nothing_up() {
        let hub = Hub::default();
        let slow = hub.listen().expect("room");
        drop(hub.listen());
        for _ in 0..=QUEUE {
            hub.tell("state", b"1");
        }
        assert_eq!(slow.iter().count(), QUEUE, "it gets what had room, and then the end");
        let all: Vec<_> = (0..LISTENERS).map(|_| hub.listen().expect("room")).collect();
        assert!(hub.listen().is_none());
        hub.close();
        assert!(all.iter().all(|listener| listener.recv().is_err()));
    }
}
