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
use graftd::dataset::{DataSet, Example};
use graftd::grad::{Compiled, Schedule};
use graftd::label::LabelBox;
use graftd::onnx::{GraphBuilder, Links, Model, values};
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
use graftd::yolo::maps::{MapGradients, RawMaps};

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
    let mut parts = Vec::new();
    for examples in examples.chunks(part) {
        parts.push(Part {
            features: features(examples, &mut backbone, part)?,
            truth: examples.iter().map(|example| example.labels.clone()).collect(),
        });
    }
    drop(backbone);

    let subgraph = cut.subgraph(part, &shapes);
    let compiled = step_graphs(&cut, &subgraph, &*runtime)?;
    let mut update = runtime.load(&compiled.update.encode(), &options)?;
    let weights: Value = {
        let weights = compiled.layout.gather(&subgraph)?;
        Tensor::new([weights.len()], weights).into()
    };
    let criterion = Criterion::new(&head_shape(&export, size), Gains::default(), Assigner::ONE_TO_MANY);
    let mut step = Step::load(&cut, &compiled, &weights, &criterion, &*runtime, &options)?;
    // What boxes cost depends on how many objects there are, so each part counts.
    let [mut forward_ms, mut criterion_ms, mut backward_ms] = [0.0; 3];
    for part in &parts {
        forward_ms += time(3, || step.forward(part))? / BATCH as f64;
        let outputs = step.whole(part)?;
        let mut gradients = criterion.gradients(part.truth.len());
        let maps = step.maps(part, &outputs);
        criterion_ms += time(3, || Ok(criterion.sums(&maps, &part.truth, &mut gradients)))? / BATCH as f64;
        backward_ms += time(3, || step.backward(part, &outputs, &gradients))? / BATCH as f64;
    }
    let zeros = || Value::from(Tensor::zeros([compiled.layout.count()]));
    let gradient = zeros();

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

/// Pictures that go through the graphs at once.
struct Part {
    features: Vec<Value>,
    truth: Vec<Vec<LabelBox>>,
}

/// Their features.
fn features(examples: &[Example], backbone: &mut Backbone, part: usize) -> Result<Vec<Value>> {
    let (batch, (height, width)) = (backbone.batch(), backbone.size());
    let shapes = backbone.shapes().to_vec();
    let mut features: Vec<Vec<f32>> = vec![Vec::new(); shapes.len()];
    for example in examples {
        let mut pixels = vec![0.0; 3 * height * width];
        letterbox(&Picture::open(&example.picture)?, (height, width), Fit::Exact, &mut pixels);
        let made = backbone.run(Tensor::new([batch, 3, height, width], pixels.repeat(batch)))?;
        for ((all, made), shape) in features.iter_mut().zip(&made).zip(&shapes) {
            all.extend(&made.data()[..shape.iter().product()]);
        }
    }
    let tensor = |(values, shape): (Vec<f32>, &Vec<usize>)| {
        let shape: Vec<usize> = [part].into_iter().chain(shape[1..].iter().copied()).collect();
        Tensor::new(shape, values).into()
    };
    Ok(features.into_iter().zip(&shapes).map(tensor).collect())
}

/// The graphs as a run uses them.
struct Step<'a> {
    cut: &'a Cut,
    compiled: &'a Compiled,
    weights: &'a Value,
    criterion: &'a Criterion,
    whole: Box<dyn Session>,
    /// Classes, and then boxes at some places.
    few: Option<[Box<dyn Session>; 2]>,
    backward: Box<dyn Session>,
}

impl<'a> Step<'a> {
    fn load(
        cut: &'a Cut,
        compiled: &'a Compiled,
        weights: &'a Value,
        criterion: &'a Criterion,
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self> {
        let load = |model: &Model| runtime.load(&model.encode(), options);
        let few = match &compiled.forward_at {
            Some(graphs) => Some([load(&graphs.rest)?, load(&graphs.at)?]),
            None => None,
        };
        let (whole, backward) = (load(&compiled.forward)?, load(&compiled.backward)?);
        Ok(Step { cut, compiled, weights, criterion, whole, few, backward })
    }

    /// Whole maps and stash.
    fn whole(&mut self, part: &Part) -> Result<Vec<Value>> {
        let feeds: Vec<&Value> =
            part.features[..self.cut.n_head_inputs].iter().chain([self.weights]).collect();
        Ok(self.whole.run(&feeds)?)
    }

    fn forward(&mut self, part: &Part) -> Result<()> {
        let feeds: Vec<&Value> =
            part.features[..self.cut.n_head_inputs].iter().chain([self.weights]).collect();
        let places = self.criterion.box_places(&part.truth, None);
        let Some(([rest, boxes], graphs)) = self.few.as_mut().zip(self.compiled.forward_at.as_ref()) else {
            self.whole.run(&feeds)?;
            return Ok(());
        };
        if !are_few(&places) {
            self.whole.run(&feeds)?;
            return Ok(());
        }
        let level_of = |output: usize| cut::level_of_boxes(&self.cut.maps, output).expect("a box map");
        let tables: Vec<Value> =
            graphs.tables(|output| &places[level_of(output)]).into_iter().map(Value::from).collect();
        rest.run(&feeds)?;
        boxes.run(&feeds.into_iter().chain(&tables).collect::<Vec<_>>())?;
        Ok(())
    }

    fn maps<'b>(&self, part: &'b Part, outputs: &'b [Value]) -> RawMaps<'b> {
        let data = |source: &MapSource| match *source {
            MapSource::Head(index) => outputs[index].data(),
            MapSource::Backbone(index) => part.features[index].data(),
        };
        RawMaps {
            batch: part.truth.len(),
            boxes: self.cut.maps.iter().map(|(boxes, _)| data(boxes)).collect(),
            classes: self.cut.maps.iter().map(|(_, classes)| data(classes)).collect(),
        }
    }

    fn backward(&mut self, part: &Part, outputs: &[Value], gradients: &MapGradients) -> Result<()> {
        let gradient =
            |output: usize| cut::gradient_of(&self.cut.maps, gradients, output).expect("a raw map");
        let made: Vec<Value> = self.compiled.gradient_inputs(gradient).into_iter().map(Value::from).collect();
        let so_far = Value::from(Tensor::zeros([self.compiled.layout.count()]));
        let feeds: Vec<&Value> = outputs[self.compiled.n_outputs..]
            .iter()
            .chain(self.compiled.inputs_read.iter().map(|&index| &part.features[index]))
            .chain(&made)
            .chain([self.weights, &so_far])
            .collect();
        self.backward.run(&feeds)?;
        Ok(())
    }
}

/// Floating-point operations of the trained convolutions on one picture, forward and back: two for each
/// weight and cell that it meets, and as many again for the gradient of the kernel, and of the input where
/// that is no frozen feature. Whole maps count, also where a step makes few places of them.
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
