//! Features cached once, the training loop, the promotion gate.

mod event;
mod options;

pub use event::{EpochLoss, TrainEvent};
pub use options::{Scope, TrainOptions, UnknownScope};
