//! Where the API over HTTP can be reached.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the API over HTTP can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// The Unix socket. None is `api.sock` in the folder that the service manager gives (`RUNTIME_DIRECTORY`) or
    /// in `/run/graftd` where that can be written, and else in `state_dir`.
    pub socket: Option<PathBuf>,
    /// A TCP address to listen on as well, such as `127.0.0.1:8470`; needs `token_file`.
    pub listen: Option<SocketAddr>,
    /// A file whose first line is the token, of at least 16 characters, that TCP clients must show as
    /// `Authorization: Bearer …`.
    pub token_file: Option<PathBuf>,
}

impl ApiConfig {
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        match (self.listen, &self.token_file) {
            (Some(listen), None) => Err((
                "api.token_file",
                format!(
                    "api.listen = \"{listen}\" opens the API to everybody who reaches that port; name a file with \
                     a token, such as `openssl rand -hex 32` prints, or leave api.listen out"
                ),
            )),
            _ => Ok(()),
        }
    }
}
