//! Finite differences, for tests of rules: what the compiled way back says against what the forward
//! graph does when a trained number moves, both in f64.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::onnx::Model;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::values::{tensor_f32, tensor_i64};
use crate::tensor::Tensor;

use super::compile::sparse_gradient_graph;
use super::reference::{Array, run};
use super::{ForwardAt, GradError, GradientGraph, Rows, Subgraph, gradient_graph};

/// A small graph to be differentiated, with random numbers in it.
pub(super) struct Case {
    pub nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    trained: Vec<String>,
    random: ChaCha8Rng,
}

impl Case {
    pub fn new(seed: u64) -> Self {
        Case { nodes: vec![], constants: vec![], trained: vec![], random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// A trained constant that a rule will see as a computed value: what it gets is its double.
    ///
    /// Numbers keep away from zero, where some operators have kinks.
    pub fn trained(&mut self, name: &str, shape: &[usize]) -> String {
        let (weight, value) = (self.weight(&format!("{name}.w"), shape), format!("{name}.v"));
        self.nodes.push(node("Add", &[&weight, &weight], &[&value]));
        value
    }

    /// A trained constant as it is.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> String {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                self.random.random_range(0.1..0.9) * if self.random.random::<bool>() { 1.0 } else { -1.0 }
            })
            .collect();
        self.constants.push(tensor_f32(name, shape, &values));
        self.trained.push(name.into());
        name.into()
    }

    /// A constant list of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.constants.push(tensor_i64(name, values));
        name.into()
    }

    /// The graph as the compiler takes it.
    pub fn subgraph(&self, outputs: &[&str]) -> Subgraph {
        Subgraph {
            nodes: self.nodes.clone(),
            constants: self.constants.clone(),
            inputs: vec![],
            outputs: outputs.iter().map(|&name| name.into()).collect(),
            trained: self.trained.clone(),
        }
    }
}

/// A node without settings.
pub(super) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.into()),
        name: Some(format!("{op_type} of {}", outputs.join(", "))),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: outputs.iter().map(|&name| name.into()).collect(),
        ..NodeProto::default()
    }
}

/// The node with settings.
pub(super) fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

/// Compares the gradient of Σ outputs · (random weights) with central differences.
pub(super) fn check(mut case: Case, outputs: &[&str]) -> Result<(), TestCaseError> {
    let subgraph = case.subgraph(outputs);
    let compiled =
        gradient_graph(&subgraph).map_err(|error: GradError| TestCaseError::fail(error.to_string()))?;
    let weights: Vec<f64> =
        compiled.layout.gather(&subgraph).expect("weights").iter().map(|&value| f64::from(value)).collect();
    let plain = forward(&compiled.forward, &weights);
    let seeds: Vec<Array> = plain[..outputs.len()]
        .iter()
        .map(|output| {
            let data = output.data.iter().map(|_| case.random.random_range(-1.0..1.0)).collect();
            Array::new(&output.shape, data)
        })
        .collect();
    let gradient = backward(&compiled, &weights, &plain, outputs, &seeds);
    let loss = |weights: &[f64]| -> f64 {
        let values = forward(&compiled.forward, weights);
        let products = values
            .iter()
            .zip(&seeds)
            .map(|(y, seed)| y.data.iter().zip(&seed.data).map(|(a, b)| a * b).sum::<f64>());
        products.sum()
    };
    let step = 1e-5;
    for (index, &analytic) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut weights = weights.clone();
            weights[index] += by;
            loss(&weights)
        };
        let numeric = (moved(step) - moved(-step)) / (2.0 * step);
        prop_assert!(
            (numeric - analytic).abs() <= 1e-7 * (1.0 + numeric.abs()),
            "number {index}: {analytic} from the graph, {numeric} from differences"
        );
    }
    Ok(())
}

/// Compares the gradients of outputs that come in as rows, those that `sparse` names by index, with those that
/// come in as whole maps. A `share` of the places of each output has a gradient.
pub(super) fn check_rows(
    mut case: Case,
    outputs: &[&str],
    sparse: &[usize],
    share: f64,
) -> Result<(), TestCaseError> {
    let subgraph = case.subgraph(outputs);
    let fail = |error: GradError| TestCaseError::fail(error.to_string());
    let (dense, ..) = sparse_gradient_graph(&subgraph, &[]).map_err(fail)?;
    let (by_rows, forward_at, rows) = sparse_gradient_graph(&subgraph, sparse).map_err(fail)?;
    let weights: Vec<f64> =
        dense.layout.gather(&subgraph).expect("weights").iter().map(|&value| f64::from(value)).collect();
    let seeds: Vec<Array> = forward(&dense.forward, &weights)[..outputs.len()]
        .iter()
        .map(|output| {
            let [batch, channels, cells] =
                [output.shape[0], output.shape[1], output.shape[2..].iter().product()];
            let places: Vec<bool> = (0..batch * cells).map(|_| case.random.random_bool(share)).collect();
            let data = (0..output.data.len()).map(|index| {
                // f32, as a loss gives it: both ways must begin with the same numbers.
                let value = f64::from(case.random.random_range(-1.0f32..1.0));
                let place = index / (channels * cells) * cells + index % cells;
                if places[place] { value } else { 0.0 }
            });
            Array::new(&output.shape, data.collect())
        })
        .collect();
    if let Some(forward_at) = forward_at {
        check_forward_at(&by_rows, &forward_at, &weights, &seeds)?;
    }
    let expected = backward(&dense, &weights, &forward(&dense.forward, &weights), outputs, &seeds);
    let mut feeds = row_feeds(&rows, outputs, &seeds);
    let whole = (0..outputs.len()).filter(|&index| !rows.covers(index));
    feeds.extend(whole.map(|index| (format!("d/{}", outputs[index]), seeds[index].clone())));
    let found = backward_with(&by_rows, &weights, &forward(&by_rows.forward, &weights), feeds);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        prop_assert!(
            (found - expected).abs() <= 1e-12 * (1.0 + expected.abs()),
            "number {index}: {found} by rows, {expected} by maps"
        );
    }
    Ok(())
}

/// Compares what the forward pass by rows puts out with the whole pass, at the places that have a gradient.
fn check_forward_at(
    compiled: &GradientGraph,
    forward_at: &ForwardAt,
    weights: &[f64],
    seeds: &[Array],
) -> Result<(), TestCaseError> {
    let places: Vec<Vec<usize>> = seeds
        .iter()
        .map(|seed| {
            let (channels, cells) = (seed.shape[1], seed.shape[2] * seed.shape[3]);
            let at = |place: usize| place / cells * channels * cells + place % cells;
            let differs =
                |place: &usize| (0..channels).any(|channel| seed.data[at(*place) + channel * cells] != 0.0);
            (0..seed.shape[0] * cells).filter(differs).collect()
        })
        .collect();
    let wanted: Vec<Vec<bool>> = places
        .iter()
        .zip(seeds)
        .map(|(places, seed)| {
            (0..seed.data.len() / seed.shape[1]).map(|place| places.contains(&place)).collect()
        })
        .collect();
    let tables = forward_at.tables(|output| &wanted[output]);
    let mut feeds = HashMap::from([("weights".to_owned(), flat(weights))]);
    let mut rest = run(&forward_at.rest, &feeds).into_iter();
    feeds.extend((0..).map(|number| format!("rows/{number}")).zip(tables.iter().map(array)));
    let mut rows = run(&forward_at.at, &feeds).into_iter();
    for (index, expected) in forward(&compiled.forward, weights).iter().enumerate() {
        if index >= seeds.len() || !forward_at.covers(index) {
            prop_assert_eq!(&rest.next().expect("an output or a stashed value"), expected);
            continue;
        }
        let rows = rows.next().expect("rows");
        let [_, channels, height, width] = expected.shape[..] else { panic!("a map") };
        for (row, place) in places[index].iter().enumerate() {
            for channel in 0..channels {
                let (picture, cell) = (place / (height * width), place % (height * width));
                let expected = expected.data[(picture * channels + channel) * height * width + cell];
                let found = rows.data[row * channels + channel];
                prop_assert!((found - expected).abs() <= 1e-12 * (1.0 + expected.abs()));
            }
        }
    }
    prop_assert!(rest.next().is_none() && rows.next().is_none());
    Ok(())
}

/// What the way back takes for outputs whose gradient is rows, and the tables.
fn row_feeds(rows: &Rows, outputs: &[&str], seeds: &[Array]) -> HashMap<String, Array> {
    let covered: Vec<usize> = (0..outputs.len()).filter(|&index| rows.covers(index)).collect();
    let maps: Vec<Vec<f32>> =
        seeds.iter().map(|seed| seed.data.iter().map(|&value| value as f32).collect()).collect();
    let made = rows.inputs(&covered, |index| (&maps[index], seeds[index].shape.clone()));
    let names = covered.iter().map(|&index| format!("d/{}", outputs[index]));
    let names = names.chain((0..).map(|number| format!("rows/{number}")));
    names.zip(made.iter().map(array)).collect()
}

fn array(tensor: &Tensor) -> Array {
    Array::new(tensor.shape(), tensor.data().iter().map(|&value| f64::from(value)).collect())
}

fn flat(weights: &[f64]) -> Array {
    Array::new(&[weights.len()], weights.to_vec())
}

fn forward(model: &Model, weights: &[f64]) -> Vec<Array> {
    run(model, &HashMap::from([("weights".to_owned(), flat(weights))]))
}

fn backward(
    compiled: &GradientGraph,
    weights: &[f64],
    plain: &[Array],
    outputs: &[&str],
    seeds: &[Array],
) -> Vec<f64> {
    let seeds = outputs.iter().zip(seeds).map(|(name, seed)| (format!("d/{name}"), seed.clone()));
    backward_with(compiled, weights, plain, seeds.collect())
}

fn backward_with(
    compiled: &GradientGraph,
    weights: &[f64],
    plain: &[Array],
    mut feeds: HashMap<String, Array>,
) -> Vec<f64> {
    feeds.insert("weights".to_owned(), flat(weights));
    let names = compiled.forward.graph().output.iter().map(|output| output.name().to_owned());
    feeds.extend(names.zip(plain.iter().cloned()));
    let wanted = |name: &str| compiled.backward.graph().input.iter().any(|input| input.name() == name);
    feeds.retain(|name, _| wanted(name));
    run(&compiled.backward, &feeds).pop().expect("the gradient").data
}
