//! Features cached once, the training loop, the promotion gate.
//!
//! [`fine_tune`] is the whole of it: the base is cut in two, every view of every sample goes through
//! the frozen part once, epochs train the head on what the cache holds, the best epoch becomes a
//! drop-in, and the gate compares both on the hold-out.

mod cache;
mod classes;
mod error;
mod event;
mod features;
mod gate;
mod head;
mod options;
mod resources;
mod run;
mod schedule;
mod set;
mod views;

pub use cache::CacheError;
pub use classes::ClassChanges;
pub use error::TrainError;
pub use event::{EpochLoss, TrainEvent};
pub use gate::{Verdict, judge};
pub use options::{MAX_BATCH, MAX_VIEWS, Scope, TrainOptions, UnknownScope};
pub use resources::{cpu_seconds, peak_rss_mb};
pub use run::{Outcome, fine_tune};
pub use set::{ClassesError, TrainingSet, UnknownClasses, renumber};
pub use views::Turns;
