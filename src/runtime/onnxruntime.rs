//! ONNX Runtime, from a libonnxruntime loaded at run time.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::TensorRef;

use super::value::{Holder, Value};
use super::{Runtime, RuntimeError, Session, SessionOptions, telemetry};

const NAME: &str = "ort";

/// The library and the environment that lives in it. A process has one, whichever was loaded first.
static LOADED: OnceLock<Result<Loaded, String>> = OnceLock::new();

struct Loaded {
    environment: Environment,
    path: PathBuf,
}

/// ONNX Runtime.
pub(super) struct Ort {
    loaded: &'static Loaded,
}

impl Ort {
    /// Loads the library. A process can hold one ONNX Runtime: a second path is served by the first.
    pub(super) fn open(path: &Path) -> Result<Self, RuntimeError> {
        let loaded = LOADED.get_or_init(|| {
            if !telemetry::is_forbidden() {
                tracing::warn!(
                    "ONNX Runtime may report its use to its makers; call forbid_telemetry first, or set \
                     ORT_DISABLE_TELEMETRY=1 and ORT_TELEMETRY_DISABLED=1"
                );
            }
            let builder = ort::init_from(path).map_err(|error| error.to_string())?;
            let environment = builder
                .with_name("graftd")
                .with_telemetry(false)
                // Warnings of ONNX Runtime are about its own optimiser; what matters comes as errors.
                .with_logger(std::sync::Arc::new(|_, _, _, _, message: &str| {
                    tracing::debug!(target: "onnxruntime", "{message}");
                }))
                .build()
                .map_err(|error| error.to_string())?;
            Ok(Loaded { environment, path: path.to_owned() })
        });
        match loaded {
            Ok(loaded) => Ok(Ort { loaded }),
            Err(message) => Err(RuntimeError::Library { path: path.to_owned(), message: message.clone() }),
        }
    }
}

impl Runtime for Ort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn describe(&self) -> String {
        format!("ONNX Runtime from {}", self.loaded.path.display())
    }

    fn takes_any_length(&self) -> bool {
        true
    }

    fn load(&self, model: &[u8], options: &SessionOptions) -> Result<Box<dyn Session>, RuntimeError> {
        let mut builder = builder(&self.loaded.environment, options)?;
        let session =
            builder.commit_from_memory(model).map_err(|error| RuntimeError::refused(NAME, error))?;
        let names = |outlets: &[ort::value::Outlet]| {
            outlets.iter().map(|outlet| outlet.name().to_owned()).collect::<Vec<_>>()
        };
        let (inputs, outputs) = (names(session.inputs()), names(session.outputs()));
        Ok(Box::new(Graph { session, inputs, outputs }))
    }
}

fn builder(environment: &Environment, options: &SessionOptions) -> Result<SessionBuilder, RuntimeError> {
    let refuse = |error: String| RuntimeError::refused(NAME, error);
    let mut builder = OrtSession::builder(environment)
        .map_err(|error| refuse(error.to_string()))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| refuse(error.to_string()))?
        // Idle worker threads that spin would burn a core of a daemon that mostly waits.
        .with_intra_op_spinning(false)
        .map_err(|error| refuse(error.to_string()))?
        // A planned block for all intermediate values at once holds a third more than they need one after
        // the other (training a head at 416: 1,116 MB against 775), and saves no time.
        .with_memory_pattern(false)
        .map_err(|error| refuse(error.to_string()))?;
    if options.threads > 0 {
        builder = builder.with_intra_threads(options.threads).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(builder)
}

struct Graph {
    session: OrtSession,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Session for Graph {
    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[&Value]) -> Result<Vec<Value>, RuntimeError> {
        let refuse = |error: ort::Error| RuntimeError::refused(NAME, error);
        let feeds = inputs
            .iter()
            .map(|value| -> Result<SessionInputValue<'_>, ort::Error> {
                match &value.0 {
                    Holder::Ort(tensor) => Ok(tensor.into()),
                    _ => Ok(TensorRef::from_array_view((value.shape(), value.data()))?.into()),
                }
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(refuse)?;
        let outputs = self.session.run(feeds.as_slice()).map_err(refuse)?;
        outputs
            .into_iter()
            .map(|(name, value)| {
                value
                    .downcast::<ort::value::TensorValueType<f32>>()
                    .map(|tensor| Value(Holder::Ort(tensor)))
                    .map_err(|error| {
                        RuntimeError::refused(NAME, format!("output {name:?} is no f32 tensor: {error}"))
                    })
            })
            .collect()
    }
}
