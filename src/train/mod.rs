//! Features cached once, the training loop, the promotion gate.
//!
//! [`fine_tune`] is the whole of it: the base is cut in two, every view of every sample goes through
//! the frozen part once, epochs train the head on what the cache holds, the best epoch becomes a
//! drop-in, and the gate compares both on the hold-out.

mod apart;
mod batches;
mod begun;
mod cache;
mod checkpoint;
mod classes;
mod control;
mod coverage;
mod epochs;
mod error;
mod event;
mod features;
mod forward;
mod gate;
mod guest;
mod head;
mod memory;
mod options;
mod plan;
mod prepare;
pub mod quantise;
mod rate;
mod replay;
mod resources;
mod run;
mod schedule;
mod set;
mod summed;
mod thumbnails;
mod views;

pub use begun::Begun;
pub use cache::CacheError;
pub use checkpoint::forget_checkpoint;
pub use classes::ClassChanges;
pub use control::Control;
pub use coverage::Distill;
pub use error::TrainError;
pub use event::{EpochLoss, TrainEvent};
pub use forward::are_few;
pub use gate::{Verdict, judge};
pub use guest::Guest;
pub use head::{part_size, step_graphs};
pub use memory::{Admission, Memory, MemoryError, Record};
pub use options::{MAX_BATCH, MAX_VIEWS, OutOfRange, Rate, Scope, ScopeChoice, TrainOptions, UnknownScope};
pub use resources::{cpu_seconds, peak_rss_mb, rss_mb};
pub use run::{Folders, Outcome, fine_tune};
pub use set::{ClassesError, TrainingSet, UnknownClasses, renumber};
pub use views::Turns;
