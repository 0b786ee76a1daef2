//! `Add`, `Sub`, `Mul`, `Div`, with numpy's broadcasting: an operand that was stretched along an axis
//! gets the sum over it.
//!
//! - a + b: da = dy, db = dy; a − b: db = −dy.
//! - a · b: da = dy·b, db = dy·a.
//! - y = a / b: da = dy / b, db = −(dy / b)·y.

use crate::grad::GradError;
use crate::grad::backward::Backward;
use crate::onnx::proto::NodeProto;

/// The rule of all of them.
pub(super) fn backward(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    for index in 0..2 {
        if backward.wants_input(node, index) {
            let wide = operand_gradient(backward, node, index, &dy)?;
            let shape = backward.shape(&node.input[index]);
            let gradient = backward.unbroadcast(&wide, &shape)?;
            backward.add_gradient(&node.input[index], gradient)?;
        }
    }
    Ok(())
}

/// The gradient of an operand before it is summed over what it was stretched along.
fn operand_gradient(
    backward: &mut Backward,
    node: &NodeProto,
    index: usize,
    dy: &str,
) -> Result<String, GradError> {
    let (a, b) = (&node.input[0], &node.input[1]);
    match (node.op_type(), index) {
        ("Add", _) | ("Sub", 0) => Ok(dy.to_owned()),
        ("Sub", _) => backward.op("Neg", &[dy]),
        ("Mul", _) => {
            let other = backward.value(if index == 0 { b } else { a });
            backward.op("Mul", &[dy, &other])
        }
        ("Div", _) => {
            let divisor = backward.value(b);
            let quotient = backward.op("Div", &[dy, &divisor])?;
            if index == 0 {
                return Ok(quotient);
            }
            let y = backward.value(&node.output[0]);
            let product = backward.op("Mul", &[&quotient, &y])?;
            backward.op("Neg", &[&product])
        }
        (other, _) => Err(backward.unsupported(node, &format!("{other} is none of this rule's operators"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::grad::finite::{Case, check, node};
    use proptest::prelude::*;

    /// A shape and one that broadcasts against it: leading axes gone, others 1.
    fn shapes() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        prop::collection::vec((1usize..4, any::<bool>()), 1..4).prop_flat_map(|axes| {
            let whole: Vec<usize> = axes.iter().map(|&(length, _)| length).collect();
            let part: Vec<usize> = axes.iter().map(|&(length, one)| if one { 1 } else { length }).collect();
            (Just(whole), (0..part.len()).prop_map(move |gone| part[gone..].to_vec()))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_gradient_agrees_with_finite_differences(
            operator in prop::sample::select(vec!["Add", "Sub", "Mul", "Div"]),
            (whole, part) in shapes(),
            swapped: bool,
            seed: u64,
        ) {
            let mut case = Case::new(seed);
            let (first, second) = if swapped { (&part, &whole) } else { (&whole, &part) };
            let a = case.trained("a", first);
            let mut b = case.trained("b", second);
            if operator == "Div" {
                // Away from zero.
                case.nodes.push(node("Exp", &[&b], &["positive"]));
                b = "positive".into();
            }
            case.nodes.push(node(operator, &[&a, &b], &["y"]));
            check(case, &["y"])?;
        }

        #[test]
        fn one_value_may_be_both_operands(
            operator in prop::sample::select(vec!["Add", "Sub", "Mul"]), length in 1usize..5, seed: u64,
        ) {
            let mut case = Case::new(seed);
            let a = case.trained("a", &[length]);
            case.nodes.push(node(operator, &[&a, &a], &["y"]));
            case.nodes.push(node("Add", &["y", &a], &["z"]));
            check(case, &["z"])?;
        }
    }
}
