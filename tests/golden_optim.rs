//! Twenty steps of AdamW and of SGD with Nesterov momentum, on both runtimes, against PyTorch's.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use graftd::grad::{Optimizer, Schedule, Subgraph};
use graftd::onnx::attributes::ints;
use graftd::onnx::values::tensor_f32;
use graftd::runtime::Value;
use graftd::tensor::Tensor;
use support::stepper::{Stepper, node};
use support::{Npz, goldens, index, relative_difference, runtimes};

const NAMES: [&str; 4] = ["0.weight", "0.bias", "2.weight", "2.bias"];
/// Relative to the largest value of each tensor, after up to twenty steps in f32.
const TOLERANCE: f32 = 2e-5;

/// Conv 3×3 (4 → 6), SiLU, Conv 1×1 (6 → 5), as `optim/` has it.
fn head(npz: &mut Npz) -> Subgraph {
    let constants = NAMES.map(|name| {
        let tensor = npz.tensor(&format!("w.0.{name}"));
        tensor_f32(name, tensor.shape(), tensor.data())
    });
    Subgraph {
        nodes: vec![
            node(
                "Conv",
                &["x", "0.weight", "0.bias"],
                "z",
                vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4])],
            ),
            node("Sigmoid", &["z"], "s", vec![]),
            node("Mul", &["z", "s"], "a", vec![]),
            node("Conv", &["a", "2.weight", "2.bias"], "y", vec![ints("kernel_shape", &[1, 1])]),
        ],
        constants: constants.into(),
        inputs: vec![("x".into(), vec![2, 4, 6, 6])],
        outputs: vec!["y".into()],
        trained: NAMES.map(String::from).into(),
    }
}

/// d(mean BCE with logits)/d(y) = (σ(y) − target) / count.
fn gradient(y: &Value, target: &Tensor) -> Tensor {
    let count = target.data().len() as f64;
    let each = y.data().iter().zip(target.data()).map(|(&y, &t)| {
        let probability = 1.0 / (1.0 + (-f64::from(y)).exp());
        ((probability - f64::from(t)) / count) as f32
    });
    Tensor::new(y.shape(), each.collect())
}

fn optimizer(case: &serde_json::Value) -> Optimizer {
    match case["optimiser"].as_str().unwrap() {
        "AdamW" => Optimizer::AdamW {
            beta1: case["betas"][0].as_f64().unwrap(),
            beta2: case["betas"][1].as_f64().unwrap(),
            epsilon: case["eps"].as_f64().unwrap(),
        },
        "SGD" => Optimizer::SgdNesterov { momentum: case["momentum"].as_f64().unwrap() },
        other => panic!("no optimiser {other}"),
    }
}

#[test]
fn golden_optimisers_agree_with_the_reference_on_both_runtimes() {
    let cases = index("optim");
    for case in cases["cases"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        for runtime in runtimes() {
            let mut npz = Npz::open(&goldens("optim").join(file));
            let mut stepper = Stepper::new(&head(&mut npz), optimizer(case), &*runtime);
            let (x, target, lr) = (npz.tensor("x"), npz.tensor("target"), npz.array::<f64>("lr"));
            let norms = npz.array::<f64>("grad_norm");
            let (decay, tau) = (case["ema"]["decay"].as_f64().unwrap(), case["ema"]["tau"].as_f64().unwrap());
            let cells = x.data().len() / 20;
            for t in 1..=case["steps"].as_u64().unwrap() as usize {
                let input = Tensor::new([2, 4, 6, 6], x.data()[(t - 1) * cells..t * cells].to_vec());
                let schedule = Schedule {
                    lr: lr[t - 1],
                    weight_decay: case["weight_decay_weights"].as_f64().unwrap(),
                    clip_norm: case["clip_norm"].as_f64().unwrap_or(f64::INFINITY),
                    ema_decay: decay * (1.0 - (-(t as f64) / tau).exp()),
                };
                stepper.step(&[input], &schedule, |outputs| vec![gradient(&outputs[0], &target)]);
                let norm = f64::from(stepper.gradient_norm);
                assert!(
                    (norm / norms[t - 1] - 1.0).abs() < 1e-4,
                    "{file} step {t}: norm {norm}, not {}",
                    norms[t - 1]
                );
                if !case["weights_after"].as_array().unwrap().contains(&t.into()) {
                    continue;
                }
                for name in NAMES {
                    for (what, flat) in [("w", &stepper.weights), ("ema", &stepper.ema)] {
                        let reference = npz.tensor(&format!("{what}.{t}.{name}"));
                        let difference = relative_difference(stepper.constant(flat, name), reference.data());
                        let runtime = runtime.name();
                        assert!(
                            difference < TOLERANCE,
                            "{file} on {runtime}: {what}.{t}.{name} is off by {difference:.1e}"
                        );
                    }
                }
            }
        }
    }
}
