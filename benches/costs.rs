//! CPU time per picture of every stage, per scope and runtime, on one thread, and memory.
//!
//! ```sh
//! cargo bench --bench costs                       # the bundled base
//! cargo bench --bench costs -- yolo11n.onnx 320   # another export, with its side where it is free
//! ```
//!
//! Each line is measured in a process of its own, so that its memory is its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use graftd::dataset::DataSet;
use graftd::grad::Schedule;
use graftd::label::LabelBox;
use graftd::onnx::{GraphBuilder, Links, values};
use graftd::picture::Picture;
use graftd::runtime::{self, Runtime, RuntimeChoice, Session, SessionOptions, Value};
use graftd::tensor::Tensor;
use graftd::train::{Scope, are_few, cpu_seconds, part_size, peak_rss_mb, step_graphs};
use graftd::yolo::assign::Assigner;
use graftd::yolo::backbone::{Backbone, head_shape, input_size};
use graftd::yolo::criterion::{Criterion, Gains};
use graftd::yolo::cut::{self, Cut, MapSource};
use graftd::yolo::export::Export;
use graftd::yolo::letterbox::{Fit, letterbox};
use graftd::yolo::maps::RawMaps;

const BATCH: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [one, runtime, scope, model, side] = &arguments[..]
        && one == "--one"
    {
        return measure(runtime, scope.parse()?, Path::new(model), side.parse().ok());
    }
    let model = arguments.first().map_or("models/base.onnx", String::as_str);
    let side = arguments.get(1).map_or("-", String::as_str);
    println!("{model}, batches of {BATCH}, 1 thread: CPU ms per picture");
    println!(
        "| runtime | scope | decode + letterbox | backbone | head forward | criterion | head backward + update | of the GEMM peak | memory MB |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for runtime in ["ort", "tract"] {
        for scope in ["last", "cls", "head"] {
            let status = Command::new(std::env::current_exe()?)
                .args(["--one", runtime, scope, model, side])
                .env("RAYON_NUM_THREADS", "1")
                .status()?;
            anyhow::ensure!(status.success(), "{runtime} {scope} failed");
        }
    }
    Ok(())
}

/// CPU milliseconds of one call, the mean over `times` after one that does not count.
fn time<T>(times: u32, mut work: impl FnMut() -> Result<T>) -> Result<f64> {
    work()?;
    let start = cpu_seconds();
    for _ in 0..times {
        work()?;
    }
    Ok((cpu_seconds() - start) * 1000.0 / f64::from(times))
}

fn measure(runtime_name: &str, scope: Scope, model: &Path, side: Option<usize>) -> Result<()> {
    let runtime = runtime::open(&RuntimeChoice { kind: runtime_name.parse()?, library: None })?;
    let options = SessionOptions { threads: 1 };
    let export = Export::read(model).with_context(|| model.display().to_string())?;
    let size = input_size(&export, side).map_err(anyhow::Error::msg)?;
    let chooses: cut::Chooses = match scope {
        Scope::Last => &cut::last,
        Scope::Cls => &cut::class_branch,
        Scope::Head => &cut::whole_head,
    };
    let cut = Cut::new(&export, chooses, size)?;

    let data = DataSet::open(&PathBuf::from("demo/treecrowns/data.yaml"))?;
    let examples = &data.train[..BATCH];
    let bytes = std::fs::read(&examples[0].picture)?;
    let mut pixels = vec![0.0; 3 * size.0 * size.1];
    let decode = time(20, || {
        letterbox(&Picture::decode(&bytes)?, size, Fit::Exact, &mut pixels);
        Ok(())
    })?;

    let mut backbone = Backbone::load(&export, &cut, size, &*runtime, &options)?;
    let shapes = backbone.shapes().to_vec();
    let per_run = backbone.batch();
    let input = Tensor::new([per_run, 3, size.0, size.1], pixels.repeat(per_run));
    let backbone_ms = time(8, || Ok(backbone.run(input.clone())?))? / per_run as f64;
    let one = step_graphs(&cut, &cut.subgraph(1, &shapes), &*runtime)?;
    let part = part_size(BATCH, one.stash_bytes);
    // The same features for the whole part will do: no operator's time depends on values.
    let features: Vec<Value> = backbone
        .run(input.clone())?
        .iter()
        .zip(&shapes)
        .map(|(value, shape)| {
            let one: usize = shape.iter().product();
            let mut shape = shape.clone();
            shape[0] = part;
            Tensor::new(shape, value.data()[..one].repeat(part)).into()
        })
        .collect();
    drop(backbone);

    let subgraph = cut.subgraph(part, &shapes);
    let compiled = step_graphs(&cut, &subgraph, &*runtime)?;
    let mut forward = runtime.load(&compiled.forward.encode(), &options)?;
    let mut forward_at = match &compiled.forward_at {
        Some(graphs) => Some([
            runtime.load(&graphs.rest.encode(), &options)?,
            runtime.load(&graphs.at.encode(), &options)?,
        ]),
        None => None,
    };
    let mut backward = runtime.load(&compiled.backward.encode(), &options)?;
    let mut update = runtime.load(&compiled.update.encode(), &options)?;
    let weights: Value = {
        let weights = compiled.layout.gather(&subgraph)?;
        Tensor::new([weights.len()], weights).into()
    };
    let feeds: Vec<&Value> = features[..cut.n_head_inputs].iter().chain([&weights]).collect();
    let truth: Vec<Vec<LabelBox>> = examples.iter().map(|example| example.labels.clone()).collect();
    let criterion = Criterion::new(&head_shape(&export, size), Gains::default(), Assigner::ONE_TO_MANY);
    let mut steps = Vec::new();
    for truth in truth.chunks(part) {
        steps.push(
            time(3, || {
                let places = criterion.box_places(truth, None);
                let Some(at) = compiled.forward_at.as_ref().filter(|_| are_few(&places)) else {
                    return Ok(forward.run(&feeds)?);
                };
                let level_of = |output: usize| {
                    cut.maps
                        .iter()
                        .position(|(boxes, _)| *boxes == MapSource::Head(output))
                        .expect("a box map")
                };
                let tables: Vec<Value> =
                    at.tables(|output| &places[level_of(output)]).into_iter().map(Value::from).collect();
                let with_tables: Vec<&Value> = feeds.iter().copied().chain(&tables).collect();
                let [rest, boxes] = forward_at.as_mut().context("its sessions")?;
                rest.run(&feeds)?;
                Ok(boxes.run(&with_tables)?)
            })? / part as f64,
        );
    }
    let forward_ms = steps.iter().sum::<f64>() / steps.len() as f64;

    let outputs = forward.run(&feeds)?;
    let data_of = |source: &MapSource| match *source {
        MapSource::Head(index) => outputs[index].data(),
        MapSource::Backbone(index) => features[index].data(),
    };
    let maps = RawMaps {
        batch: part,
        boxes: cut.maps.iter().map(|(boxes, _)| data_of(boxes)).collect(),
        classes: cut.maps.iter().map(|(_, classes)| data_of(classes)).collect(),
    };
    let mut gradients = criterion.gradients(part);
    let criterion_ms = time(10, || {
        Ok(truth.chunks(part).map(|truth| criterion.sums(&maps, truth, &mut gradients).scores).sum::<f64>())
    })? / BATCH as f64;

    let gradient = |wanted: usize| -> &[f32] {
        let levels = cut.maps.iter().zip(gradients.boxes.iter().zip(&gradients.classes));
        let mut maps = levels
            .flat_map(|((boxes, classes), (d_boxes, d_classes))| [(boxes, d_boxes), (classes, d_classes)]);
        maps.find(|(source, _)| matches!(source, MapSource::Head(index) if *index == wanted))
            .expect("a map")
            .1
    };
    let zeros = || Value::from(Tensor::zeros([compiled.layout.count()]));
    let so_far = zeros();
    let back = |session: &mut dyn Session| {
        let made: Vec<Value> = compiled.gradient_inputs(gradient).into_iter().map(Value::from).collect();
        let feeds: Vec<&Value> = outputs[compiled.n_outputs..]
            .iter()
            .chain(compiled.inputs_read.iter().map(|&index| &features[index]))
            .chain(&made)
            .chain([&weights, &so_far])
            .collect();
        session.run(&feeds)
    };
    let backward_ms = time(6, || Ok(back(&mut *backward)?))? / part as f64;
    let gradient = back(&mut *backward)?.remove(0);

    let schedule = Schedule { lr: 1e-3, weight_decay: 5e-4, clip_norm: 10.0, ema_decay: 0.99 };
    let scalars: Vec<Value> = compiled
        .optimizer
        .scalars(&schedule, 1)
        .into_iter()
        .map(|value| Tensor::scalar(value).into())
        .collect();
    let scale = Tensor::scalar(1.0).into();
    // Average, moments and factors of learning rates: what they hold takes no time.
    let state: Vec<Value> = (0..2 + compiled.optimizer.n_moments()).map(|_| zeros()).collect();
    let feeds: Vec<&Value> =
        [&weights, &gradient, &scale].into_iter().chain(&state).chain(&scalars).collect();
    let update_ms = time(6, || Ok(update.run(&feeds)?))? / BATCH as f64;
    let step_ms = backward_ms + update_ms;
    let memory = peak_rss_mb().unwrap_or(f64::NAN);
    let operations = operations(&export, &cut, chooses, size)?;
    let share = operations / ((forward_ms + backward_ms) / 1000.0) / gemm_peak(&*runtime, &options)?;
    println!(
        "| {runtime_name} | {scope} | {decode:.1} | {backbone_ms:.1} | {forward_ms:.1} | {criterion_ms:.1} | {step_ms:.1} | {:.0} % | {memory:.0} |",
        100.0 * share
    );
    Ok(())
}

/// Floating-point operations of the trained convolutions on one picture, forward and back: two for each
/// weight and cell that it meets, and as many again for the gradient of the kernel, and of the input where
/// that is no frozen feature.
fn operations(export: &Export, cut: &Cut, chooses: cut::Chooses, size: (usize, usize)) -> Result<f64> {
    let graph = export.model().graph();
    let links = Links::new(graph);
    let mut sum = 0.0;
    for conv in export.convs.iter().filter(|conv| chooses(export, conv)) {
        let input = &graph.node[conv.node].input;
        let weights: usize = values::dims(links.constant(&input[1]).context("a kernel")?)?.iter().product();
        let stride = export.levels[conv.level].stride;
        let forward = 2.0 * weights as f64 * ((size.0 / stride) * (size.1 / stride)) as f64;
        sum += forward * if cut.features.contains(&input[0]) { 2.0 } else { 3.0 };
    }
    Ok(sum)
}

/// The most that the runtime reaches on this machine, operations a second: a product of two matrices of a
/// thousand rows, the best of several runs.
fn gemm_peak(runtime: &dyn Runtime, options: &SessionOptions) -> Result<f64> {
    const SIDE: usize = 1024;
    let mut graph = GraphBuilder::new("product");
    let a = graph.input("a", &[SIDE, SIDE]);
    let b = graph.input("b", &[SIDE, SIDE]);
    let product = graph.op("MatMul", &[&a, &b], &[])?;
    graph.output(&product, "product")?;
    let mut session = runtime.load(&graph.finish().encode(), options)?;
    let matrix = || Value::from(Tensor::new([SIDE, SIDE], vec![0.5; SIDE * SIDE]));
    let (a, b) = (matrix(), matrix());
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        best = best.min(time(2, || Ok(session.run(&[&a, &b])?))?);
    }
    Ok(2.0 * (SIDE as f64).powi(3) / (best / 1000.0))
}
