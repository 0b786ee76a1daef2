//! Takes connections and answers them, a thread each, so many at a time and not longer than a request may
//! take: nobody's slowness holds up anybody else, or the daemon.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::api::Api;
use super::request::{self, NoRequest, Stream};
use super::response::Response;
use super::socket::Socket;
use super::token::Token;

/// Connections at once, for each listener: strangers at the TCP port take nothing from the socket.
const CONNECTIONS: usize = 16;
/// Connections are given so long to end when the server stops.
const END_WITHIN: Duration = Duration::from_secs(1);
/// After the system had no connection to give.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Why the API can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Not at the socket.
    #[error(
        "the API's socket {}: {source}; name a place that can be written, of at most 100 characters, in \
         api.socket", path.display()
    )]
    Socket {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not at the TCP port.
    #[error("the API's address {address}: {source}; name another in api.listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No thread or handle.
    #[error("the API: {0}")]
    System(#[from] io::Error),
}

/// Answers until it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    socket: Option<Socket>,
    /// Its other end hears when this one goes.
    stop: Option<UnixStream>,
    stopped: UnixStream,
    tcp: Option<SocketAddr>,
}

struct Shared {
    api: Api,
    stopping: AtomicBool,
    /// Handles of the connections that there are, to end them with.
    connections: Mutex<HashMap<u64, Box<dyn Stream>>>,
}

impl Server {
    /// A server that nobody can reach yet.
    ///
    /// # Errors
    /// When the system gives no handle.
    pub fn new(api: Api) -> io::Result<Server> {
        let (stop, stopped) = UnixStream::pair()?;
        let shared = Shared { api, stopping: AtomicBool::new(false), connections: Mutex::default() };
        Ok(Server {
            shared: Arc::new(shared),
            threads: Vec::new(),
            socket: None,
            stop: Some(stop),
            stopped,
            tcp: None,
        })
    }

    /// Listens on a Unix socket; whoever may write it may use the API.
    ///
    /// # Errors
    /// When there can be no such socket.
    pub fn listen_unix(&mut self, path: &Path, state_dir: &Path) -> Result<(), WebError> {
        let fail = |source| WebError::Socket { path: path.to_owned(), source };
        let (socket, listener) = Socket::bind(path, state_dir).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        self.socket = Some(socket);
        let accept = move |listener: &UnixListener| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        self.start("api", listener, accept, None)
    }

    /// Listens on a TCP port; whoever shows the token may use the API.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn listen_tcp(&mut self, address: SocketAddr, token: Token) -> Result<(), WebError> {
        let fail = |source| WebError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        self.tcp = listener.local_addr().ok();
        let accept = move |listener: &TcpListener| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        self.start("api-tcp", listener, accept, Some(token))
    }

    /// The TCP address, once there is one.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    fn start<L: AsFd + Send + 'static>(
        &mut self,
        name: &str,
        listener: L,
        accept: impl Fn(&L) -> io::Result<Box<dyn Stream>> + Send + 'static,
        token: Option<Token>,
    ) -> Result<(), WebError> {
        let stopped = self.stopped.try_clone()?;
        let door =
            Door { shared: Arc::clone(&self.shared), token: token.map(Arc::new), open: Arc::default() };
        let work = move || {
            let mut number = 0;
            while wait(&listener, &stopped) {
                match accept(&listener) {
                    Ok(stream) => door.let_in(stream, &mut number),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        tracing::warn!("the API takes no connection: {error}");
                        thread::sleep(AFTER_ERROR);
                    }
                }
            }
        };
        self.threads.push(thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.socket = None;
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.stop = None;
        for thread in self.threads.drain(..) {
            // A panic in it has been written to stderr.
            let _ = thread.join();
        }
        self.shared.api.hub.close();
        // What has been answered is on its way; who has not come to the end of a request is not waited for.
        let deadline = Instant::now() + END_WITHIN;
        while !self.shared.connections().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.shared.connections().values().for_each(|connection| connection.end());
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Box<dyn Stream>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a connection; false when the server stops.
fn wait(listener: &impl AsFd, stopped: &UnixStream) -> bool {
    let mut fds =
        [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN | PollFlags::HUP)];
    match poll(&mut fds, None) {
        Ok(_) => fds[1].revents().is_empty(),
        Err(rustix::io::Errno::INTR) => true,
        Err(error) => {
            tracing::error!("the API waits no more: {error}");
            false
        }
    }
}

/// Where connections of one listener come in.
struct Door {
    shared: Arc<Shared>,
    token: Option<Arc<Token>>,
    /// One for each connection that there is.
    open: Arc<()>,
}

impl Door {
    fn let_in(&self, mut stream: Box<dyn Stream>, number: &mut u64) {
        *number += 1;
        let open = Arc::clone(&self.open);
        if Arc::strong_count(&open) - 1 > CONNECTIONS {
            let reason = format!("{CONNECTIONS} connections are open already; try again");
            // There is room for so little in a new connection; who does not take it gets nothing.
            let _ = Response::error(503, reason).write(&mut *stream);
            return;
        }
        // Connections of two listeners have numbers that differ in the lowest bit.
        let key = *number * 2 + u64::from(self.token.is_some());
        match stream.other_handle() {
            Ok(handle) => self.shared.connections().insert(key, handle),
            Err(error) => return tracing::warn!("the API takes no connection: {error}"),
        };
        let (shared, token) = (Arc::clone(&self.shared), self.token.clone());
        let work = move || {
            let connection = Connection { shared, key, _open: open };
            connection.serve(&mut *stream, token.as_deref());
        };
        if let Err(error) = thread::Builder::new().name("api-answer".into()).spawn(work) {
            tracing::warn!("the API takes no connection: {error}");
            self.shared.connections().remove(&key);
        }
    }
}

/// A connection that there is.
struct Connection {
    shared: Arc<Shared>,
    key: u64,
    _open: Arc<()>,
}

impl Connection {
    fn serve(&self, stream: &mut dyn Stream, token: Option<&Token>) {
        let response = match request::read(stream) {
            Ok(request) if token.is_none_or(|token| token.is_shown(request.authorization.as_deref())) => {
                self.shared.api.answer(&request)
            }
            Ok(_) => Response::error(401, "show the token: Authorization: Bearer …"),
            Err(NoRequest::Bad(status, reason)) => Response::error(status, reason),
            Err(NoRequest::Gone) => return,
        };
        match response.write(stream) {
            // With something unread a TCP connection would be reset, and the answer lost with it.
            Ok(()) => request::drain(stream),
            Err(error) => tracing::debug!("a client of the API has gone: {error}"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.key);
    }
}
