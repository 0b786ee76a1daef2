//! Samples, labels, models and the outbox on disk.
