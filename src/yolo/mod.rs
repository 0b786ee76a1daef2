//! What a YOLO is: recognise an export, cut it, letterbox, decode, assign, loss, metrics.

pub mod assign;
pub mod backbone;
mod bce;
mod box_places;
pub mod criterion;
pub mod cut;
pub mod decode;
pub mod detection;
pub mod distil;
pub mod export;
pub mod geometry;
pub mod graft;
pub mod grow;
pub mod letterbox;
pub mod look;
pub mod maps;
pub mod metrics;
pub mod names;
pub mod nms;
mod pooled;
mod unshare;
