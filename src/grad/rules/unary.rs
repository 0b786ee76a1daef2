//! Operators on each value by itself: dx = dy · f′(x), written with y = f(x) wherever that spares
//! stashing x.
//!
//! | operator | f′ |
//! |---|---|
//! | `Identity` | 1 |
//! | `Neg` | −1 |
//! | `Exp` | y |
//! | `Sqrt` | 1 / (2·y) |
//! | `Sigmoid` | y·(1 − y) |
//! | `Tanh` | 1 − y² |
//! | `Relu` | 1 where y > 0, else 0 (at the kink 0, as PyTorch has it) |
//! | `LeakyRelu` | 1 where y > 0, else α (at the kink α, as PyTorch has it); α ≥ 0 |

use crate::grad::GradError;
use crate::grad::backward::Backward;
use crate::onnx::attributes::float_of;
use crate::onnx::proto::NodeProto;

/// The rule of all of them.
pub(super) fn backward(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    let dx = match node.op_type() {
        "Identity" => dy,
        "Neg" => backward.op("Neg", &[&dy])?,
        _ => {
            let y = backward.value(&node.output[0]);
            let slope = slope(backward, node, &y)?;
            backward.op("Mul", &[&dy, &slope])?
        }
    };
    backward.add_gradient(&node.input[0], dx)
}

/// f′ in terms of y.
fn slope(backward: &mut Backward, node: &NodeProto, y: &str) -> Result<String, GradError> {
    let one = backward.scalar(1.0);
    match node.op_type() {
        "Exp" => Ok(y.to_owned()),
        "Sqrt" => {
            let half = backward.scalar(0.5);
            backward.op("Div", &[&half, y])
        }
        "Sigmoid" => {
            let rest = backward.op("Sub", &[&one, y])?;
            backward.op("Mul", &[y, &rest])
        }
        "Tanh" => {
            let square = backward.op("Mul", &[y, y])?;
            backward.op("Sub", &[&one, &square])
        }
        "Relu" => backward.op("Sign", &[y]),
        "LeakyRelu" => {
            let alpha = float_of(node, "alpha", 0.01);
            if alpha < 0.0 {
                return Err(backward.unsupported(node, "its alpha is negative"));
            }
            let (low, step) = (backward.scalar(alpha), backward.scalar(1.0 - alpha));
            let sign = backward.op("Sign", &[y])?;
            let positive = backward.op("Relu", &[&sign])?;
            let raised = backward.op("Mul", &[&positive, &step])?;
            backward.op("Add", &[&raised, &low])
        }
        other => Err(backward.unsupported(node, &format!("{other} is none of this rule's operators"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::grad::finite::{Case, check, node, with};
    use crate::onnx::attributes::float;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_gradient_agrees_with_finite_differences(
            operator in prop::sample::select(vec!["Identity", "Neg", "Exp", "Sigmoid", "Tanh", "Relu", "LeakyRelu"]),
            shape in prop::collection::vec(1usize..4, 1..4),
            seed: u64,
        ) {
            let mut case = Case::new(seed);
            let x = case.trained("x", &shape);
            let attributes = if operator == "LeakyRelu" { vec![float("alpha", 0.2)] } else { vec![] };
            case.nodes.push(with(node(operator, &[&x], &["y"]), attributes));
            check(case, &["y"])?;
        }

        #[test]
        fn the_gradient_of_a_root_agrees(shape in prop::collection::vec(1usize..4, 1..4), seed: u64) {
            let mut case = Case::new(seed);
            let x = case.trained("x", &shape);
            case.nodes.push(node("Exp", &[&x], &["positive"]));
            case.nodes.push(node("Sqrt", &["positive"], &["y"]));
            check(case, &["y"])?;
        }
    }
}
