//! Results on stdout.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::failure::Failure;

/// Prints one line.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Silent),
        Err(error) => Err(Failure::failed(format!("stdout: {error}"))),
    }
}

/// Prints one JSON object on a line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string(value).map_err(|error| Failure::Failed(error.into()))?)
}
