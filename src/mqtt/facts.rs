//! Retained topics of which only the latest payload matters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long a topic over which connections ended is not published.
const WITHDRAWN: Duration = Duration::from_secs(600);

/// The latest payload of each retained topic, and which of them the broker has not been given yet.
#[derive(Debug, Default)]
pub struct Facts {
    inner: Mutex<BTreeMap<String, Fact>>,
}

#[derive(Debug)]
struct Fact {
    payload: Vec<u8>,
    due: bool,
    /// Until when it is not published, because it ended connections.
    withdrawn: Option<Instant>,
}

impl Facts {
    /// Sets a topic's payload. Whether it differs from what was there.
    pub fn set(&self, topic: &str, payload: &[u8]) -> bool {
        let mut facts = self.lock();
        if facts.get(topic).is_some_and(|fact| fact.payload == payload) {
            return false;
        }
        let withdrawn = facts.get(topic).and_then(|fact| fact.withdrawn);
        facts.insert(topic.to_owned(), Fact { payload: payload.to_owned(), due: true, withdrawn });
        true
    }

    /// A topic over which connections ended is not published for a while. Not for ever: a broker that dies
    /// again and again ends them too.
    pub(super) fn withdraw(&self, topic: &str) {
        if let Some(fact) = self.lock().get_mut(topic) {
            fact.withdrawn = Some(Instant::now() + WITHDRAWN);
        }
    }

    /// The latest payload of a topic.
    pub fn get(&self, topic: &str) -> Option<Vec<u8>> {
        self.lock().get(topic).map(|fact| fact.payload.clone())
    }

    /// A new connection: the broker may have forgotten everything.
    pub(super) fn all_due(&self) {
        self.lock().values_mut().for_each(|fact| fact.due = true);
    }

    /// Somebody wants a topic's payload once more.
    pub fn again(&self, topic: &str) {
        if let Some(fact) = self.lock().get_mut(topic) {
            fact.due = true;
        }
    }

    /// A topic that the broker has not been given yet.
    pub(super) fn next_due(&self) -> Option<(String, Vec<u8>)> {
        self.next_due_at(Instant::now())
    }

    fn next_due_at(&self, now: Instant) -> Option<(String, Vec<u8>)> {
        let facts = self.lock();
        let is_due = |fact: &Fact| fact.due && fact.withdrawn.is_none_or(|until| now >= until);
        let (topic, fact) = facts.iter().find(|(_, fact)| is_due(fact))?;
        Some((topic.clone(), fact.payload.clone()))
    }

    /// The broker has been given this payload; a newer one stays due.
    pub(super) fn given(&self, topic: &str, payload: &[u8]) {
        if let Some(fact) = self.lock().get_mut(topic).filter(|fact| fact.payload == payload) {
            fact.due = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Fact>> {
        // A map is whole whatever its holder was doing when it panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_is_due_and_once() {
        let facts = Facts::default();
        assert!(facts.set("a", b"1"));
        assert!(facts.set("a", b"2"));
        assert!(!facts.set("a", b"2"));
        assert_eq!(facts.next_due(), Some(("a".into(), b"2".to_vec())));
        facts.given("a", b"1");
        assert!(facts.next_due().is_some());
        facts.given("a", b"2");
        assert_eq!(facts.next_due(), None);
        facts.all_due();
        assert!(facts.next_due().is_some());
        facts.withdraw("a");
        assert!(facts.set("a", b"3"));
        assert_eq!(facts.next_due(), None);
        let later = facts.next_due_at(Instant::now() + WITHDRAWN);
        assert_eq!(later, Some(("a".into(), b"3".to_vec())));
    }
}
