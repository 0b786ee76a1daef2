//! From a subgraph to its forward, backward and update graphs.

use crate::onnx::attributes::int;
use crate::onnx::{GraphBuilder, Model};
use crate::tensor::Tensor;

use super::GradError;
use super::backward::Backward;
use super::forward_at::{self, ForwardAt};
use super::layout::ParameterLayout;
use super::optimizer::Optimizer;
use super::rows::Rows;
use super::rules;
use super::sparse::Sparse;
use super::subgraph::{Subgraph, WEIGHTS};
use super::writer::Writer;

/// Name of the sum of gradients, in the graphs that add to it and that use it up.
const GRADIENT_SUM: &str = "gradient_sum";

/// The graphs of a training step and how to feed them.
///
/// A step may be worked through in parts: *forward* and *backward* run once for each part of the
/// batch, and the gradients add up; *update* runs once for the batch. So memory is that of a part,
/// whatever the batch.
///
/// - Inputs of `forward`, in order: the subgraph's inputs, then `weights`. Outputs: the subgraph's
///   outputs, then the stash.
/// - Inputs of `backward`: the stash, the subgraph's inputs that the way back reads
///   (`inputs_read` holds their indices), what [`Compiled::gradient_inputs`] makes of the gradients of
///   the outputs, `weights`, `gradient_sum`. Output: the new `gradient_sum`.
/// - Inputs of `update`: `weights`, `gradient_sum`, the scalar `gradient_scale` that it is multiplied
///   by, the optimiser's state, its scalars. Outputs: new weights, new state, gradient norm.
#[derive(Debug)]
pub struct Compiled {
    /// Features and weights to outputs and stash.
    pub forward: Model,
    /// The same for some places of the [sparse](compile_sparse) outputs, where there are any beside others.
    pub forward_at: Option<ForwardAt>,
    /// Stash and gradients of the outputs to the gradient of the weights, added to what came in.
    pub backward: Model,
    /// Gradient and weights to new weights.
    pub update: Model,
    /// Where each trained constant lies in `weights`.
    pub layout: ParameterLayout,
    /// How many outputs of `forward` come before the stash.
    pub n_outputs: usize,
    /// Their shapes.
    pub output_shapes: Vec<Vec<usize>>,
    /// How many values the stash holds.
    pub n_stash: usize,
    /// And how many bytes.
    pub stash_bytes: usize,
    /// Which of the subgraph's inputs `backward` wants, by index.
    pub inputs_read: Vec<usize>,
    /// Which of the subgraph's outputs `backward` wants gradients of, by index: the others depend on
    /// nothing that is trained.
    pub gradients_wanted: Vec<usize>,
    /// Which of these it takes as rows.
    pub rows: Rows,
    /// The optimiser whose state `update` wants.
    pub optimizer: Optimizer,
}

impl Compiled {
    /// What `backward` takes for the gradients of the outputs; `gradient` gives that of an output, by its
    /// index, in the output's shape.
    pub fn gradient_inputs<'a>(&self, gradient: impl Fn(usize) -> &'a [f32]) -> Vec<Tensor> {
        let gradient = |index: usize| (gradient(index), self.output_shapes[index].clone());
        self.rows.inputs(&self.gradients_wanted, gradient)
    }
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
    compile_sparse(subgraph, optimizer, &[])
}

/// Compiles the graphs of a training step for a loss whose gradient is zero in most places of the outputs
/// `sparse`, by index, which are maps `[batch, channels, height, width]`. The result is the same; the way back
/// from them costs what the places cost at which it is not zero. Its inputs have free lengths, which not every
/// runtime takes.
///
/// # Errors
/// As [`compile`].
pub fn compile_sparse(
    subgraph: &Subgraph,
    optimizer: Optimizer,
    sparse: &[usize],
) -> Result<Compiled, GradError> {
    let mut parts = differentiate(subgraph, sparse)?;
    let so_far = parts.backward.input(GRADIENT_SUM, &[parts.layout.count()]);
    let sum = parts.backward.op("Add", &[&so_far, &parts.gradient], &[])?;
    parts.backward.output(&sum, "gradient_sum.next")?;
    let count = |name: &String| parts.forward.shape(name).iter().product::<usize>();
    let stash_bytes = 4 * parts.stash.iter().map(count).sum::<usize>();
    Ok(Compiled {
        output_shapes: subgraph.outputs.iter().map(|name| parts.forward.shape(name).to_vec()).collect(),
        forward: parts.forward.finish(),
        forward_at: parts.forward_at,
        backward: parts.backward.finish(),
        update: update_graph(&parts.layout, &optimizer)?,
        layout: parts.layout,
        n_outputs: subgraph.outputs.len(),
        n_stash: parts.stash.len(),
        stash_bytes,
        inputs_read: parts.inputs_read,
        gradients_wanted: parts.gradients_wanted,
        rows: parts.rows,
        optimizer,
    })
}

/// From a batch's gradient to new weights.
fn update_graph(layout: &ParameterLayout, optimizer: &Optimizer) -> Result<Model, GradError> {
    let mut graph = GraphBuilder::new("update");
    let shape = [layout.count()];
    graph.input(WEIGHTS, &shape);
    let sum = graph.input(GRADIENT_SUM, &shape);
    let scale = graph.input("gradient_scale", &[]);
    let gradient = graph.op("Mul", &[&sum, &scale], &[])?;
    optimizer.add_to(&mut graph, layout, WEIGHTS, &gradient)?;
    Ok(graph.finish())
}

/// Compiles the way back alone, for whoever brings an optimiser or wants to see the gradient.
///
/// # Errors
/// As [`compile`].
pub fn gradient_graph(subgraph: &Subgraph) -> Result<GradientGraph, GradError> {
    Ok(sparse_gradient_graph(subgraph, &[])?.0)
}

/// As [`gradient_graph`], with rows as [`compile_sparse`] takes them.
pub(super) fn sparse_gradient_graph(
    subgraph: &Subgraph,
    sparse: &[usize],
) -> Result<(GradientGraph, Option<ForwardAt>, Rows), GradError> {
    let mut parts = differentiate(subgraph, sparse)?;
    parts.backward.output(&parts.gradient, "gradient")?;
    let graph = GradientGraph {
        forward: parts.forward.finish(),
        backward: parts.backward.finish(),
        layout: parts.layout,
    };
    Ok((graph, parts.forward_at, parts.rows))
}

struct Parts {
    forward: GraphBuilder,
    forward_at: Option<ForwardAt>,
    backward: GraphBuilder,
    layout: ParameterLayout,
    gradient: String,
    stash: Vec<String>,
    inputs_read: Vec<usize>,
    gradients_wanted: Vec<usize>,
    rows: Rows,
}

fn differentiate(subgraph: &Subgraph, sparse: &[usize]) -> Result<Parts, GradError> {
    let layout = ParameterLayout::new(subgraph)?;
    let active = subgraph.active();
    let gradients_wanted: Vec<usize> =
        (0..subgraph.outputs.len()).filter(|&index| active.contains(&subgraph.outputs[index])).collect();
    if layout.count() == 0 || gradients_wanted.is_empty() {
        return Err(GradError::NothingToTrain);
    }

    let mut forward = subgraph.start("forward", &layout)?;
    for node in &subgraph.nodes {
        forward.node(node.clone())?;
    }

    // A name that the way back knows from the start is an input of the subgraph, a weight or a frozen
    // constant; anything else that a rule asks for is stashed. Inputs come first here, stash
    // inputs are added by the rules, and `order_inputs` puts them into the documented order.
    let graph = subgraph.start("backward", &layout)?;
    let groups = rules::fuse(&subgraph.nodes);
    let makers = rules::makers(&groups, &forward);
    let mut backward = Backward::new(Writer::new(graph, &forward, &makers), &active);
    for &index in &gradients_wanted {
        let name = &subgraph.outputs[index];
        let input = gradient_name(name);
        if sparse.contains(&index) {
            backward.row_input(index, name, &input);
        } else {
            let gradient = backward.graph.input(&input, forward.shape(name));
            backward.add_gradient(name, gradient)?;
        }
    }
    for group in groups.iter().rev() {
        let node = group.node();
        let reached = node.output.iter().any(|name| backward.has_gradient(name));
        if !reached || !node.input.iter().any(|name| active.contains(name)) {
            continue;
        }
        // Rows go on as rows where the rule knows how, and where there is no whole map beside them.
        let rows = node.output.iter().all(|name| backward.gradient(name).is_none());
        if !(rows && group.apply_to_rows(&mut backward)?) {
            node.output.iter().try_for_each(|name| backward.spread(name))?;
            group.apply(&mut backward)?;
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

    let Writer { graph: mut way_back, stash, sparse: Sparse { rows, inputs: tables, .. }, .. } =
        backward.into_writer();
    let sparse: Vec<usize> = sparse.iter().copied().filter(|&output| rows.covers(output)).collect();
    let forward_at = forward_at::write(subgraph, &layout, &forward, &makers, &sparse, &stash)?;
    for name in subgraph.outputs.iter().chain(&stash) {
        forward.output(name, name)?;
    }
    let inputs_of_backward = way_back.prune(&[WEIGHTS]);
    let inputs_read: Vec<usize> = (0..subgraph.inputs.len())
        .filter(|&index| inputs_of_backward.contains(&subgraph.inputs[index].0))
        .collect();
    let order: Vec<String> = stash
        .iter()
        .cloned()
        .chain(inputs_read.iter().map(|&index| subgraph.inputs[index].0.clone()))
        .chain(gradients_wanted.iter().map(|&index| gradient_name(&subgraph.outputs[index])))
        .chain(tables)
        .chain([WEIGHTS.to_owned()])
        .collect();
    way_back.order_inputs(&order);
    Ok(Parts {
        forward,
        forward_at,
        backward: way_back,
        layout,
        gradient,
        stash,
        inputs_read,
        gradients_wanted,
        rows,
    })
}

/// Name of the input that holds d(loss)/d(this output).
fn gradient_name(output: &str) -> String {
    format!("d/{output}")
}
