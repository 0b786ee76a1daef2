//! Reverse-mode differentiation, from ONNX to ONNX.
//!
//! A [`Subgraph`] (part of a model, with the constants that shall be trained) becomes three graphs of
//! standard operators:
//!
//! - **forward**: features and weights in; outputs out, and with them the *stash*, the intermediate
//!   values that the way back will need;
//! - **backward**: d(loss)/d(outputs), the stash, the weights and the gradient so far in; the gradient
//!   with this part of the batch added out;
//! - **update**: the batch's gradient, the weights and the optimiser's moments in; updated weights and
//!   moments out.
//!
//! The loss itself stays outside, between the first two. All trained constants lie one after another in
//! one flat tensor ([`ParameterLayout`]), so that an optimiser is a dozen operators however many
//! layers there are.
//!
//! The method is plain reverse accumulation: nodes are visited from last to first, and each
//! operator's rule (one file each in `rules/`) adds to its inputs' gradients what its outputs'
//! gradients imply. Values that no trained constant reaches get no gradient. A gradient that is zero in
//! most places of its map may travel as *rows* instead ([`compile_sparse`]).

mod backward;
mod compile;
#[cfg(test)]
mod finite;
mod forward_at;
mod layout;
mod optimizer;
#[cfg(test)]
mod reference;
mod rows;
mod rules;
mod sparse;
mod subgraph;
mod writer;

pub use compile::{Compiled, GradientGraph, compile, compile_sparse, gradient_graph};
pub use forward_at::ForwardAt;
pub use layout::{Parameter, ParameterLayout};
pub use optimizer::{Optimizer, Schedule};
pub use rows::Rows;
pub use subgraph::Subgraph;

use crate::onnx::OnnxError;

/// Why a subgraph can't be differentiated.
#[derive(Debug, thiserror::Error)]
pub enum GradError {
    /// No rule for this operator.
    #[error(
        "node {node:?}: graftd has no derivative for the operator {op_type}; \
         choose a scope that does not reach it"
    )]
    NoRule {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
    },
    /// A rule exists but not for this form of the operator.
    #[error("node {node:?}: no derivative for this form of {op_type}: {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// Which form.
        reason: String,
    },
    /// No trained constant reaches any output.
    #[error("nothing to train: none of the chosen constants reaches an output")]
    NothingToTrain,
    /// The graph is inconsistent.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}
