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

/// Prints lines.
pub(super) fn lines(lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(|text| line(text))
}

/// Prints the result of long work, whose progress could be printed or not (`broken`). Whoever read it
/// may have left: the work is done, and its exit code stays the same.
pub(super) fn outcome(
    broken: Option<Failure>,
    print: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    match broken.map_or_else(print, Err) {
        Err(Failure::Silent) => Ok(()),
        other => other,
    }
}

/// Prints one JSON object on a line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string(value).map_err(|error| Failure::Failed(error.into()))?)
}
