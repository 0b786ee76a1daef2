//! Writes what is made of rows: see `rows.rs` for what these are.
//!
//! A forward value is made at the rows that are asked for, and all that it needs likewise, from the whole maps
//! that come in. So nothing of a branch whose gradients are rows is stashed: the way back makes it again, for
//! the few places at which it is needed.

use std::collections::HashMap;

use crate::onnx::attributes::{int, ints};

use super::GradError;
use super::rows::{Grid, Origin, Rows, Support, Table, Window};
use super::rules::Maker;
use super::writer::Writer;

/// For each forward value that can be made by rows, how.
pub(super) type Makers = HashMap<String, Maker>;

/// What a graph has of rows so far.
pub(super) struct Sparse<'a> {
    makers: &'a Makers,
    /// Supports, and the tables that were asked for.
    pub rows: Rows,
    /// Names of the tables in the graph, as they come in.
    pub inputs: Vec<String>,
    /// Names of the tables as indices.
    indices: Vec<String>,
    /// Rows of forward values, by name and support.
    at: HashMap<(String, usize), String>,
    /// Rows that were picked by a table, by their name and the table's number.
    picked: HashMap<(String, usize), String>,
}

impl<'a> Sparse<'a> {
    /// None yet.
    pub fn new(makers: &'a Makers) -> Self {
        Sparse {
            makers,
            rows: Rows::default(),
            inputs: Vec::new(),
            indices: Vec::new(),
            at: HashMap::new(),
            picked: HashMap::new(),
        }
    }
}

/// A number of rows that no axis has, for the shapes of a graph whose rows will be counted at run time:
/// lengths that must agree do, and others don't by chance.
fn stand_in(support: usize) -> usize {
    1_000_003 + support
}

impl Writer<'_> {
    /// Adds an input of rows.
    pub(super) fn rows_input(&mut self, name: &str, support: usize, channels: usize) -> String {
        self.graph.input_of_any_length(name, stand_in(support), &[channels])
    }

    /// The support that the host finds for an output, a map of this name.
    pub(super) fn output_support(&mut self, output: usize, name: &str) -> usize {
        let shape = self.shape(name);
        let grid = Grid { batch: shape[0], sides: [shape[2], shape[3]] };
        self.support(Support { grid, origin: Origin::Output(output) })
    }

    /// The support of what a kernel reads that puts out rows of `support`.
    pub(crate) fn read_by(&mut self, support: usize, window: Window) -> usize {
        if window.is_point() {
            return support;
        }
        self.support(Support { grid: self.grid(support), origin: Origin::ReadBy(support, window) })
    }

    fn support(&mut self, wanted: Support) -> usize {
        let supports = &mut self.sparse.rows.supports;
        supports.iter().position(|support| *support == wanted).unwrap_or_else(|| {
            supports.push(wanted);
            supports.len() - 1
        })
    }

    /// The maps that a support is of.
    pub(super) fn grid(&self, support: usize) -> Grid {
        self.sparse.rows.supports[support].grid
    }

    /// A forward value `[batch, channels, height, width]` at the rows of a support, `[R, channels]`.
    pub(crate) fn at(&mut self, name: &str, support: usize) -> Result<String, GradError> {
        let key = (name.to_owned(), support);
        if let Some(rows) = self.sparse.at.get(&key) {
            return Ok(rows.clone());
        }
        let rows = match self.sparse.makers.get(name) {
            Some(maker) => maker.rows(self, support)?,
            None => {
                let shape = self.shape(name);
                let map = self.value(name);
                let last = self.op_with("Transpose", &[&map], &[ints("perm", &[0, 2, 3, 1])])?;
                let last = self.reshape(&last, &[shape[0] * shape[2] * shape[3], shape[1]])?;
                let (_, places) = self.indices(Table::Places(support))?;
                self.op_with("Gather", &[&last, &places], &[int("axis", 0)])?
            }
        };
        self.sparse.at.insert(key, rows.clone());
        Ok(rows)
    }

    /// What the taps of a kernel meet, side by side: `rows` are those of the table's `within`,
    /// `[R, channels]`; gives `[rows of its "of", taps · channels]`.
    pub(crate) fn side_by_side(
        &mut self,
        rows: &str,
        window: Window,
        table: Table,
    ) -> Result<String, GradError> {
        if window.is_point() {
            return Ok(rows.into());
        }
        let channels = self.own_shape(rows)[1];
        let picked = self.pick(rows, table)?;
        let shape = self.integers(&[-1, (window.taps() * channels) as i64]);
        self.op("Reshape", &[&picked, &shape])
    }

    /// Rows by a table, with a row of zeros behind the last.
    pub(super) fn pick(&mut self, rows: &str, table: Table) -> Result<String, GradError> {
        let (number, indices) = self.indices(table)?;
        let key = (rows.to_owned(), number);
        if let Some(picked) = self.sparse.picked.get(&key) {
            return Ok(picked.clone());
        }
        let zero = self.scalar(0.0);
        let shape = self.integers(&[1, self.own_shape(rows)[1] as i64]);
        let zeros = self.op("Expand", &[&zero, &shape])?;
        let longer = self.op_with("Concat", &[rows, &zeros], &[int("axis", 0)])?;
        let picked = self.op_with("Gather", &[&longer, &indices], &[int("axis", 0)])?;
        self.sparse.picked.insert(key, picked.clone());
        Ok(picked)
    }

    /// The number of a table and its indices, `i64`.
    fn indices(&mut self, table: Table) -> Result<(usize, String), GradError> {
        let number = self.sparse.rows.tables.len();
        if let Some(known) = self.sparse.rows.tables.iter().position(|known| *known == table) {
            return Ok((known, self.sparse.indices[known].clone()));
        }
        let name = format!("rows/{number}");
        match table {
            Table::Places(support) => self.graph.input_of_any_length(&name, stand_in(support), &[]),
            Table::Reads { of, window, .. } | Table::Readers { of, window, .. } => {
                self.graph.input_of_any_length(&name, stand_in(of) * window.taps(), &[])
            }
            Table::All(support) => {
                let places = self.grid(support).places();
                self.graph.input(&name, &[places])
            }
        };
        let indices = self.op_with("Cast", &[&name], &[int("to", INT64)])?;
        self.sparse.rows.tables.push(table);
        self.sparse.inputs.push(name);
        self.sparse.indices.push(indices.clone());
        Ok((number, indices))
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
            conv(&mut case, "x.v", "whole", [2, 2], [1, 1], 1, 1);
            check_rows(case, &["map", "whole"], &[0], share)?;
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
        let (graph, ..) = sparse_gradient_graph(&case.subgraph(&["map"]), &[0]).expect("it has rules");
        let operators: Vec<&str> = graph.backward.graph().node.iter().map(|node| node.op_type()).collect();
        // x is trained in this test, so its gradient, and only that, becomes a whole map.
        assert!(!operators.contains(&"Conv"), "{operators:?}");
        assert!(!operators.contains(&"Pad"), "{operators:?}");
        let inputs: Vec<&str> = graph.backward.graph().input.iter().map(|input| input.name()).collect();
        for stashed in ["z1", "y1", "z2", "y2"] {
            assert!(!inputs.contains(&stashed), "it is made again by rows: {inputs:?}");
        }
    }
}
