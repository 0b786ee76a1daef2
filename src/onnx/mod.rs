//! An ONNX graph in memory: read, check, infer shapes, edit, build, write.
//!
//! ```
//! use graftd::onnx::{GraphBuilder, Model};
//!
//! let mut graph = GraphBuilder::new("double");
//! let x = graph.input("x", &[2, 3]);
//! let y = graph.op("Add", &[&x, &x], &[])?;
//! graph.output(&y, "y")?;
//! let bytes = graph.finish().encode();
//! assert_eq!(Model::parse(&bytes)?.graph().node.len(), 2);
//! # Ok::<(), graftd::onnx::OnnxError>(())
//! ```

pub mod attributes;
mod build;
mod fresh;
mod links;
mod model;
pub mod proto;
mod shapes;
pub mod values;

pub use build::GraphBuilder;
pub(crate) use build::float_value_info;
pub use fresh::FreshNames;
pub use links::Links;
pub use model::Model;
pub use shapes::infer_shapes;
pub(crate) use shapes::wrapped;

use std::path::PathBuf;

/// Why a file or graph can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no ONNX file.
    #[error("this is not an ONNX file ({reason}); give the .onnx that the exporter wrote")]
    NotOnnx {
        /// What gave it away.
        reason: String,
    },
    /// The bytes begin like an ONNX file but don't end like one.
    #[error("this ONNX file is truncated or damaged ({reason}); copy or export it again")]
    Damaged {
        /// What the decoder stumbled over.
        reason: String,
    },
    /// The graph contradicts itself or uses something that graftd can't read.
    #[error("this ONNX graph can't be used: {reason}")]
    Invalid {
        /// What is wrong, with the name of the node or tensor.
        reason: String,
    },
}

impl OnnxError {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        OnnxError::Invalid { reason: reason.into() }
    }
}
