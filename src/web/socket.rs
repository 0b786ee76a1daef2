//! Where the API's Unix socket lies.
//!
//! Its place may differ from device to device, but the state directory always leads to it: where the socket
//! lies elsewhere a link of the same name points there. So whoever knows the state directory needs to know
//! nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::files::{PASSING, folder_of};

/// The socket's name in its folder, and that of the link in the state directory.
pub const SOCKET: &str = "api.sock";

/// The folder that a service has while it runs.
const RUNTIME_DIRECTORY: &str = "/run/graftd";

/// Where the socket is to lie: as configured, or in the folder that the service manager gives
/// (`RUNTIME_DIRECTORY`), or in `/run/graftd` where that can be written and no other daemon has its socket
/// there, or in the state directory.
pub fn choose(configured: Option<&Path>, state_dir: &Path) -> PathBuf {
    if let Some(path) = configured {
        return path.to_owned();
    }
    let given = std::env::var("RUNTIME_DIRECTORY").ok();
    let first = given.as_deref().and_then(|folders| folders.split(':').next());
    let folder = Path::new(first.filter(|folder| !folder.is_empty()).unwrap_or(RUNTIME_DIRECTORY));
    let own = folder.join(SOCKET);
    // A socket that answers is another daemon's: that of a life before this one does not.
    if access(folder, Access::WRITE_OK).is_ok() && UnixStream::connect(&own).is_err() {
        return own;
    }
    state_dir.join(SOCKET)
}

/// A socket that is there as long as this lives.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    link: Option<PathBuf>,
}

impl Socket {
    /// Listens at `path`, in place of whatever socket lies there, and links the state directory to it.
    pub fn bind(path: &Path, state_dir: &Path) -> io::Result<(Socket, UnixListener)> {
        if fs::symlink_metadata(path).is_ok_and(|found| {
            let kind = found.file_type();
            !kind.is_socket() && !kind.is_symlink()
        }) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket lies there"));
        }
        // Bound under another name, so that nobody reaches it before its rights are set, and renamed over
        // what a killed daemon has left.
        let passing = folder_of(path).join(format!("{PASSING}{SOCKET}"));
        remove(&passing)?;
        let listener = UnixListener::bind(&passing)?;
        fs::set_permissions(&passing, fs::Permissions::from_mode(0o660))?;
        fs::rename(&passing, path)?;
        let mut socket = Socket { path: path.to_owned(), link: None };
        let link = state_dir.join(SOCKET);
        if fs::canonicalize(folder_of(path)).ok() != fs::canonicalize(state_dir).ok() {
            remove(&link)?;
            symlink(path, &link)?;
            socket.link = Some(link);
        }
        Ok((socket, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        for path in self.link.iter().chain([&self.path]) {
            if let Err(error) = remove(path) {
                tracing::warn!("{}: {error}", path.display());
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_left_is_replaced_and_no_other_file_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(SOCKET);
        // What a killed daemon leaves: the file, and nobody behind it.
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(UnixStream::connect(&path).is_err());
        let (socket, _listener) = Socket::bind(&path, dir.path()).expect("a socket");
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());

        fs::write(&path, "notes").expect("a file");
        assert!(Socket::bind(&path, dir.path()).is_err());
        assert_eq!(fs::read_to_string(&path).expect("a file"), "notes");
    }

    #[test]
    fn the_state_directory_leads_to_a_socket_elsewhere() {
        let (state, run) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let path = run.path().join("other.sock");
        let (socket, _listener) = Socket::bind(&path, state.path()).expect("a socket");
        let link = state.path().join(SOCKET);
        assert!(UnixStream::connect(&link).is_ok());
        // The next life of the same daemon.
        let (again, _listener) = Socket::bind(&path, state.path()).expect("a socket");
        assert!(UnixStream::connect(&link).is_ok());
        drop(socket);
        drop(again);
        assert!(fs::symlink_metadata(&link).is_err() && !path.exists());
    }

    #[test]
    fn a_configured_place_is_taken_as_it_is() {
        let path = Path::new("/run/mine/api.sock");
        assert_eq!(choose(Some(path), Path::new("/var/lib/graftd")), path);
    }
}
