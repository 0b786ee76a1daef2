//! # graftd
//!
//! A gardener grafts a new shoot onto a rooted stock. graftd grafts a newly trained **head** onto
//! the frozen **backbone** of an ONNX-exported YOLO, on the device itself, from the frames that the
//! device sees.
//!
//! The rooms, in reading order; each may call those below it, never those above:
//!
//! - [`cli`]: one file per subcommand: arguments in, library call, words out.
//! - [`demo`]: the whole loop on bundled pictures.
//! - [`daemon`]: the running service; wires the rooms together.
//! - [`web`]: the API over HTTP, on a Unix socket or with a token.
//! - [`mqtt`]: topics, commands, reports, and the link that empties the outbox.
//! - [`config`]: the TOML file, typed and checked.
//! - [`store`]: samples, labels, models and the outbox on disk.
//! - [`train`]: features cached once, the training loop, the promotion gate.
//! - [`detect`]: runs a model on a frame.
//! - [`select`]: is this frame worth keeping?
//! - [`dataset`]: YOLO folders with pictures and boxes.
//! - [`yolo`]: what a YOLO is: recognise an export, cut it, letterbox, decode, assign, loss, metrics.
//! - [`grad`]: reverse-mode differentiation from ONNX to ONNX; optimisers as graphs.
//! - [`runtime`]: runs an ONNX graph: ONNX Runtime or tract.
//! - [`onnx`]: an ONNX graph in memory: read, check, infer shapes, edit, build, write.
//! - [`capture`]: where frames come from.
//! - [`label`], [`picture`], [`tensor`]: the three plain values that the rooms exchange.
//! - [`files`]: files that are there whole or not at all.
//! - [`pulse`]: whether a part of the process goes on.

pub mod files;
pub mod label;
pub mod picture;
pub mod pulse;
pub mod tensor;

pub mod capture;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataset;
pub mod demo;
pub mod detect;
pub mod grad;
pub mod mqtt;
pub mod onnx;
pub mod runtime;
pub mod select;
pub mod store;
pub mod train;
pub mod web;
pub mod yolo;
