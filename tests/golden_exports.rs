//! Every supported export, cut and put together again, gives what the file itself gives; every
//! other export is refused with a reason.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use graftd::grad::gradient_graph;
use graftd::onnx::Model;
use graftd::runtime::{self, RuntimeChoice, RuntimeKind, SessionOptions, Value};
use graftd::tensor::Tensor;
use graftd::yolo::cut::{self, Cut, MapSource};
use graftd::yolo::export::{Export, ExportError};
use support::recompose::{own_detections, row_difference, rows_of_output};
use support::{Npz, goldens, index, relative_difference};

const TOLERANCE: f32 = 1e-4;

fn files() -> Vec<serde_json::Value> {
    index("exports")["files"].as_array().unwrap().clone()
}

fn name(file: &serde_json::Value) -> &str {
    file["file"].as_str().unwrap()
}

fn trainable(file: &serde_json::Value) -> bool {
    file["verdict"] == "supported"
}

#[test]
fn golden_exports_are_recognised_as_what_they_are() {
    let mut n_trainable = 0;
    for file in files().iter().filter(|file| trainable(file)) {
        let export = Export::read(&goldens("exports").join(name(file)))
            .unwrap_or_else(|error| panic!("{}: {error}", name(file)));
        n_trainable += 1;
        assert_eq!(export.family, file["family"].as_str().unwrap(), "{}", name(file));
        assert_eq!(export.reg_max as u64, file["reg_max"].as_u64().unwrap(), "{}", name(file));
        assert_eq!(export.one_to_one, file["branch"] == "one2one", "{}", name(file));
        assert_eq!(export.classes.len() as u64, file["nc"].as_u64().unwrap(), "{}", name(file));
        let levels = file["head_levels"].as_array().unwrap();
        assert_eq!(export.levels.len(), levels.len(), "{}", name(file));
        for (i, (level, expected)) in export.levels.iter().zip(levels).enumerate() {
            assert_eq!(level.stride as u64, expected["stride"].as_u64().unwrap(), "{}", name(file));
            assert_eq!(level.channels as u64, expected["in_channels"].as_u64().unwrap(), "{}", name(file));
            assert_eq!(level.box_map, file["tensors"]["box"][i]["name"].as_str().unwrap());
            assert_eq!(level.class_map, file["tensors"]["cls"][i]["name"].as_str().unwrap());
        }
    }
    assert!(n_trainable >= 12, "only {n_trainable} exports were tried");
}

/// What the names of parameters tell, the graph tells without them.
#[test]
fn golden_exports_are_recognised_without_their_names() {
    for file in files().iter().filter(|file| trainable(file)) {
        let path = goldens("exports").join(name(file));
        let named = Export::read(&path).unwrap();
        let mut model = Model::read(&path).unwrap();
        forget_names(&mut model);
        let nameless = Export::new(model).unwrap_or_else(|error| panic!("{}: {error}", name(file)));
        assert_eq!(nameless.convs, named.convs, "{}", name(file));
        assert_eq!(nameless.one_to_one, named.one_to_one, "{}", name(file));
        assert_eq!(nameless.reg_max, named.reg_max, "{}", name(file));
        assert_eq!(nameless.classes.len(), named.classes.len(), "{}", name(file));
        let levels = |export: &Export| -> Vec<(usize, usize)> {
            export.levels.iter().map(|level| (level.stride, level.channels)).collect()
        };
        assert_eq!(levels(&nameless), levels(&named), "{}", name(file));
    }
}

/// Numbers for the names of constants and nodes, and no metadata but the picture's size.
fn forget_names(model: &mut Model) {
    model.proto_mut().metadata_props.retain(|entry| entry.key() == "imgsz");
    let graph = model.graph_mut();
    let numbers: std::collections::HashMap<String, String> = graph
        .initializer
        .iter()
        .enumerate()
        .map(|(index, tensor)| (tensor.name().to_owned(), format!("c{index}")))
        .collect();
    for tensor in &mut graph.initializer {
        tensor.name = Some(numbers[tensor.name()].clone());
    }
    for node in &mut graph.node {
        node.name = None;
        for input in &mut node.input {
            if let Some(number) = numbers.get(input) {
                input.clone_from(number);
            }
        }
    }
}

/// graftd's own decoding of the stored raw maps gives the rows that the file gave.
#[test]
fn golden_one_to_one_rows_are_decoded() {
    let mut n_files = 0;
    for file in files().iter().filter(|file| trainable(file) && file["branch"] == "one2one") {
        let export = Export::read(&goldens("exports").join(name(file))).unwrap();
        let mut golden = Npz::open(&goldens("exports").join(file["npz"].as_str().unwrap()));
        let maps: Vec<(Tensor, Tensor)> = (0..export.levels.len())
            .map(|level| (golden.tensor(&format!("box.{level}")), golden.tensor(&format!("cls.{level}"))))
            .collect();
        let rows = rows_of_output(&golden.tensor("out.output0"), 0, export.classes.len(), 300);
        let decoded = own_detections(&export, &maps, export.input.size, 0, 300);
        assert_eq!(decoded.len(), rows.len(), "{}", name(file));
        let (pixels, score) = row_difference(&rows, &decoded);
        assert!(pixels < 0.02 && score < TOLERANCE, "{}: {pixels} px, score {score}", name(file));
        n_files += 1;
    }
    assert!(n_files >= 2, "only {n_files} end-to-end exports were tried");
}

#[test]
fn golden_exports_that_cannot_be_trained_get_a_sentence() {
    let mut n_refused = 0;
    for file in files().iter().filter(|file| !trainable(file)) {
        match Export::read(&goldens("exports").join(name(file))) {
            Err(ExportError::NotSupported(reason)) => {
                assert!(reason.contains("export") || reason.contains("give"), "{}: {reason}", name(file));
                assert!(!reason.contains('\n'), "{}: {reason}", name(file));
            }
            other => panic!("{}: {other:?}", name(file)),
        }
        n_refused += 1;
    }
    assert!(n_refused >= 5, "only {n_refused} files were refused");
}

fn cut_and_compare(kind: RuntimeKind, file: &serde_json::Value, scope: cut::Chooses, scope_name: &str) {
    let runtime =
        runtime::open(&RuntimeChoice { kind, library: None }).unwrap_or_else(|error| panic!("{error}"));
    let context = format!("{} {scope_name} on {}", name(file), runtime.name());
    let export = Export::read(&goldens("exports").join(name(file))).unwrap();
    let mut golden = Npz::open(&goldens("exports").join(file["npz"].as_str().unwrap()));
    let images = golden.tensor("images");
    let batch = images.shape()[0];
    let values = |golden: &mut Npz, name: &str| {
        if export.half { golden.half_values(name) } else { golden.tensor(name).into_data() }
    };
    // A float16 file rounds each operator's output to half precision; graftd computes its backbone in
    // float32, and the difference is the file's own rounding. Where the file's own output moves by
    // much when a runtime optimises the graph (yolov9t, by 0.04 px), its maps move with it.
    let moves = file["max_abs_difference_of_out_when_optimised"].as_f64().unwrap() > 0.01;
    let tolerance = if export.half {
        5e-2
    } else if moves {
        5.0 * TOLERANCE
    } else {
        TOLERANCE
    };

    let size = (images.shape()[2], images.shape()[3]);
    let cut = Cut::new(&export, scope, size).unwrap();
    let mut backbone = runtime
        .load(&cut.backbone.encode(), &SessionOptions::default())
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    let images: Value = images.into();
    let features = backbone.run(&[&images]).unwrap_or_else(|error| panic!("{context}: {error}"));
    // What the same runtime makes of the uncut file: whatever it does to the numbers, cutting adds nothing.
    let whole = Cut::new(&export, &|_, _| false, size).unwrap();
    let uncut = runtime.load(&whole.backbone.encode(), &SessionOptions::default()).unwrap().run(&[&images]);
    let uncut = uncut.unwrap_or_else(|error| panic!("{context}: {error}"));
    if scope_name == "head" {
        for (i, feature) in features.iter().enumerate() {
            let name = &cut.features[i];
            let level = file["tensors"]["feats"]
                .as_array()
                .unwrap()
                .iter()
                .position(|feat| feat["name"] == name.as_str());
            let level = level.unwrap_or_else(|| panic!("{context}: {name} is no feature"));
            let expected = values(&mut golden, &format!("feats.{level}"));
            let difference = relative_difference(feature.data(), &expected);
            assert!(difference < tolerance, "{context}: {name} is off by {difference}");
        }
    }

    let shapes: Vec<Vec<usize>> = features.iter().map(Value::shape).collect();
    let subgraph = cut.subgraph(batch, &shapes);
    let compiled = gradient_graph(&subgraph).unwrap_or_else(|error| panic!("{context}: {error}"));
    let weights: Value =
        Tensor::new([compiled.layout.count()], compiled.layout.gather(&subgraph).unwrap()).into();
    assert_eq!(compiled.layout.count(), cut.n_parameters());
    let mut forward = runtime
        .load(&compiled.forward.encode(), &SessionOptions::default())
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut inputs: Vec<&Value> = features[..cut.n_head_inputs].iter().collect();
    inputs.push(&weights);
    let maps = forward.run(&inputs).unwrap_or_else(|error| panic!("{context}: {error}"));
    let map = |source: MapSource| match source {
        MapSource::Head(i) => &maps[i],
        MapSource::Backbone(i) => &features[i],
    };
    for (level, (&(boxes, classes), &(all_boxes, all_classes))) in
        cut.maps.iter().zip(&whole.maps).enumerate()
    {
        for (source, uncut_source, kind) in [(boxes, all_boxes, "box"), (classes, all_classes, "cls")] {
            let MapSource::Backbone(index) = uncut_source else { panic!("{context}: nothing is trained") };
            let difference = relative_difference(map(source).data(), uncut[index].data());
            assert!(difference < TOLERANCE, "{context}: {kind}.{level} is {difference} from the uncut file");
            let expected = values(&mut golden, &format!("{kind}.{level}"));
            let difference = relative_difference(map(source).data(), &expected);
            assert!(difference < tolerance, "{context}: {kind}.{level} is off by {difference}");
        }
    }
}

#[test]
fn golden_exports_recompose_in_every_scope() {
    for file in files().iter().filter(|file| trainable(file)) {
        cut_and_compare(RuntimeKind::Ort, file, &cut::last, "last");
        cut_and_compare(RuntimeKind::Ort, file, &cut::class_branch, "cls");
        cut_and_compare(RuntimeKind::Ort, file, &cut::whole_head, "head");
    }
}

#[test]
fn golden_exports_recompose_on_tract() {
    for file in files().iter().filter(|file| trainable(file)) {
        cut_and_compare(RuntimeKind::Tract, file, &cut::whole_head, "head");
    }
}
