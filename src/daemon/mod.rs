//! The running service: wires the rooms together.
