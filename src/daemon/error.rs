//! Why the daemon does not start, or ends by itself.

use std::fs;
use std::path::PathBuf;

use crate::config::Config;
use crate::detect::DetectError;
use crate::runtime::RuntimeError;
use crate::store::StoreError;

/// Why the daemon does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The base can't be read.
    #[error("model.base {}: {source}; name an ONNX export of a YOLO detector", path.display())]
    Base {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The password can't be read.
    #[error("mqtt.password_file {}: {source}; its first line must be the password", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The token can't be read.
    #[error(
        "api.token_file {}: {source}; its first line must be the token, such as `openssl rand -hex 32` prints",
        path.display()
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The broker does not want us.
    #[error("broker {broker}: {reason}")]
    Refused {
        /// Its address.
        broker: String,
        /// What it said and what to do.
        reason: String,
    },
    /// The system gives no thread or signal handler.
    #[error("the system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The first line of `mqtt.password_file`.
pub(super) fn read_password(config: &Config) -> Result<Option<String>, DaemonError> {
    let Some(path) = &config.mqtt.password_file else { return Ok(None) };
    let fail = |source| DaemonError::Password { path: path.clone(), source };
    let text = fs::read_to_string(path).map_err(fail)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        _ => Err(fail(std::io::Error::other("the first line is empty"))),
    }
}
