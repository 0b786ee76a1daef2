//! Twenty steps of AdamW and of SGD with Nesterov momentum, on both runtimes, against PyTorch's; with
//! one learning rate and with one per layer.

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

/// The first convolution stands still for some steps and then learns more slowly than the last one.
/// `tests/python/optim_groups.py` made the reference with PyTorch's parameter groups.
#[test]
fn golden_layers_with_rates_of_their_own_agree_with_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/optim/groups.json");
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let described = index("optim");
    for case in reference["cases"].as_array().unwrap() {
        let file = case["golden"].as_str().unwrap();
        let golden = described["cases"].as_array().unwrap().iter().find(|c| c["file"] == file).unwrap();
        for runtime in runtimes() {
            let mut npz = Npz::open(&goldens("optim").join(file));
            let mut stepper = Stepper::new(&head(&mut npz), optimizer(golden), &*runtime);
            let (x, target, lr) = (npz.tensor("x"), npz.tensor("target"), npz.array::<f64>("lr"));
            let cells = x.data().len() / 20;
            for t in 0..case["steps"].as_u64().unwrap() {
                let still = t < case["still"].as_u64().unwrap();
                let share = if still { 0.0 } else { case["share"].as_f64().unwrap() as f32 };
                stepper.scale_lr(|name| if name.starts_with("0.") { share } else { 1.0 });
                let t = t as usize;
                let input = Tensor::new([2, 4, 6, 6], x.data()[t * cells..(t + 1) * cells].to_vec());
                let schedule = Schedule {
                    lr: lr[t],
                    weight_decay: case["weight_decay"].as_f64().unwrap(),
                    clip_norm: case["clip_norm"].as_f64().unwrap_or(f64::INFINITY),
                    ema_decay: 0.9,
                };
                stepper.step(&[input], &schedule, |outputs| vec![gradient(&outputs[0], &target)]);
                if still {
                    let start = npz.tensor("w.0.0.weight");
                    assert_eq!(stepper.constant(&stepper.weights, "0.weight"), start.data(), "step {t}");
                }
            }
            for name in NAMES {
                let after: Vec<f32> = serde_json::from_value(case["after"][name].clone()).unwrap();
                let difference = relative_difference(stepper.constant(&stepper.weights, name), &after);
                let runtime = runtime.name();
                assert!(difference < TOLERANCE, "{file} on {runtime}: {name} is off by {difference:.1e}");
            }
        }
    }
}
