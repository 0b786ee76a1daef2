//! What rules do with gradients that are rows: see `rows.rs` for what these are.

use crate::onnx::attributes::{int, ints};

use super::GradError;
use super::backward::Backward;
use super::rows::{Grid, Origin, Rows, Support, Table, Window};

/// A gradient as rows `[R, channels]` of the way back, and its support.
#[derive(Debug, Clone)]
pub(crate) struct RowGradient {
    pub value: String,
    pub support: usize,
}

/// What the way back has of rows so far.
#[derive(Default)]
pub(super) struct Sparse {
    /// Supports, and the tables that were asked for.
    pub rows: Rows,
    /// Names of the tables in the graph, as they come in.
    pub inputs: Vec<String>,
    /// Names of the tables as indices.
    indices: Vec<String>,
    /// Gradients of forward values, by name.
    gradients: Vec<(String, RowGradient)>,
    /// Rows of forward values: name, support, rows.
    at: Vec<(String, usize, String)>,
    /// Forward values that are SiLU of another: output and input.
    silus: Vec<(String, String)>,
}

impl Sparse {
    /// None yet. `silus` names output and input of each SiLU.
    pub fn new(silus: Vec<(String, String)>) -> Self {
        Sparse { silus, ..Sparse::default() }
    }

    /// A number of rows that no axis has, for the shapes of a graph whose rows will be counted at run time:
    /// lengths that must agree do, and others don't by chance.
    fn stand_in(support: usize) -> usize {
        1_000_003 + support
    }
}

impl Backward<'_> {
    /// d(loss)/d(this forward value) as rows, if it is known as rows.
    pub(crate) fn row_gradient(&self, name: &str) -> Option<RowGradient> {
        let found = self.sparse.gradients.iter().find(|(of, _)| of == name);
        found.map(|(_, gradient)| gradient.clone())
    }

    /// Makes the gradient of an output come in as rows.
    pub(super) fn row_input(&mut self, output: usize, name: &str, input: &str) {
        let shape = self.shape(name);
        let grid = Grid { batch: shape[0], sides: [shape[2], shape[3]] };
        let support = self.support(Support { grid, origin: Origin::Output(output) });
        let value = self.graph.input_of_any_length(input, Sparse::stand_in(support), &shape[1..2]);
        self.sparse.gradients.push((name.into(), RowGradient { value, support }));
    }

    fn support(&mut self, wanted: Support) -> usize {
        let supports = &mut self.sparse.rows.supports;
        supports.iter().position(|support| *support == wanted).unwrap_or_else(|| {
            supports.push(wanted);
            supports.len() - 1
        })
    }

    /// The support of what a kernel reads that puts out rows of `support`.
    pub(crate) fn read_by(&mut self, support: usize, window: Window) -> usize {
        if window.is_point() {
            return support;
        }
        let grid = self.sparse.rows.supports[support].grid;
        self.support(Support { grid, origin: Origin::ReadBy(support, window) })
    }

    /// The indices of a table, `i64`.
    fn indices(&mut self, table: Table) -> Result<String, GradError> {
        if let Some(known) = self.sparse.rows.tables.iter().position(|known| *known == table) {
            return Ok(self.sparse.indices[known].clone());
        }
        let length = match table {
            Table::Places(support) => Sparse::stand_in(support),
            Table::Reads { of, window, .. } | Table::Readers { of, window, .. } => {
                Sparse::stand_in(of) * window.taps()
            }
            Table::All(support) => self.sparse.rows.supports[support].grid.places(),
        };
        let name = format!("rows/{}", self.sparse.inputs.len());
        match table {
            Table::All(_) => self.graph.input(&name, &[length]),
            _ => self.graph.input_of_any_length(&name, length, &[]),
        };
        let indices = self.op_with("Cast", &[&name], &[int("to", INT64)])?;
        self.sparse.rows.tables.push(table);
        self.sparse.inputs.push(name);
        self.sparse.indices.push(indices.clone());
        Ok(indices)
    }

    /// A forward value `[batch, channels, height, width]` at the rows of a support, `[R, channels]`.
    pub(crate) fn at(&mut self, name: &str, support: usize) -> Result<String, GradError> {
        let known = self.sparse.at.iter().find(|(of, at, _)| of == name && *at == support);
        if let Some((_, _, rows)) = known {
            return Ok(rows.clone());
        }
        let silu = self.sparse.silus.iter().find(|(output, _)| output == name).map(|(_, z)| z.clone());
        let rows = match silu {
            // From its input, which the rule of SiLU reads too: one map less is stashed and put in order.
            Some(z) => self.silu_at(&z, support)?.1,
            None => {
                let shape = self.shape(name);
                let map = self.value(name);
                let last = self.op_with("Transpose", &[&map], &[ints("perm", &[0, 2, 3, 1])])?;
                let last = self.reshape(&last, &[shape[0] * shape[2] * shape[3], shape[1]])?;
                let places = self.indices(Table::Places(support))?;
                self.op_with("Gather", &[&last, &places], &[int("axis", 0)])?
            }
        };
        self.sparse.at.push((name.into(), support, rows.clone()));
        Ok(rows)
    }

    /// σ(z) and z·σ(z) at the rows of a support.
    pub(crate) fn silu_at(&mut self, z: &str, support: usize) -> Result<(String, String), GradError> {
        let z = self.at(z, support)?;
        let s = self.op("Sigmoid", &[&z])?;
        let y = self.op("Mul", &[&z, &s])?;
        Ok((s, y))
    }

    /// For each row of `of` the rows of `within` that its taps read, side by side: `rows` are those of
    /// `within`, `[R, channels]`; gives `[rows of "of", taps · channels]`.
    pub(crate) fn reads(
        &mut self,
        rows: &str,
        of: usize,
        within: usize,
        window: Window,
    ) -> Result<String, GradError> {
        self.side_by_side(rows, window, Table::Reads { of, within, window })
    }

    /// For each row of `of` the rows of `within` whose taps read it, as [`Backward::reads`].
    pub(crate) fn readers(
        &mut self,
        rows: &str,
        of: usize,
        within: usize,
        window: Window,
    ) -> Result<String, GradError> {
        self.side_by_side(rows, window, Table::Readers { of, within, window })
    }

    fn side_by_side(&mut self, rows: &str, window: Window, table: Table) -> Result<String, GradError> {
        if window.is_point() {
            return Ok(rows.into());
        }
        let channels = self.own_shape(rows)[1];
        let picked = self.pick(rows, table)?;
        let shape = self.integers(&[-1, (window.taps() * channels) as i64]);
        self.op("Reshape", &[&picked, &shape])
    }

    /// Rows by a table, with a row of zeros behind the last.
    fn pick(&mut self, rows: &str, table: Table) -> Result<String, GradError> {
        let channels = self.own_shape(rows)[1];
        let zero = self.scalar(0.0);
        let shape = self.integers(&[1, channels as i64]);
        let zeros = self.op("Expand", &[&zero, &shape])?;
        let rows = self.op_with("Concat", &[rows, &zeros], &[int("axis", 0)])?;
        let indices = self.indices(table)?;
        self.op_with("Gather", &[&rows, &indices], &[int("axis", 0)])
    }

    /// Adds rows to d(loss)/d(this forward value). Where a gradient is known already, both become whole maps:
    /// their supports may differ.
    pub(crate) fn add_row_gradient(&mut self, name: &str, gradient: RowGradient) -> Result<(), GradError> {
        let known = self.row_gradient(name).is_some() || self.gradient(name).is_some();
        if known {
            self.spread(name)?;
        }
        self.sparse.gradients.push((name.into(), gradient));
        if known { self.spread(name) } else { Ok(()) }
    }

    /// Turns d(loss)/d(this forward value) from rows into the whole map, where it is rows.
    pub(crate) fn spread(&mut self, name: &str) -> Result<(), GradError> {
        let Some(index) = self.sparse.gradients.iter().position(|(of, _)| of == name) else {
            return Ok(());
        };
        let (_, gradient) = self.sparse.gradients.remove(index);
        let Grid { batch, sides: [height, width] } = self.sparse.rows.supports[gradient.support].grid;
        let channels = self.own_shape(&gradient.value)[1];
        let all = self.pick(&gradient.value, Table::All(gradient.support))?;
        let all = self.reshape(&all, &[batch, height, width, channels])?;
        let map = self.op_with("Transpose", &[&all], &[ints("perm", &[0, 3, 1, 2])])?;
        self.add_gradient(name, map)
    }
}

/// ONNX' number for 64-bit integers.
const INT64: i64 = 7;

#[cfg(test)]
mod tests {
    use super::super::compile::sparse_gradient_graph;
    use super::super::finite::{Case, check_rows, node, with};
    use crate::onnx::attributes::{int, ints};
    use proptest::prelude::*;

    /// A convolution that keeps the size of its map, where its kernel's sides are odd.
    fn conv(
        case: &mut Case,
        x: &str,
        y: &str,
        [from, to]: [usize; 2],
        kernel: [usize; 2],
        dilation: usize,
        groups: usize,
    ) {
        let w = case.weight(&format!("{y}.w"), &[to, from / groups, kernel[0], kernel[1]]);
        let b = case.weight(&format!("{y}.b"), &[to]);
        let pads = kernel.map(|side| (side / 2 * dilation) as i64);
        case.nodes.push(with(
            node("Conv", &[x, &w, &b], &[y]),
            vec![
                ints("kernel_shape", &kernel.map(|side| side as i64)),
                ints("dilations", &[dilation as i64; 2]),
                ints("pads", &[pads[0], pads[1], pads[0], pads[1]]),
                int("group", groups as i64),
            ],
        ));
    }

    fn silu(case: &mut Case, z: &str, y: &str) {
        case.nodes.push(node("Sigmoid", &[z], &[&format!("{y}.s")]));
        case.nodes.push(node("Mul", &[z, &format!("{y}.s")], &[y]));
    }

    /// A box branch: two convolutions with SiLU and a last one.
    fn branch(
        case: &mut Case,
        batch: usize,
        sides: [usize; 2],
        kernels: [[usize; 2]; 3],
        dilation: usize,
        groups: usize,
    ) {
        case.trained("x", &[batch, 2, sides[0], sides[1]]);
        conv(case, "x.v", "z1", [2, 4], kernels[0], dilation, 1);
        silu(case, "z1", "y1");
        conv(case, "y1", "z2", [4, 4], kernels[1], 1, groups);
        silu(case, "z2", "y2");
        conv(case, "y2", "map", [4, 3], kernels[2], 1, 1);
    }

    fn side() -> impl Strategy<Value = usize> {
        prop_oneof![Just(1usize), Just(3), Just(5)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_give_the_gradient_that_whole_maps_give(
            batch in 1usize..3,
            sides in prop::array::uniform2(2usize..7),
            kernels in prop::array::uniform3((side(), side()).prop_map(|(rows, columns)| [rows, columns])),
            dilation in 1usize..3,
            groups in prop_oneof![Just(1usize), Just(2), Just(4)],
            share in prop_oneof![Just(0.0), Just(0.05), Just(0.3), Just(1.0)],
            seed: u64,
        ) {
            let mut case = Case::new(seed);
            branch(&mut case, batch, sides, kernels, dilation, groups);
            check_rows(case, &["map"], &[0], share)?;
        }

        #[test]
        fn rows_meet_others_and_whole_maps(first_rows: bool, second_rows: bool, share in 0.0..0.5, seed: u64) {
            // What two outputs read gets two gradients, of two supports.
            let mut case = Case::new(seed);
            branch(&mut case, 1, [5, 4], [[3, 3], [3, 3], [1, 1]], 1, 1);
            conv(&mut case, "y1", "other", [4, 2], [1, 1], 1, 1);
            let sparse: Vec<usize> =
                [first_rows, second_rows].iter().enumerate().filter(|(_, rows)| **rows).map(|(index, _)| index).collect();
            check_rows(case, &["map", "other"], &sparse, share)?;
        }
    }

    #[test]
    fn a_box_branch_goes_by_rows_from_end_to_end() {
        let mut case = Case::new(1);
        branch(&mut case, 1, [5, 4], [[3, 3], [3, 3], [1, 1]], 1, 1);
        let (graph, _) = sparse_gradient_graph(&case.subgraph(&["map"]), &[0]).expect("it has rules");
        let operators: Vec<&str> = graph.backward.graph().node.iter().map(|node| node.op_type()).collect();
        // x is trained in this test, so its gradient, and only that, becomes a whole map.
        assert!(!operators.contains(&"Conv"), "{operators:?}");
        assert!(!operators.contains(&"Pad"), "{operators:?}");
        let inputs: Vec<&str> = graph.backward.graph().input.iter().map(|input| input.name()).collect();
        assert!(inputs.contains(&"z1") && !inputs.contains(&"y1"), "one map of each SiLU: {inputs:?}");
    }
}
