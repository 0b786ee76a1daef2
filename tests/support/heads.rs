//! Runs a model's head on features that a test may change, and measures what comes out.

use graftd::dataset::Example;
use graftd::grad::{Optimizer, compile};
use graftd::picture::Picture;
use graftd::runtime::{Runtime, SessionOptions, Value};
use graftd::tensor::Tensor;
use graftd::yolo::backbone::{Backbone, head_shape};
use graftd::yolo::cut::{self, Cut, MapSource};
use graftd::yolo::decode::detections_of_maps;
use graftd::yolo::export::Export;
use graftd::yolo::letterbox::{Fit, letterbox};
use graftd::yolo::maps::RawMaps;
use graftd::yolo::metrics::{Evaluation, Evaluator, TruthBox};
use graftd::yolo::nms::Keep;

/// Measures a model whose whole head reads features that `change` has been at: (values, channels).
pub fn evaluate(
    export: &Export,
    examples: &[Example],
    runtime: &dyn Runtime,
    mut change: impl FnMut(&mut [f32], usize),
) -> Evaluation {
    let (size, options) = (export.input.size, SessionOptions { threads: 1 });
    let cut = Cut::new(export, &cut::whole_head, size).unwrap();
    let mut backbone = Backbone::load(export, &cut, size, runtime, &options).unwrap();
    let shapes = backbone.shapes().to_vec();
    let subgraph = cut.subgraph(1, &shapes);
    let compiled = compile(&subgraph, Optimizer::adamw()).unwrap();
    let weights = compiled.layout.gather(&subgraph).unwrap();
    let weights: Value = Tensor::new([weights.len()], weights).into();
    let mut forward = runtime.load(&compiled.forward.encode(), &options).unwrap();
    let shape = head_shape(export, size);
    let mut evaluator = Evaluator::new(&export.classes);
    for example in examples {
        let picture = Picture::open(&example.picture).unwrap();
        let mut input = Tensor::zeros([1, 3, size.0, size.1]);
        let placed = letterbox(&picture, size, Fit::Exact, input.data_mut());
        let features: Vec<Value> = backbone
            .run(input)
            .unwrap()
            .iter()
            .zip(&shapes)
            .map(|(value, shape)| {
                let mut values = value.data().to_vec();
                change(&mut values, shape[1]);
                Tensor::new(shape.clone(), values).into()
            })
            .collect();
        let inputs: Vec<&Value> = features[..cut.n_head_inputs].iter().chain([&weights]).collect();
        let outputs = forward.run(&inputs).unwrap();
        let data = |source: &MapSource| match *source {
            MapSource::Head(index) => outputs[index].data(),
            MapSource::Backbone(index) => features[index].data(),
        };
        let maps = RawMaps {
            batch: 1,
            boxes: cut.maps.iter().map(|(boxes, _)| data(boxes)).collect(),
            classes: cut.maps.iter().map(|(_, classes)| data(classes)).collect(),
        };
        let mut found = detections_of_maps(&shape, &maps, 0, &Keep::to_measure());
        for detection in &mut found {
            [detection.x1, detection.y1, detection.x2, detection.y2] = placed.to_picture(detection.corners());
        }
        let truth: Vec<TruthBox> = example
            .labels
            .iter()
            .map(|label| TruthBox {
                class: label.class,
                corners: label.to_pixels(picture.width(), picture.height()),
            })
            .collect();
        evaluator.add(&found, &truth);
    }
    evaluator.finish()
}

/// Features as the feature cache keeps them.
pub fn in_half(values: &mut [f32], _channels: usize) {
    values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
}

/// Features as the replay memory keeps them: from the cache, in 8 bits.
pub fn in_eight_bits(values: &mut [f32], channels: usize) {
    in_half(values, channels);
    let mut bytes = Vec::new();
    graftd::train::quantise::encode(values, channels, &mut bytes).unwrap();
    graftd::train::quantise::decode(&bytes, channels, values);
}
