//! An export, cut and put together again, against what the file itself puts out.

use std::collections::HashSet;

use graftd::grad::gradient_graph;
use graftd::onnx::proto::{
    DimensionProto, GraphProto, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    data_type,
};
use graftd::onnx::{Links, Model, attributes};
use graftd::runtime::{Runtime, SessionOptions, Value};
use graftd::tensor::Tensor;
use graftd::yolo::backbone::head_shape;
use graftd::yolo::cut::{Chooses, Cut, MapSource};
use graftd::yolo::decode::detections_of_maps;
use graftd::yolo::export::Export;
use graftd::yolo::graft::graft;
use graftd::yolo::maps::RawMaps;
use graftd::yolo::nms::Keep;

/// A cut and recomposed export with the weights of a scope changed.
pub struct Recomposed {
    /// Raw maps: per level boxes and classes.
    pub maps: Vec<(Tensor, Tensor)>,
    /// The drop-in with these weights.
    pub drop_in: Model,
}

/// Cuts, changes the trained weights, and runs both parts.
pub fn recompose(
    export: &Export,
    scope: Chooses,
    change: impl Fn(f32) -> f32,
    runtime: &dyn Runtime,
    images: &Value,
) -> Result<Recomposed, String> {
    let fail = |error: &dyn std::fmt::Display| error.to_string();
    let shape = images.shape();
    let cut = Cut::new(export, scope, (shape[2], shape[3])).map_err(|error| fail(&error))?;
    let load = |model: &Model| runtime.load(&model.encode(), &SessionOptions::default());
    let mut backbone = load(&cut.backbone).map_err(|error| fail(&error))?;
    let features = backbone.run(&[images]).map_err(|error| fail(&error))?;
    let shapes: Vec<Vec<usize>> = features.iter().map(Value::shape).collect();
    let subgraph = cut.subgraph(shape[0], &shapes);
    let compiled = gradient_graph(&subgraph).map_err(|error| fail(&error))?;
    assert_eq!(compiled.layout.count(), cut.n_parameters());
    let weights = compiled.layout.gather(&subgraph).map_err(|error| fail(&error))?;
    let weights: Vec<f32> = weights.into_iter().map(change).collect();
    let drop_in = graft(export, &compiled.layout, &weights).map_err(|error| fail(&error))?;
    let weights: Value = Tensor::new([compiled.layout.count()], weights).into();
    let mut forward = load(&compiled.forward).map_err(|error| fail(&error))?;
    let mut inputs: Vec<&Value> = features[..cut.n_head_inputs].iter().collect();
    inputs.push(&weights);
    let maps = forward.run(&inputs).map_err(|error| fail(&error))?;
    let map = |source: MapSource| match source {
        MapSource::Head(i) => maps[i].to_tensor(),
        MapSource::Backbone(i) => features[i].to_tensor(),
    };
    let maps = cut.maps.iter().map(|&(boxes, classes)| (map(boxes), map(classes))).collect();
    Ok(Recomposed { maps, drop_in })
}

/// What the file makes of raw maps: the part of it behind them, fed with these. Outputs that don't
/// depend on the maps are left out.
pub fn outputs_of_maps(
    export: &Export,
    maps: &[(Tensor, Tensor)],
    runtime: &dyn Runtime,
    images: &Value,
) -> Result<Vec<(String, Tensor)>, String> {
    let graph = export.model().graph();
    let links = Links::new(graph);
    let names: Vec<&str> =
        export.levels.iter().flat_map(|level| [level.box_map.as_str(), level.class_map.as_str()]).collect();
    let given: HashSet<&str> = names.iter().copied().collect();
    let behind = |name: &str| given.contains(name) || reaches(&links, name, &given);
    let wanted: Vec<&ValueInfoProto> = graph.output.iter().filter(|output| behind(output.name())).collect();
    let outputs: Vec<&str> = wanted.iter().map(|output| output.name()).collect();
    let mut node: Vec<NodeProto> = Vec::new();
    let element = if export.half { data_type::FLOAT16 } else { data_type::FLOAT };
    for name in &names {
        node.push(NodeProto {
            input: vec![format!("{name}.given")],
            output: vec![(*name).to_owned()],
            op_type: Some("Cast".into()),
            attribute: vec![attributes::int("to", i64::from(element))],
            ..Default::default()
        });
    }
    node.extend(links.slice(&given, &outputs).into_iter().map(|index| graph.node[index].clone()));
    let read: HashSet<&str> = node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    let picture = graph.input.iter().filter(|input| read.contains(input.name()));
    let input: Vec<ValueInfoProto> =
        names.iter().map(|name| any_map(&format!("{name}.given"))).chain(picture.cloned()).collect();
    let reads_picture = input.len() > names.len();
    let tail = GraphProto {
        initializer: graph.initializer.iter().filter(|t| read.contains(t.name())).cloned().collect(),
        output: wanted.into_iter().cloned().collect(),
        name: Some("tail".into()),
        node,
        input,
        ..Default::default()
    };
    let mut proto = export.model().proto().clone();
    proto.graph = Some(tail);
    let tail = Model::from_proto(proto).map_err(|error| error.to_string())?;
    let mut session =
        runtime.load(&tail.encode(), &SessionOptions::default()).map_err(|error| error.to_string())?;
    let values: Vec<Value> =
        maps.iter().flat_map(|(boxes, classes)| [boxes.clone().into(), classes.clone().into()]).collect();
    let mut inputs: Vec<&Value> = values.iter().collect();
    if reads_picture {
        inputs.push(images);
    }
    let found = session.run(&inputs).map_err(|error| error.to_string())?;
    Ok(outputs.iter().map(|&name| name.to_owned()).zip(found.iter().map(Value::to_tensor)).collect())
}

fn reaches(links: &Links, name: &str, given: &HashSet<&str>) -> bool {
    let slice = links.slice(given, &[name]);
    slice.iter().any(|&i| links.graph().node[i].input.iter().any(|input| given.contains(input.as_str())))
}

fn any_map(name: &str) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: vec![DimensionProto::default(); 4] };
    let tensor = TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { tensor_type: Some(tensor), ..Default::default() }),
        ..Default::default()
    }
}

/// Noise of 0 to 1, always the same.
pub fn noise(shape: [usize; 4]) -> Tensor {
    let mut state = 0x2545_f491_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32
    };
    Tensor::new(shape, std::iter::repeat_with(next).take(shape.iter().product()).collect())
}

/// What graftd's own decoding finds in the maps of one picture: the surest `n` rows `x1 y1 x2 y2 score
/// class`, none suppressed.
pub fn own_detections(
    export: &Export,
    maps: &[(Tensor, Tensor)],
    size: (usize, usize),
    index: usize,
    n: usize,
) -> Vec<[f32; 6]> {
    let raw = RawMaps {
        batch: maps[0].0.shape()[0],
        boxes: maps.iter().map(|(boxes, _)| boxes.data()).collect(),
        classes: maps.iter().map(|(_, classes)| classes.data()).collect(),
    };
    let keep = Keep {
        confidence: 0.0,
        iou: f32::INFINITY,
        max_detections: n,
        multi_label: true,
        ..Keep::to_measure()
    };
    let found = detections_of_maps(&head_shape(export, size), &raw, index, &keep);
    found.iter().map(|d| [d.x1, d.y1, d.x2, d.y2, d.score, d.class as f32]).collect()
}

/// The rows `x1 y1 x2 y2 score class` of one picture in a file's own output, surest first, whether
/// the output holds such rows or a column per anchor. At most `n`, and none that is padding.
pub fn rows_of_output(output: &Tensor, index: usize, n_classes: usize, n: usize) -> Vec<[f32; 6]> {
    let &[_, rows, columns] = output.shape() else { panic!("{:?} is no output", output.shape()) };
    let picture = &output.data()[index * rows * columns..][..rows * columns];
    let mut found: Vec<[f32; 6]> = if columns == 6 && rows != 4 + n_classes {
        picture.as_chunks::<6>().0.iter().copied().filter(|row| row[4] > 0.0).collect()
    } else {
        assert_eq!(rows, 4 + n_classes, "{:?} holds no boxes and scores", output.shape());
        let at = |row: usize, anchor: usize| picture[row * columns + anchor];
        (0..n_classes * columns)
            .map(|i| {
                let (class, anchor) = (i / columns, i % columns);
                let [x, y, w, h] = [0, 1, 2, 3].map(|row| at(row, anchor));
                let (w, h) = (w / 2.0, h / 2.0);
                [x - w, y - h, x + w, y + h, at(4 + class, anchor), class as f32]
            })
            .collect()
    };
    found.sort_by(|a, b| b[4].total_cmp(&a[4]));
    found.truncate(n);
    found
}

/// The largest difference between two sets of rows, as (pixels, score). Rows of nearly equal scores
/// may stand in another order, so each looks for its like; the surest rows of one must have theirs
/// in the other and the other way round, except where scores end.
pub fn row_difference(a: &[[f32; 6]], b: &[[f32; 6]]) -> (f32, f32) {
    if !a.iter().chain(b).flatten().all(|value| value.is_finite()) {
        return (f32::INFINITY, f32::INFINITY);
    }
    let (mut pixels, mut score) = (0.0_f32, 0.0_f32);
    let last = |rows: &[[f32; 6]]| rows.last().map_or(0.0, |row| row[4]);
    let floor = last(a).max(last(b)) + 1e-4;
    for (from, to) in [(a, b), (b, a)] {
        for row in from.iter().filter(|row| row[4] > floor) {
            let off = |other: &[f32; 6]| (0..4).fold(0.0_f32, |most, i| most.max((row[i] - other[i]).abs()));
            let like = to
                .iter()
                .filter(|other| other[5] == row[5])
                .map(|other| (off(other), (other[4] - row[4]).abs()))
                .min_by(|x, y| (x.0 + 100.0 * x.1).total_cmp(&(y.0 + 100.0 * y.1)));
            let (most, by) = like.unwrap_or((f32::INFINITY, f32::INFINITY));
            (pixels, score) = (pixels.max(most), score.max(by));
        }
    }
    (pixels, score)
}
