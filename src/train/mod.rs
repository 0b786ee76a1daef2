//! Features cached once, the training loop, the promotion gate.
