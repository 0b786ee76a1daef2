//! Is this frame worth keeping?
