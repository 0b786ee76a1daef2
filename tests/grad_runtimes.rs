//! The same head, trained for twenty steps on ONNX Runtime and on tract, here and on an x86_64 machine.

mod support;

use graftd::grad::{Optimizer, Schedule, Subgraph};
use graftd::onnx::attributes::{int, ints};
use graftd::onnx::values::tensor_f32;
use graftd::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::stepper::{Stepper, node};
use support::{relative_difference, runtimes};

/// What ONNX Runtime 1.32.0 made of it on an x86_64 machine (AMD EPYC): for each optimiser the weights and their mean,
/// f32 in little endian. Made anew by `UPDATE_TWENTY_STEPS=1 cargo test --test grad_runtimes`.
const KEPT: &[u8] = include_bytes!("data/twenty_steps.f32");

/// Twenty steps of AdamW turn rounding of tiny gradients into steps: this share of the largest weight is what is left.
const MOST_APART: f32 = 1e-4;

/// A level of a YOLO11 head: the box branch (3×3, 3×3, 1×1) and the class branch (depthwise and 1×1
/// twice, then 1×1), SiLU between.
fn level(random: &mut ChaCha8Rng) -> Subgraph {
    let (mut nodes, mut constants, mut trained) = (Vec::new(), Vec::new(), Vec::new());
    let mut conv = |input: &str, name: &str, [from, to, side, groups]: [usize; 4], last: bool| {
        let shape = [to, from / groups, side, side];
        let scale = (from as f32 / groups as f32 * (side * side) as f32).sqrt().recip();
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| random.random_range(-scale..scale)).collect();
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        constants.push(tensor_f32(&weight, &shape, &values));
        constants.push(tensor_f32(&bias, &[to], &vec![0.01; to]));
        let margin = side as i64 / 2;
        let attributes = vec![
            ints("kernel_shape", &[side as i64; 2]),
            ints("pads", &[margin; 4]),
            int("group", groups as i64),
        ];
        let z = if last { name.to_owned() } else { format!("{name}.z") };
        nodes.push(node("Conv", &[input, &weight, &bias], &z, attributes));
        if !last {
            nodes.push(node("Sigmoid", &[&z], &format!("{name}.s"), vec![]));
            nodes.push(node("Mul", &[&z, &format!("{name}.s")], name, vec![]));
        }
        trained.extend([weight, bias]);
    };
    conv("x", "cv2.0", [12, 8, 3, 1], false);
    conv("cv2.0", "cv2.1", [8, 8, 3, 1], false);
    conv("cv2.1", "boxes", [8, 16, 1, 1], true);
    conv("x", "cv3.0", [12, 12, 3, 12], false);
    conv("cv3.0", "cv3.1", [12, 10, 1, 1], false);
    conv("cv3.1", "cv3.2", [10, 10, 3, 10], false);
    conv("cv3.2", "cv3.3", [10, 10, 1, 1], false);
    conv("cv3.3", "classes", [10, 3, 1, 1], true);
    Subgraph {
        nodes,
        constants,
        inputs: vec![("x".into(), vec![4, 12, 9, 7])],
        outputs: vec!["boxes".into(), "classes".into()],
        trained,
    }
}

#[test]
fn all_runtimes_and_machines_train_the_same_head_to_the_same_weights() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let subgraph = level(&mut random);
    let mut tensor = |shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
        Tensor::new(shape, values)
    };
    let inputs: Vec<Tensor> = (0..20).map(|_| tensor(&[4, 12, 9, 7])).collect();
    let targets = [tensor(&[4, 16, 9, 7]), tensor(&[4, 3, 9, 7])];
    let mut made = Vec::new();
    for optimizer in [Optimizer::adamw(), Optimizer::SgdNesterov { momentum: 0.9 }] {
        let schedule = Schedule { lr: 0.005, weight_decay: 0.01, clip_norm: 1.0, ema_decay: 0.9 };
        let train = |runtime: &dyn graftd::runtime::Runtime| {
            let mut stepper = Stepper::new(&subgraph, optimizer, runtime);
            let start = stepper.weights.data().to_vec();
            for input in &inputs {
                // Half the squared distance from the targets.
                stepper.step(std::slice::from_ref(input), &schedule, |outputs| {
                    let pairs = outputs.iter().zip(&targets);
                    let away = pairs.map(|(y, target)| {
                        let each = y.data().iter().zip(target.data()).map(|(y, t)| y - t);
                        Tensor::new(y.shape(), each.collect())
                    });
                    away.collect()
                });
            }
            (start, stepper.weights.data().to_vec(), stepper.ema.data().to_vec())
        };
        let trained: Vec<_> = runtimes().iter().map(|runtime| train(&**runtime)).collect();
        let [(start, weights, ema), (_, other_weights, other_ema)] = &trained[..] else {
            panic!("two runtimes")
        };
        assert!(relative_difference(weights, start) > 0.01, "{optimizer:?} has not moved");
        let away = relative_difference(weights, other_weights).max(relative_difference(ema, other_ema));
        println!("{optimizer:?}: the runtimes are {away:.1e} apart");
        assert!(away < MOST_APART, "{optimizer:?}: weights differ by {away:.1e}");
        made.extend_from_slice(weights);
        made.extend_from_slice(ema);
    }
    if std::env::var_os("UPDATE_TWENTY_STEPS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/twenty_steps.f32");
        std::fs::write(file, bytemuck::cast_slice(&made)).unwrap();
        return;
    }
    let kept: Vec<f32> = bytemuck::pod_collect_to_vec(KEPT);
    let away = relative_difference(&made, &kept);
    println!("this machine ({}) and the other are {away:.1e} apart", std::env::consts::ARCH);
    assert!(away < MOST_APART, "weights differ by {away:.1e} from those of another machine");
}
