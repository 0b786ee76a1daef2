//! What `graftd init` and `graftd doctor` find on this machine.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::capture;
use crate::config::{Broker, Config, writable};
use crate::demo::Share;
use crate::runtime;

/// A broker on this machine answers within so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    /// Its name, as a device may be called.
    pub device: String,
    /// Cameras, the best first.
    pub cameras: Vec<PathBuf>,
    /// The libonnxruntime.
    pub library: Option<PathBuf>,
    /// Whether something listens where a broker does.
    pub broker: bool,
    /// Cores.
    pub cores: usize,
    /// A base to start from.
    pub base: Option<PathBuf>,
    /// Where this user may keep the state; none if nowhere.
    pub state_dir: Option<PathBuf>,
}

impl Machine {
    /// Looks at it.
    pub fn look() -> Machine {
        let defaults = Config::default();
        let base = Some(defaults.model.base).filter(|path| path.is_file());
        let state_dirs = [Some(defaults.state_dir), own_state_dir()];
        Machine {
            device: device_name(&rustix::system::uname().nodename().to_string_lossy()),
            cameras: capture::devices(Path::new("/dev")),
            library: runtime::library(None).ok(),
            broker: reach(&Broker::default()).is_ok(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            base: base.or_else(|| Share::find().ok().map(|share| share.base())),
            state_dir: state_dirs.into_iter().flatten().find(|folder| writable(folder).is_ok()),
        }
    }
}

/// Where a user who is not the system's keeps state.
fn own_state_dir() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")))?;
    Some(state.join("graftd"))
}

/// A machine's name without what a device's may not have.
fn device_name(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = host.trim().chars().map(plain).take(64).collect();
    // As many machines are called that, and each needs its own topics.
    if name.is_empty() || name == "localhost" { Config::default().device } else { name }
}

/// Whether something listens where a broker does.
///
/// # Errors
/// Why not.
pub(super) fn reach(broker: &Broker) -> io::Result<()> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in (broker.host.as_str(), broker.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_machines_name_becomes_a_devices() {
        for (host, device) in [
            ("barn-7.farm.lan", "barn-7.farm.lan"),
            ("Hühner stall", "H-hner-stall"),
            ("", "graftd"),
            ("localhost", "graftd"),
        ] {
            assert_eq!(device_name(host), device);
            assert!(Config { device: device_name(host), ..Config::default() }.faults().is_empty());
        }
        assert_eq!(device_name(&"x".repeat(80)).len(), 64);
    }

    #[test]
    fn a_broker_is_told_from_none() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let broker = Broker { port, ..Broker::default() };
        assert!(reach(&broker).is_ok());
        drop(listener);
        assert!(reach(&broker).is_err());
    }
}
