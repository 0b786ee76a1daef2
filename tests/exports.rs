//! Exports of every kind that graftd claims to train, whoever wrote them: what it finds in each is
//! what is there, and cut and put together again each gives what the file itself gives.
//!
//! The shipped ones lie in `tests/data/exports`. `GRAFTD_EXPORTS` names another folder that
//! `scripts/exports.py` made, full-size networks for example; a table of all files is printed.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::{Path, PathBuf};

use graftd::onnx::Model;
use graftd::runtime::{self, Runtime, RuntimeChoice, RuntimeKind, SessionOptions, Value};
use graftd::tensor::Tensor;
use graftd::yolo::cut::{self, Chooses};
use graftd::yolo::export::{Export, ExportError};
use serde_json::Value as Json;
use support::recompose::{noise, outputs_of_maps, own_detections, recompose, row_difference, rows_of_output};
use support::relative_difference;

/// Of raw maps and outputs, relative to the largest value.
const TOLERANCE: f32 = 1e-4;
/// Of maps and boxes that the file computes in float16.
const HALF_TOLERANCE: f32 = 5e-2;
/// Of boxes that graftd decodes itself, pixels.
const PIXELS: f32 = 0.02;
/// Boxes that are compared, the surest.
const N_ROWS: usize = 300;

fn folder() -> PathBuf {
    std::env::var_os("GRAFTD_EXPORTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/exports"), PathBuf::from)
}

/// Name and expectation of each file.
fn files() -> Vec<(String, Json)> {
    let path = folder().join("exports.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let index: Json = serde_json::from_str(&text).unwrap();
    index["files"].as_object().unwrap().iter().map(|(name, file)| (name.clone(), file.clone())).collect()
}

fn open(kind: RuntimeKind) -> Box<dyn Runtime> {
    runtime::open(&RuntimeChoice { kind, library: None }).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the file is what its maker says. Its largest difference, or that it was refused as it
/// should be.
fn check(name: &str, expected: &Json, runtime: &dyn Runtime) -> Result<Option<f32>, String> {
    let export = Export::read(&folder().join(name));
    if let Some(word) = expected["reject"].as_str() {
        return match export {
            Err(ExportError::NotSupported(reason)) if reason.contains(word) && !reason.contains('\n') => {
                Ok(None)
            }
            Err(error) => Err(format!("refused without {word:?}: {error}")),
            Ok(_) => Err("taken, but it should be refused".into()),
        };
    }
    let export = export.map_err(|error| format!("refused: {error}"))?;
    let strides: Vec<usize> = export.levels.iter().map(|level| level.stride).collect();
    let found = serde_json::json!({
        "classes": export.classes.len(),
        "reg_max": export.reg_max,
        "strides": strides,
        "one_to_one": export.one_to_one,
        "half": export.half,
        "batch": export.input.batch,
        "size": [export.input.size.0, export.input.size.1],
    });
    for (key, value) in found.as_object().unwrap() {
        // Without metadata a file with free axes says nothing of its size.
        let free = key == "size" && export.input.fixed.is_none();
        if value != &expected[key] && !free {
            return Err(format!("its {key} is {}, not {value}", expected[key]));
        }
    }
    compare(&export, runtime).map(Some)
}

/// The largest difference between the file and what is cut and put together again, in every scope and
/// with other weights in the whole head.
fn compare(export: &Export, runtime: &dyn Runtime) -> Result<f32, String> {
    // Another size than it was made for, where the file leaves the choice. No smaller one: a one-to-one
    // file picks a number of anchors that must be there.
    let coarsest = export.levels.iter().map(|level| level.stride).max().unwrap();
    let (height, width) = export.input.size;
    let size = export.input.fixed.unwrap_or((height, width + coarsest));
    // Where the file leaves the batch free, backbones take one picture at a time.
    let batch = export.input.batch.unwrap_or(1);
    let images: Value = noise([batch, 3, size.0, size.1]).into();
    let own = run_file(export.model(), runtime, &images)?;
    let mut worst = 0.0_f32;
    let scopes: [(&str, Chooses); 3] =
        [("last", &cut::last), ("cls", &cut::class_branch), ("head", &cut::whole_head)];
    for (scope, chooses) in scopes {
        let recomposed = recompose(export, chooses, |weight| weight, runtime, &images)?;
        let difference = from_file(export, &recomposed.maps, &own, runtime, &images);
        worst = worst.max(difference.map_err(|error| format!("scope {scope}: {error}"))?);
        let (_, output) = &own[0];
        // A tail that suppresses keeps other boxes than all, and raw maps are compared above.
        if scope == "head" && output.shape().len() == 3 && !suppresses(export) && !export.half {
            for index in 0..batch {
                let rows = rows_of_output(output, index, export.classes.len(), N_ROWS);
                // A one-to-one file gives no more rows than it had anchors when it was exported.
                let decoded = own_detections(export, &recomposed.maps, size, index, rows.len());
                let (pixels, score) = row_difference(&rows, &decoded);
                if pixels > PIXELS || score > TOLERANCE {
                    return Err(format!("decoded boxes are off by {pixels} px, scores by {score}"));
                }
            }
        }
    }
    // The drop-in must follow the weights: each in its own place, no other moved with it.
    let change = |weight: f32| 0.9 * weight + 0.01 * (1e4 * weight).sin();
    let changed = recompose(export, &cut::whole_head, change, runtime, &images)?;
    let again = Export::new(changed.drop_in).map_err(|error| format!("the drop-in: {error}"))?;
    if again.convs != export.convs {
        return Err("the drop-in has another head".into());
    }
    let own = run_file(again.model(), runtime, &images)?;
    let difference = from_file(export, &changed.maps, &own, runtime, &images);
    Ok(worst.max(difference.map_err(|error| format!("the drop-in: {error}"))?))
}

type Outputs = Vec<(String, Tensor)>;

fn run_file(model: &Model, runtime: &dyn Runtime, images: &Value) -> Result<Outputs, String> {
    let options = SessionOptions::default();
    let mut session = runtime.load(&model.encode(), &options).map_err(|error| error.to_string())?;
    let found = session.run(&[images]).map_err(|error| error.to_string())?;
    Ok(session.outputs().iter().cloned().zip(found.iter().map(Value::to_tensor)).collect())
}

/// How far what the file makes of these maps is from what the file made.
fn from_file(
    export: &Export,
    maps: &[(Tensor, Tensor)],
    own: &Outputs,
    runtime: &dyn Runtime,
    images: &Value,
) -> Result<f32, String> {
    let outputs = outputs_of_maps(export, maps, runtime, images)?;
    if outputs.is_empty() {
        return Err("no output depends on the raw maps".into());
    }
    let tolerance = if export.half { HALF_TOLERANCE } else { TOLERANCE };
    let mut worst = 0.0_f32;
    for (name, output) in &outputs {
        let (_, expected) = own.iter().find(|(known, _)| known == name).unwrap();
        let difference = difference(export, output, expected, images.shape()[0]);
        if difference > tolerance {
            return Err(format!("output {name} is off by {difference}"));
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}

fn suppresses(export: &Export) -> bool {
    export.model().graph().node.iter().any(|node| node.op_type() == "NonMaxSuppression")
}

/// Rows of picked boxes are compared as a set, everything else number by number.
fn difference(export: &Export, found: &Tensor, expected: &Tensor, batch: usize) -> f32 {
    if !found.data().iter().chain(expected.data()).all(|value| value.is_finite()) {
        return f32::INFINITY;
    }
    if found.shape() == expected.shape() && found.shape().len() == 3 && found.shape()[2] == 6 {
        let n_classes = export.classes.len();
        let rows = |output, index| rows_of_output(output, index, n_classes, N_ROWS);
        return (0..batch).fold(0.0, |worst, index| {
            let (pixels, score) = row_difference(&rows(found, index), &rows(expected, index));
            let (height, width) = export.input.size;
            worst.max(pixels / height.max(width) as f32).max(score)
        });
    }
    relative_difference(found.data(), expected.data())
}

#[test]
fn exports_of_every_kind_recompose() {
    let runtime = open(RuntimeKind::Ort);
    let (mut failed, mut n_trained) = (Vec::new(), 0);
    let files = files();
    let width = files.iter().map(|(name, _)| name.len()).max().unwrap();
    println!("{:width$}  verdict   largest difference", "file");
    for (name, expected) in &files {
        match check(name, expected, runtime.as_ref()) {
            Ok(Some(difference)) => {
                n_trained += 1;
                println!("{name:width$}  trains    {difference:.1e}");
            }
            Ok(None) => println!("{name:width$}  refused   as it should be"),
            Err(reason) => {
                println!("{name:width$}  FAILS     {reason}");
                failed.push(name);
            }
        }
    }
    assert!(n_trained > 0, "no file was tried");
    assert!(failed.is_empty(), "{} of {} fail: {failed:?}", failed.len(), files.len());
}

/// The one-to-one head of a nameless file, as `inspect` tells it.
#[test]
fn inspect_tells_what_an_export_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/exports/tiny-e2e-nameless.onnx");
    let output = support::graftd().args(["inspect", "--json"]).arg(file).output().unwrap();
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["task"], "detect");
    assert_eq!(told["head"]["one_to_one"], true);
    assert_eq!(told["head"]["reg_max"], 1);
    assert_eq!(told["classes"].as_array().map(Vec::len), Some(2));
    assert_eq!(told["scopes"]["head"]["share"], 1.0);
    let parameters = |scope: &str| told["scopes"][scope]["parameters"].as_u64().unwrap();
    // Three levels: 8 inner channels to 4 sides and to 2 classes, each with a bias.
    assert_eq!(parameters("last"), 3 * (9 * 4 + 9 * 2));
    assert!(parameters("last") < parameters("cls") && parameters("cls") < parameters("head"));
}
