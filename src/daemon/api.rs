//! The API's way into the loop, and back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{ApiConfig, Config};
use crate::mqtt::{Answer, Arguments, Facts};
use crate::store::StoreError;
use crate::web::{Api, Commands, Server, Token, Told, choose};

use super::DaemonError;
use super::ask::Ask;
use super::core::Core;
use super::event::Event;

/// Between two looks whether the loop's queue has room.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Somebody who asked over the API, and waits for a while.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    number: u64,
    told: SyncSender<Told>,
}

impl Caller {
    /// Whoever has stopped waiting need not hear it.
    pub fn tell(&self, told: Told) {
        let _ = self.told.try_send(told);
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Caller {}

/// Hands commands in, one event each.
struct Entrance {
    events: SyncSender<Event>,
    callers: AtomicU64,
}

impl Commands for Entrance {
    fn carry_out(&self, arguments: Arguments, patience: Duration) -> Told {
        let deadline = Instant::now() + patience;
        // A run tells that it has begun, and later how it ended.
        let (told, answer) = sync_channel(2);
        let caller = Caller { number: self.callers.fetch_add(1, Ordering::Relaxed), told };
        let mut event = Event::Asked { arguments: Box::new(arguments), caller };
        while let Err(error) = self.events.try_send(event) {
            match error {
                TrySendError::Full(back) if Instant::now() < deadline => event = back,
                _ => return Told::Silence,
            }
            thread::sleep(LOOK_AGAIN);
        }
        match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => Told::Later,
            Err(RecvTimeoutError::Disconnected) => Told::Silence,
        }
    }
}

/// What TCP clients must show, where there is a port for them.
pub(super) fn read_token(config: &ApiConfig) -> Result<Option<Token>, DaemonError> {
    let (Some(_), Some(path)) = (config.listen, &config.token_file) else { return Ok(None) };
    let fail = |source| DaemonError::Token { path: path.clone(), source };
    Token::read(path).map(Some).map_err(fail)
}

/// Lets clients in. A socket or port that can't be had is no reason not to detect.
pub(super) fn open(
    config: &Config,
    token: Option<Token>,
    core: &Core,
    facts: Arc<Facts>,
) -> Result<Server, DaemonError> {
    let api = Api {
        commands: Box::new(Entrance { events: core.events.clone(), callers: AtomicU64::new(0) }),
        store: Arc::clone(&core.store),
        facts,
        topics: core.topics.clone(),
        hub: Arc::clone(&core.hub),
    };
    let mut server = Server::new(api)?;
    let state_dir: &Path = &config.state_dir;
    if let Err(error) = server.listen_unix(&choose(config.api.socket.as_deref(), state_dir), state_dir) {
        tracing::error!("{error}");
    }
    if let (Some(address), Some(token)) = (config.api.listen, token) {
        match server.listen_tcp(address, token) {
            Ok(()) => tracing::info!("the API listens on {}", server.tcp_address().unwrap_or(address)),
            Err(error) => tracing::error!("{error}"),
        }
    }
    Ok(server)
}

impl Core {
    /// Somebody asked over the API.
    pub(super) fn asked(&mut self, arguments: Arguments, caller: Caller) -> Result<(), StoreError> {
        let ask = Ask::Api(caller.clone());
        self.answer(arguments, &ask)?;
        if let Some(run) = self.run.as_ref().filter(|run| run.asked_by(&ask)) {
            caller.tell(Told::Begun(run.id.clone()));
        }
        Ok(())
    }
}

impl From<&Answer> for Told {
    fn from(answer: &Answer) -> Self {
        Told::Answer(answer.clone())
    }
}
