//! Features cached once, the training loop, the promotion gate.

mod cache;
mod event;
mod options;
mod views;

pub use cache::CacheError;
pub use event::{EpochLoss, TrainEvent};
pub use options::{Scope, TrainOptions, UnknownScope};
pub use views::Turns;
