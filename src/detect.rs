//! Runs a model on a frame.
