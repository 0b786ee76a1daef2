//! Why the daemon does not start, or ends by itself.

use std::path::PathBuf;

use crate::detect::DetectError;
use crate::mqtt::SettingsError;
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
    /// A file that the way to the broker needs.
    #[error(transparent)]
    Settings(#[from] SettingsError),
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
    /// A thread of the link's has ended.
    #[error(
        "what speaks to the broker has crashed (see the log); that is a fault of graftd's, please report it"
    )]
    LinkCrashed,
    /// The system gives no thread or signal handler.
    #[error("the system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
}
