//! Is this frame worth keeping?
//!
//! A label costs somebody's time, so the frames that are kept should teach the most. A frame is worth a label
//!
//! - when the model is *unsure* of something on it (`uncertainty`),
//! - when it is *new*: unlike what is kept, as the backbone sees it (`novelty`),
//! - when it *flickers*: what was surely seen a moment ago is not there any more, or the other way round
//!   (`flicker`),
//!
//! and is worth nothing when it shows the view of a kept frame again. The best frames are kept, as many as the
//! hour's budget allows: no fixed score decides, since every model's scores lie elsewhere (`threshold`,
//! `budget`). Classes that few kept frames show count for more (`balance`). Beside these some frames are
//! kept by chance, whatever is on them, so that what is measured on kept frames tells of all frames.

mod balance;
mod budget;
mod flicker;
mod kept;
mod novelty;
mod options;
mod selector;
mod threshold;
mod uncertainty;
mod why;

pub use kept::KeptLook;
pub use options::SelectOptions;
pub use selector::Selector;
pub use why::{Seen, Why};
