//! Operators that move values without changing them: the gradient is moved back.
//!
//! - `Reshape` (also as `Flatten`-like forms with -1 and 0): back to the input's shape.
//! - `Transpose`: by the inverse permutation.
//! - `Concat`: each input gets its slice.

use crate::grad::GradError;
use crate::grad::backward::Backward;
use crate::onnx::attributes::{int_of, ints, ints_of};
use crate::onnx::proto::NodeProto;

/// The rule of `Reshape`.
pub(super) fn reshape(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    let shape = backward.shape(&node.input[0]);
    let dx = backward.reshape(&dy, &shape)?;
    backward.add_gradient(&node.input[0], dx)
}

/// The rule of `Transpose`.
pub(super) fn transpose(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    let rank = backward.shape(&node.input[0]).len();
    let reversed: Vec<i64> = (0..rank as i64).rev().collect();
    let perm = ints_of(node, "perm").unwrap_or(&reversed);
    let mut inverse = vec![0; rank];
    perm.iter().enumerate().for_each(|(to, &from)| inverse[from as usize] = to as i64);
    let dx = backward.op_with("Transpose", &[&dy], &[ints("perm", &inverse)])?;
    backward.add_gradient(&node.input[0], dx)
}

/// The rule of `Concat`.
pub(super) fn concat(backward: &mut Backward, node: &NodeProto) -> Result<(), GradError> {
    let dy = backward.output_gradient(node)?;
    let rank = backward.shape(&node.output[0]).len() as i64;
    let axis = int_of(node, "axis", 0).rem_euclid(rank);
    let mut start = 0;
    for index in 0..node.input.len() {
        let end = start + backward.shape(&node.input[index])[axis as usize] as i64;
        if backward.wants_input(node, index) {
            let [from, to, along] = [start, end, axis].map(|value| backward.integers(&[value]));
            let dx = backward.op("Slice", &[&dy, &from, &to, &along])?;
            backward.add_gradient(&node.input[index], dx)?;
        }
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::grad::finite::{Case, check, node, with};
    use crate::onnx::attributes::{int, ints};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn reshape_agrees_with_finite_differences(a in 1usize..4, b in 1usize..4, c in 1usize..4, seed: u64) {
            let mut case = Case::new(seed);
            let x = case.trained("x", &[a, b, c]);
            let shape = case.integers("shape", &[0, -1]);
            case.nodes.push(node("Reshape", &[&x, &shape], &["y"]));
            check(case, &["y"])?;
        }

        #[test]
        fn transpose_agrees_with_finite_differences(
            perm in Just(vec![0i64, 1, 2, 3]).prop_shuffle(), explicit: bool, seed: u64,
        ) {
            let mut case = Case::new(seed);
            let x = case.trained("x", &[1, 2, 3, 2]);
            let attributes = if explicit { vec![ints("perm", &perm)] } else { vec![] };
            case.nodes.push(with(node("Transpose", &[&x], &["y"]), attributes));
            check(case, &["y"])?;
        }

        #[test]
        fn concat_agrees_with_finite_differences(
            lengths in prop::collection::vec(1usize..4, 1..4), negative: bool, seed: u64,
        ) {
            let mut case = Case::new(seed);
            let parts: Vec<String> =
                lengths.iter().enumerate().map(|(i, &n)| case.trained(&format!("x{i}"), &[2, n, 2])).collect();
            let names: Vec<&str> = parts.iter().map(String::as_str).collect();
            let axis = if negative { -2 } else { 1 };
            case.nodes.push(with(node("Concat", &names, &["y"]), vec![int("axis", axis)]));
            check(case, &["y"])?;
        }
    }
}
