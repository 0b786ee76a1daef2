//! A model file, from its bytes to the parts that it is cut into.
#![no_main]

use graftd::onnx::Model;
use graftd::yolo::backbone::input_size;
use graftd::yolo::cut::{self, Cut};
use graftd::yolo::export::Export;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::parse(bytes) else { return };
    let Ok(export) = Export::new(model) else { return };
    let Ok(size) = input_size(&export, None) else { return };
    for chooses in [&cut::last as cut::Chooses, &cut::whole_head] {
        let _ = Cut::new(&export, chooses, size);
    }
});
