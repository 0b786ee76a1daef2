//! Runs an ONNX graph, on ONNX Runtime when a libonnxruntime is found, else on tract.
//!
//! The rest of the crate sees two traits: a [`Runtime`] loads model bytes into a [`Session`], a
//! session maps [`Value`]s to [`Value`]s. A value may stay inside its runtime's memory: outputs of
//! one session go into the next without a copy.

use std::fmt;

use crate::tensor::Tensor;

/// What a session takes and gives: a tensor of `f32`, held by the host or by the runtime.
pub struct Value(pub(crate) ValueKind);

pub(crate) enum ValueKind {
    Host(Tensor),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value{:?}", self.shape())
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Value(ValueKind::Host(tensor))
    }
}

impl Value {
    /// The length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        match &self.0 {
            ValueKind::Host(tensor) => tensor.shape().to_vec(),
        }
    }

    /// The values, row-major, without a copy.
    pub fn data(&self) -> &[f32] {
        match &self.0 {
            ValueKind::Host(tensor) => tensor.data(),
        }
    }

    /// A copy that the host owns.
    pub fn to_tensor(&self) -> Tensor {
        Tensor::new(self.shape(), self.data().to_vec())
    }
}

/// How a session should be built.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Threads for one operator; 0 lets the runtime choose.
    pub threads: usize,
}

/// A way to run ONNX graphs on this machine.
pub trait Runtime: Send + Sync {
    /// `ort` or `tract`.
    fn name(&self) -> &'static str;
    /// For people: name, version and where the library lies.
    fn describe(&self) -> String;
    /// Loads a serialised ONNX model.
    ///
    /// # Errors
    /// When the runtime refuses the model.
    fn load(&self, model: &[u8], options: &SessionOptions) -> Result<Box<dyn Session>, RuntimeError>;
}

/// A loaded graph. All inputs and outputs are `f32`.
pub trait Session: Send {
    /// Names of the inputs, in the order that [`Session::run`] wants them.
    fn inputs(&self) -> &[String];
    /// Names of the outputs, in the order that [`Session::run`] gives them.
    fn outputs(&self) -> &[String];
    /// Runs the graph once.
    ///
    /// # Errors
    /// When a shape does not fit or the runtime fails.
    fn run(&mut self, inputs: &[&Value]) -> Result<Vec<Value>, RuntimeError>;
}

/// Why a runtime could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime said no to a graph or a run.
    #[error("{runtime}: {message}")]
    Refused {
        /// `ort` or `tract`.
        runtime: &'static str,
        /// What it said.
        message: String,
    },
}
