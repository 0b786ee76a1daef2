//! Runs an ONNX graph, on ONNX Runtime when a libonnxruntime is found, else on tract.
//!
//! The rest of the crate sees two traits: a [`Runtime`] loads model bytes into a [`Session`], a
//! session maps [`Value`]s to [`Value`]s. A value may stay inside its runtime's memory: outputs of
//! one session go into the next without a copy.
//!
//! ```no_run
//! use graftd::runtime::{self, RuntimeChoice, SessionOptions};
//! use graftd::tensor::Tensor;
//!
//! let runtime = runtime::open(&RuntimeChoice::default())?;
//! let model = std::fs::read("model.onnx").expect("a model");
//! let mut session = runtime.load(&model, &SessionOptions::default())?;
//! let outputs = session.run(&[&Tensor::zeros([1, 3, 320, 320]).into()])?;
//! println!("{:?}", outputs[0].shape());
//! # Ok::<(), runtime::RuntimeError>(())
//! ```

#[cfg(not(any(feature = "ort", feature = "tract")))]
compile_error!("graftd needs a runtime: build it with the feature ort, tract or both");

mod allocator;
mod choice;
#[cfg(feature = "ort")]
mod library;
#[cfg(feature = "ort")]
mod onnxruntime;
#[cfg(feature = "tract")]
mod pure;
mod telemetry;
mod value;

pub use allocator::give_memory_back;
pub use choice::{RuntimeChoice, RuntimeKind, UnknownRuntime, library, open};
pub use telemetry::forbid_telemetry;
pub use value::Value;

use std::path::PathBuf;

/// How a session should be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionOptions {
    /// Threads for one operator; 0 takes one per core.
    pub threads: usize,
}

/// A way to run ONNX graphs on this machine.
pub trait Runtime: Send + Sync {
    /// `ort` or `tract`.
    fn name(&self) -> &'static str;
    /// For people: name, version and where the library lies.
    fn describe(&self) -> String;
    /// Whether inputs may have lengths that only a run shows.
    fn takes_any_length(&self) -> bool;
    /// Loads a serialised ONNX model; its inputs have static shapes, unless the runtime takes any length.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] when the runtime can't take the model.
    fn load(&self, model: &[u8], options: &SessionOptions) -> Result<Box<dyn Session>, RuntimeError>;
}

/// A loaded graph. All its inputs and outputs are `f32`.
pub trait Session: Send {
    /// Names of the inputs, in the order that [`Session::run`] wants them.
    fn inputs(&self) -> &[String];
    /// Names of the outputs, in the order that [`Session::run`] gives them.
    fn outputs(&self) -> &[String];
    /// Runs the graph once.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] when a shape does not fit or the runtime fails.
    fn run(&mut self, inputs: &[&Value]) -> Result<Vec<Value>, RuntimeError>;
}

/// Why a runtime could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime said no to a graph or a run.
    #[error("{runtime} refused: {message}")]
    Refused {
        /// `ort` or `tract`.
        runtime: &'static str,
        /// What it said.
        message: String,
    },
    /// A libonnxruntime was named but can't be loaded.
    #[error("{}: can't be loaded as ONNX Runtime: {message}; name another libonnxruntime.so (1.24 to 1.32), or choose runtime tract", path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// ONNX Runtime was asked for and there is none.
    #[error(
        "no libonnxruntime was found ({searched}); set GRAFTD_ORT_LIB to one, run graftd-fetch-onnxruntime (in a checkout: make lib), or choose runtime tract"
    )]
    NoLibrary {
        /// Where it was looked for.
        searched: String,
    },
    /// This binary was built without the runtime.
    #[error("this graftd was built without {0}; choose another runtime or build it with that feature")]
    NotBuilt(&'static str),
}

impl RuntimeError {
    fn refused(runtime: &'static str, message: impl std::fmt::Display) -> Self {
        RuntimeError::Refused { runtime, message: message.to_string() }
    }
}
