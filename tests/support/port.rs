//! A port of this machine's behind which somebody misbehaves on purpose.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

type Serve = dyn Fn(TcpStream) -> io::Result<()> + Send + Sync;

/// It listens until it is dropped or taken down.
pub struct Port<M> {
    number: u16,
    now: Arc<Now<M>>,
    serve: Arc<Serve>,
    listening: Option<JoinHandle<()>>,
}

/// What is done there now.
pub struct Now<M> {
    mode: Mutex<M>,
    is_down: AtomicBool,
}

impl<M: Copy + PartialEq> Now<M> {
    pub fn new(mode: M) -> Arc<Self> {
        Arc::new(Now { mode: Mutex::new(mode), is_down: AtomicBool::new(false) })
    }

    pub fn mode(&self) -> M {
        *self.mode.lock().unwrap()
    }

    /// Whether connections must end.
    pub fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Until it is to do something else.
    pub fn hold(&self, mode: M) {
        while self.mode() == mode && !self.is_down() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl<M: Copy + PartialEq + Send + 'static> Port<M> {
    /// Who comes is served in a thread of its own.
    pub fn open(
        now: Arc<Now<M>>,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let mut port = Port { number: 0, now, serve: Arc::new(serve), listening: None };
        port.up();
        port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    pub fn set(&self, mode: M) {
        *self.now.mode.lock().unwrap() = mode;
    }

    /// Listens, on the same port as before.
    pub fn up(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.number)).unwrap();
        self.number = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        self.now.is_down.store(false, Ordering::Relaxed);
        let (now, serve) = (Arc::clone(&self.now), Arc::clone(&self.serve));
        self.listening = Some(thread::spawn(move || {
            while !now.is_down() {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let serve = Arc::clone(&serve);
                // Whoever asked may have gone.
                thread::spawn(move || drop(serve(stream)));
            }
        }));
    }
}

impl<M> Port<M> {
    /// Is gone from the network, with all its connections.
    pub fn down(&mut self) {
        self.now.is_down.store(true, Ordering::Relaxed);
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
    }
}

impl<M> Drop for Port<M> {
    fn drop(&mut self) {
        self.down();
    }
}
