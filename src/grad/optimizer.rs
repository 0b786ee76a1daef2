//! Optimisers as graphs: gradient clipping, AdamW or SGD with Nesterov momentum, and the moving
//! average of the weights, all on the flat tensor.
//!
//! Inputs that an optimiser adds to the step graph, after `weights`, in this order: `ema`, then the
//! moments (`momentum`; or `first_moment`, `second_moment`), then `lr_scale`, then the scalars of
//! [`Schedule`]. `lr_scale` is flat as the weights are and holds a factor for each one's learning rate:
//! 1 takes it as it is, 0 keeps the weight where it is (its moments go on).
//! Outputs: `weights.next`, `ema.next`, the moments likewise, then `gradient_norm` (before
//! clipping).

use crate::onnx::attributes::int;
use crate::onnx::{GraphBuilder, OnnxError};

use super::layout::ParameterLayout;

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), as PyTorch's
    /// `AdamW` computes it: `w ← w·(1 − lr·λ) − lr·m̂ / (√v̂ + ε)`.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Keeps the division finite.
        epsilon: f64,
    },
    /// SGD with Nesterov momentum and coupled weight decay, as PyTorch's `SGD(nesterov=True)`:
    /// `g ← g + λ·w; b ← μ·b + g; w ← w − lr·(g + μ·b)`. A zero buffer makes the first step's
    /// buffer the gradient itself.
    SgdNesterov {
        /// Decay of the momentum buffer.
        momentum: f64,
    },
}

/// The scalars of one step, in the order in which the graph wants them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay λ, on kernels only.
    pub weight_decay: f64,
    /// Largest norm of the gradient; what is longer is scaled down to it. Infinity never clips.
    pub clip_norm: f64,
    /// Decay of the moving average of the weights.
    pub ema_decay: f64,
}

impl Optimizer {
    /// AdamW with PyTorch's defaults.
    pub fn adamw() -> Self {
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// How many moments it keeps for each weight.
    pub fn n_moments(&self) -> usize {
        match self {
            Optimizer::AdamW { .. } => 2,
            Optimizer::SgdNesterov { .. } => 1,
        }
    }

    /// The scalars that the graph wants at step `t` (from 1), in order.
    pub fn scalars(&self, schedule: &Schedule, t: u64) -> Vec<f32> {
        let Schedule { lr, weight_decay, clip_norm, ema_decay } = *schedule;
        let clip_norm = clip_norm.min(f64::from(f32::MAX));
        match *self {
            // Bias corrections are powers that f32 would lose digits of, so the host computes them:
            // m̂ = m / (1 − β₁ᵗ), √v̂ = √v / √(1 − β₂ᵗ).
            Optimizer::AdamW { beta1, beta2, .. } => {
                let t = t.min(i32::MAX as u64) as i32;
                let step = lr / (1.0 - beta1.powi(t));
                let root = (1.0 - beta2.powi(t)).sqrt();
                vec![step as f32, root as f32, (lr * weight_decay) as f32, clip_norm as f32, ema_decay as f32]
            }
            Optimizer::SgdNesterov { .. } => {
                vec![lr as f32, weight_decay as f32, clip_norm as f32, ema_decay as f32]
            }
        }
    }

    /// Adds the update of `weights` by `gradient` to the graph.
    pub(super) fn add_to(
        &self,
        graph: &mut GraphBuilder,
        layout: &ParameterLayout,
        weights: &str,
        gradient: &str,
    ) -> Result<(), OnnxError> {
        let shape = [layout.count()];
        let mask = graph.constant("decay_mask", &shape, &layout.decay_mask());
        let ema = graph.input("ema", &shape);
        match *self {
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                let first = graph.input("first_moment", &shape);
                let second = graph.input("second_moment", &shape);
                let scale = graph.input("lr_scale", &shape);
                let step = graph.input("step_size", &[]);
                let root = graph.input("second_moment_correction", &[]);
                let decay = graph.input("decay", &[]);
                let (gradient, norm) = clip(graph, gradient)?;
                let first = lerp(graph, &first, &gradient, beta1)?;
                let square = graph.op("Mul", &[&gradient, &gradient], &[])?;
                let second = lerp(graph, &second, &square, beta2)?;
                let deviation = graph.op("Sqrt", &[&second], &[])?;
                let deviation = graph.op("Div", &[&deviation, &root], &[])?;
                let epsilon = graph.scalar(epsilon as f32);
                let deviation = graph.op("Add", &[&deviation, &epsilon], &[])?;
                let direction = graph.op("Div", &[&first, &deviation], &[])?;
                let shift = graph.op("Mul", &[&direction, &step], &[])?;
                let shrink = graph.op("Mul", &[&mask, &decay], &[])?;
                let shrink = graph.op("Mul", &[weights, &shrink], &[])?;
                // Decay is decoupled from the gradient, not from the learning rate.
                let change = graph.op("Add", &[&shift, &shrink], &[])?;
                let change = graph.op("Mul", &[&change, &scale], &[])?;
                let next = graph.op("Sub", &[weights, &change], &[])?;
                finish(graph, &next, &ema, &[("first_moment", &first), ("second_moment", &second)], &norm)
            }
            Optimizer::SgdNesterov { momentum } => {
                let buffer = graph.input("momentum", &shape);
                let scale = graph.input("lr_scale", &shape);
                let lr = graph.input("lr", &[]);
                let decay = graph.input("decay", &[]);
                let (gradient, norm) = clip(graph, gradient)?;
                let pull = graph.op("Mul", &[&mask, &decay], &[])?;
                let pull = graph.op("Mul", &[weights, &pull], &[])?;
                let gradient = graph.op("Add", &[&gradient, &pull], &[])?;
                let mu = graph.scalar(momentum as f32);
                let buffer = graph.op("Mul", &[&buffer, &mu], &[])?;
                let buffer = graph.op("Add", &[&buffer, &gradient], &[])?;
                let ahead = graph.op("Mul", &[&buffer, &mu], &[])?;
                let direction = graph.op("Add", &[&gradient, &ahead], &[])?;
                let shift = graph.op("Mul", &[&direction, &lr], &[])?;
                let shift = graph.op("Mul", &[&shift, &scale], &[])?;
                let next = graph.op("Sub", &[weights, &shift], &[])?;
                finish(graph, &next, &ema, &[("momentum", &buffer)], &norm)
            }
        }
    }
}

/// Scales the gradient by min(1, clip / (norm + 1e-6)), as PyTorch's `clip_grad_norm_`; gives it and
/// its norm before.
fn clip(graph: &mut GraphBuilder, gradient: &str) -> Result<(String, String), OnnxError> {
    let limit = graph.input("clip_norm", &[]);
    let square = graph.op("Mul", &[gradient, gradient], &[])?;
    let axes = graph.integers(&[0]);
    let sum = graph.op("ReduceSum", &[&square, &axes], &[int("keepdims", 0)])?;
    let norm = graph.op("Sqrt", &[&sum], &[])?;
    let tiny = graph.scalar(1e-6);
    let safe = graph.op("Add", &[&norm, &tiny], &[])?;
    let ratio = graph.op("Div", &[&limit, &safe], &[])?;
    let one = graph.scalar(1.0);
    let scale = graph.op("Min", &[&ratio, &one], &[])?;
    Ok((graph.op("Mul", &[gradient, &scale], &[])?, norm))
}

/// `old·decay + new·(1 − decay)`.
fn lerp(graph: &mut GraphBuilder, old: &str, new: &str, decay: f64) -> Result<String, OnnxError> {
    let keep = graph.scalar(decay as f32);
    // The complement is taken in f64, as the reference does: in f32, 1 − 0.999 is off by 1e-5 of itself.
    let take = graph.scalar((1.0 - decay) as f32);
    let kept = graph.op("Mul", &[old, &keep], &[])?;
    let taken = graph.op("Mul", &[new, &take], &[])?;
    graph.op("Add", &[&kept, &taken], &[])
}

/// Names the outputs and moves the average of the weights: `ema ← d·ema + (1 − d)·w`.
fn finish(
    graph: &mut GraphBuilder,
    next: &str,
    ema: &str,
    moments: &[(&str, &str)],
    norm: &str,
) -> Result<(), OnnxError> {
    let decay = graph.input("ema_decay", &[]);
    graph.output(next, "weights.next")?;
    let away = graph.op("Sub", &[ema, next], &[])?;
    let kept = graph.op("Mul", &[&away, &decay], &[])?;
    let average = graph.op("Add", &[next, &kept], &[])?;
    graph.output(&average, "ema.next")?;
    for (name, value) in moments {
        graph.output(value, &format!("{name}.next"))?;
    }
    graph.output(norm, "gradient_norm")
}
