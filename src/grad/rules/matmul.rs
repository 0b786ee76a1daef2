//! `MatMul`: y = a · b over the last two axes, the others broadcast as numpy does.
//!
//! da = dy · bᵀ and db = aᵀ · dy, each summed over the axes along which its operand was stretched.
//! Operands have at least two axes.

use crate::grad::GradError;
use crate::grad::backward::Backward;
use crate::onnx::attributes::ints;
use crate::onnx::proto::NodeProto;

/// The rule.
pub(super) fn backward(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    let shapes = [0, 1].map(|index| backward.shape(&node.input[index]));
    if shapes.iter().any(|shape| shape.len() < 2) {
        return Err(backward.unsupported(node, "an operand is a vector"));
    }
    for index in 0..2 {
        if !backward.wants_input(node, index) {
            continue;
        }
        let other = backward.value(&node.input[1 - index]);
        let turned = swap_last(backward, &other, shapes[1 - index].len())?;
        let wide = match index {
            0 => backward.op("MatMul", &[&dy, &turned])?,
            _ => backward.op("MatMul", &[&turned, &dy])?,
        };
        let gradient = backward.unbroadcast(&wide, &shapes[index])?;
        backward.add_gradient(&node.input[index], gradient)?;
    }
    Ok(())
}

fn swap_last(backward: &mut Backward, value: &str, rank: usize) -> Result<String, GradError> {
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    backward.op_with("Transpose", &[value], &[ints("perm", &perm)])
}

#[cfg(test)]
mod tests {
    use crate::grad::finite::{Case, check, node};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_gradient_agrees_with_finite_differences(
            (rows, inner, columns) in (1usize..4, 1usize..4, 1usize..4),
            (a_head, b_head) in prop::sample::select(vec![
                (vec![], vec![]), (vec![2], vec![2]), (vec![2], vec![]), (vec![], vec![3]), (vec![2, 1], vec![3]),
            ]),
            seed: u64,
        ) {
            let mut case = Case::new(seed);
            let a = case.trained("a", &[&a_head[..], &[rows, inner]].concat());
            let b = case.trained("b", &[&b_head[..], &[inner, columns]].concat());
            case.nodes.push(node("MatMul", &[&a, &b], &["y"]));
            check(case, &["y"])?;
        }
    }
}
