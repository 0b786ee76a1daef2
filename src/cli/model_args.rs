//! Arguments that every command with a model takes.

use std::path::PathBuf;

use crate::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions};

use super::failure::Failure;

/// Which runtime runs the graphs.
#[derive(clap::Args)]
pub(super) struct RuntimeArgs {
    /// Runtime: auto, ort or tract; auto takes ONNX Runtime when a libonnxruntime is found.
    #[arg(long, default_value_t = RuntimeKind::Auto)]
    runtime: RuntimeKind,
    /// The libonnxruntime.so to load; without it GRAFTD_ORT_LIB, lib/ and the system are searched.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
    /// Threads; 0 takes one per core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

impl RuntimeArgs {
    /// Which runtime.
    pub fn choice(&self) -> RuntimeChoice {
        RuntimeChoice { kind: self.runtime, library: self.ort_lib.clone() }
    }

    /// Opens the runtime.
    pub fn open(&self) -> Result<Box<dyn Runtime>, Failure> {
        Ok(runtime::open(&self.choice())?)
    }

    /// How sessions are built.
    pub fn session(&self) -> SessionOptions {
        SessionOptions { threads: self.threads }
    }
}
