//! Which runtime is taken.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Runtime, RuntimeError};

/// Which runtime is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// ONNX Runtime when a libonnxruntime is found, else tract.
    #[default]
    Auto,
    /// ONNX Runtime or nothing.
    Ort,
    /// tract.
    Tract,
}

/// The text names no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no runtime {0:?}; it is one of auto, ort, tract")]
pub struct UnknownRuntime(String);

impl FromStr for RuntimeKind {
    type Err = UnknownRuntime;

    fn from_str(text: &str) -> Result<Self, UnknownRuntime> {
        match text {
            "auto" => Ok(RuntimeKind::Auto),
            "ort" => Ok(RuntimeKind::Ort),
            "tract" => Ok(RuntimeKind::Tract),
            other => Err(UnknownRuntime(other.to_owned())),
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuntimeKind::Auto => "auto",
            RuntimeKind::Ort => "ort",
            RuntimeKind::Tract => "tract",
        })
    }
}

/// Which runtime, and where its library lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeChoice {
    /// Which runtime.
    pub kind: RuntimeKind,
    /// The libonnxruntime to load; none looks in the usual places.
    pub library: Option<PathBuf>,
}

/// Opens the chosen runtime. When [`RuntimeKind::Auto`] ends at tract for want of a library, a
/// warning says so: tract is two to four times slower.
///
/// # Errors
/// When a named library can't be loaded, ONNX Runtime was asked for and is not there, or the binary
/// was built without what was asked for.
pub fn open(choice: &RuntimeChoice) -> Result<Box<dyn Runtime>, RuntimeError> {
    match choice.kind {
        RuntimeKind::Tract => open_tract(),
        RuntimeKind::Ort => open_ort(choice),
        RuntimeKind::Auto => match open_ort(choice) {
            // Without tract the error that tells how to get the library is the one to be told.
            Err(error @ (RuntimeError::NoLibrary { .. } | RuntimeError::NotBuilt(_)))
                if cfg!(feature = "tract") =>
            {
                tracing::warn!("{error}; going on with tract, which is slower");
                open_tract()
            }
            other => other,
        },
    }
}

/// The libonnxruntime that [`open`] would load: this one, or one from the usual places. It is not loaded.
///
/// # Errors
/// When it is not there, or this binary was built without ONNX Runtime.
#[cfg(feature = "ort")]
pub fn library(configured: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    use super::library::{Found, find};
    match find(configured) {
        // A mere name is for the system's loader to find.
        Found::Named(path) if path.is_file() || path.components().count() == 1 => Ok(path),
        Found::Named(path) => Err(RuntimeError::Library { path, message: "there is no such file".into() }),
        Found::Here(path) => Ok(path),
        Found::Nowhere(searched) => Err(RuntimeError::NoLibrary { searched }),
    }
}

/// As with ONNX Runtime, which this binary was built without.
///
/// # Errors
/// Always.
#[cfg(not(feature = "ort"))]
pub fn library(_configured: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    Err(RuntimeError::NotBuilt("ONNX Runtime"))
}

#[cfg(feature = "ort")]
fn open_ort(choice: &RuntimeChoice) -> Result<Box<dyn Runtime>, RuntimeError> {
    use super::library::{Found, find};
    match find(choice.library.as_deref()) {
        Found::Named(path) | Found::Here(path) => Ok(Box::new(super::onnxruntime::Ort::open(&path)?)),
        Found::Nowhere(searched) => Err(RuntimeError::NoLibrary { searched }),
    }
}

#[cfg(not(feature = "ort"))]
fn open_ort(_choice: &RuntimeChoice) -> Result<Box<dyn Runtime>, RuntimeError> {
    Err(RuntimeError::NotBuilt("ONNX Runtime"))
}

#[cfg(feature = "tract")]
fn open_tract() -> Result<Box<dyn Runtime>, RuntimeError> {
    Ok(Box::new(super::pure::Tract))
}

#[cfg(not(feature = "tract"))]
fn open_tract() -> Result<Box<dyn Runtime>, RuntimeError> {
    Err(RuntimeError::NotBuilt("tract"))
}
