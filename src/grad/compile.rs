//! From a subgraph to its forward graph and its step graph.

use std::collections::HashMap;

use crate::onnx::attributes::int;
use crate::onnx::{GraphBuilder, Model};

use super::GradError;
use super::backward::Backward;
use super::layout::ParameterLayout;
use super::optimizer::Optimizer;
use super::rules;
use super::subgraph::Subgraph;

/// Name of the flat tensor of trained weights in both graphs.
const WEIGHTS: &str = "weights";

/// The two graphs of a training step and how to feed them.
///
/// Inputs of `forward`, in order: the subgraph's inputs, then `weights`. Outputs: the subgraph's
/// outputs, then the stash. Inputs of `step`: the stash, the subgraph's inputs that the way back
/// reads (`step_inputs` holds their indices), the gradients of the outputs, `weights`, the
/// optimiser's state, its scalars. Outputs of `step`: new weights, new state, gradient norm.
#[derive(Debug)]
pub struct Compiled {
    /// Features and weights to outputs and stash.
    pub forward: Model,
    /// Gradients, stash and weights to new weights.
    pub step: Model,
    /// Where each trained constant lies in `weights`.
    pub layout: ParameterLayout,
    /// How many outputs of `forward` come before the stash.
    pub n_outputs: usize,
    /// Their shapes.
    pub output_shapes: Vec<Vec<usize>>,
    /// How many values the stash holds.
    pub n_stash: usize,
    /// Which of the subgraph's inputs the step wants, by index.
    pub step_inputs: Vec<usize>,
    /// Which of the subgraph's outputs the step wants gradients of, by index: the others depend on
    /// nothing that is trained.
    pub step_gradients: Vec<usize>,
    /// The optimiser whose state the step wants.
    pub optimizer: Optimizer,
}

/// The way back without an optimiser: its last output, `gradient`, is the flat gradient.
#[derive(Debug)]
pub struct GradientGraph {
    /// Features and weights to outputs and stash.
    pub forward: Model,
    /// Stash, inputs, gradients of the outputs and weights to `gradient`.
    pub backward: Model,
    /// Where each trained constant lies in the gradient.
    pub layout: ParameterLayout,
}

/// Compiles the graphs of a training step.
///
/// # Errors
/// When an operator between a trained constant and an output has no rule.
pub fn compile(subgraph: &Subgraph, optimizer: Optimizer) -> Result<Compiled, GradError> {
    let mut parts = differentiate(subgraph)?;
    let layout = parts.layout;
    optimizer.add_to(&mut parts.backward, &layout, WEIGHTS, &parts.gradient)?;
    Ok(Compiled {
        output_shapes: subgraph.outputs.iter().map(|name| parts.forward.shape(name).to_vec()).collect(),
        forward: parts.forward.finish(),
        step: parts.backward.finish(),
        layout,
        n_outputs: subgraph.outputs.len(),
        n_stash: parts.n_stash,
        step_inputs: parts.step_inputs,
        step_gradients: parts.step_gradients,
        optimizer,
    })
}

/// Compiles the way back alone, for whoever brings an optimiser or wants to see the gradient.
///
/// # Errors
/// As [`compile`].
pub fn gradient_graph(subgraph: &Subgraph) -> Result<GradientGraph, GradError> {
    let mut parts = differentiate(subgraph)?;
    parts.backward.output(&parts.gradient, "gradient")?;
    Ok(GradientGraph {
        forward: parts.forward.finish(),
        backward: parts.backward.finish(),
        layout: parts.layout,
    })
}

struct Parts {
    forward: GraphBuilder,
    backward: GraphBuilder,
    layout: ParameterLayout,
    gradient: String,
    n_stash: usize,
    step_inputs: Vec<usize>,
    step_gradients: Vec<usize>,
}

fn differentiate(subgraph: &Subgraph) -> Result<Parts, GradError> {
    let layout = ParameterLayout::new(subgraph)?;
    let active = subgraph.active();
    let step_gradients: Vec<usize> =
        (0..subgraph.outputs.len()).filter(|&index| active.contains(&subgraph.outputs[index])).collect();
    if layout.count() == 0 || step_gradients.is_empty() {
        return Err(GradError::NothingToTrain);
    }

    let mut forward = GraphBuilder::new("forward");
    for (name, shape) in &subgraph.inputs {
        forward.input(name, shape);
    }
    forward.input(WEIGHTS, &[layout.count()]);
    layout.unpack(&mut forward, WEIGHTS)?;
    subgraph.add_frozen(&mut forward)?;
    for node in &subgraph.nodes {
        forward.node(node.clone())?;
    }

    // A name that the way back knows from the start is an input of the step, a weight or a frozen
    // constant; anything else that a rule asks for is stashed. Inputs come first here, stash
    // inputs are added by the rules, and `order_inputs` puts them into the documented order.
    let mut graph = GraphBuilder::new("step");
    for (name, shape) in &subgraph.inputs {
        graph.input(name, shape);
    }
    let mut gradients = HashMap::new();
    for &index in &step_gradients {
        let name = &subgraph.outputs[index];
        gradients.insert(name.clone(), graph.input(&gradient_name(name), forward.shape(name)));
    }
    graph.input(WEIGHTS, &[layout.count()]);
    layout.unpack(&mut graph, WEIGHTS)?;
    subgraph.add_frozen(&mut graph)?;

    let mut backward = Backward { graph, forward: &forward, active: &active, gradients, stash: Vec::new() };
    for pair in rules::fuse(&subgraph.nodes).iter().rev() {
        let node = pair.node();
        let reached = node.output.iter().any(|name| backward.gradients.contains_key(name));
        if reached && node.input.iter().any(|name| active.contains(name)) {
            pair.apply(&mut backward)?;
        }
    }

    let mut pieces = Vec::with_capacity(layout.parameters().len());
    for parameter in layout.parameters() {
        let piece = match backward.gradient(&parameter.name) {
            Some(gradient) => backward.reshape(&gradient, &[parameter.count()])?,
            None => {
                let zero = backward.scalar(0.0);
                let length = backward.integers(&[parameter.count() as i64]);
                backward.op("Expand", &[&zero, &length])?
            }
        };
        pieces.push(piece);
    }
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let gradient = backward.op_with("Concat", &pieces, &[int("axis", 0)])?;

    let Backward { graph: mut step, stash, .. } = backward;
    for name in subgraph.outputs.iter().chain(&stash) {
        forward.output(name, name)?;
    }
    let inputs_of_step = step.prune(&[WEIGHTS]);
    let step_inputs: Vec<usize> = (0..subgraph.inputs.len())
        .filter(|&index| inputs_of_step.contains(&subgraph.inputs[index].0))
        .collect();
    let order: Vec<String> = stash
        .iter()
        .cloned()
        .chain(step_inputs.iter().map(|&index| subgraph.inputs[index].0.clone()))
        .chain(step_gradients.iter().map(|&index| gradient_name(&subgraph.outputs[index])))
        .chain([WEIGHTS.to_owned()])
        .collect();
    step.order_inputs(&order);
    Ok(Parts { forward, backward: step, layout, gradient, n_stash: stash.len(), step_inputs, step_gradients })
}

/// Name of the input that holds d(loss)/d(this output).
fn gradient_name(output: &str) -> String {
    format!("d/{output}")
}
