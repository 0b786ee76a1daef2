//! `onnx.checker` accepts every graph that graftd writes for the supported exports: backbone, forward,
//! backward and update for each scope, and the grafted drop-in.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::process::Command;

use graftd::grad::{Optimizer, compile};
use graftd::runtime::SessionOptions;
use graftd::train::step_graphs;
use graftd::yolo::backbone::{Backbone, input_size};
use graftd::yolo::cut::{self, Cut};
use graftd::yolo::export::Export;
use graftd::yolo::graft::graft;
use support::{goldens, index, python, runtimes};

#[test]
fn the_checker_accepts_every_graph() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: String, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let runtime = &runtimes()[0];
    let mut written = 0;
    for entry in index("exports")["files"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let Ok(export) = Export::read(&goldens("exports").join(file)) else { continue };
        let size = input_size(&export, Some(160)).or_else(|_| input_size(&export, None)).unwrap();
        let stem = file.trim_end_matches(".onnx");
        let scopes: [(&str, cut::Chooses, Optimizer); 3] = [
            ("last", &cut::last, Optimizer::SgdNesterov { momentum: 0.9 }),
            ("cls", &cut::class_branch, Optimizer::adamw()),
            ("head", &cut::whole_head, Optimizer::adamw()),
        ];
        for (scope, chooses, optimizer) in scopes {
            let cut = Cut::new(&export, chooses, size).unwrap();
            let backbone =
                Backbone::load(&export, &cut, size, &**runtime, &SessionOptions::default()).unwrap();
            let subgraph = cut.subgraph(2, backbone.shapes());
            let compiled = compile(&subgraph, optimizer).unwrap();
            write(format!("{stem}.{scope}.backbone.onnx"), &cut.backbone.encode());
            write(format!("{stem}.{scope}.forward.onnx"), &compiled.forward.encode());
            write(format!("{stem}.{scope}.backward.onnx"), &compiled.backward.encode());
            write(format!("{stem}.{scope}.update.onnx"), &compiled.update.encode());
            // What a runtime that counts lengths trains with.
            let by_rows = step_graphs(&cut, &subgraph, &**runtime).unwrap();
            assert_eq!(by_rows.forward_at.is_some(), scope != "cls", "boxes go by rows");
            if let Some(graphs) = by_rows.forward_at {
                write(format!("{stem}.{scope}.rows.backward.onnx"), &by_rows.backward.encode());
                write(format!("{stem}.{scope}.rest.onnx"), &graphs.rest.encode());
                write(format!("{stem}.{scope}.at.onnx"), &graphs.at.encode());
                written += 3;
            }
            let weights = compiled.layout.gather(&subgraph).unwrap();
            let model = graft(&export, &compiled.layout, &weights).unwrap();
            write(format!("{stem}.{scope}.grafted.onnx"), &model.encode());
            written += 5;
        }
    }
    assert!(written >= 5 * 3 * 5, "only {written} graphs");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_onnx.py");
    let output = Command::new(python()).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
