//! Gradients that are zero in most places, as rows.
//!
//! A detector's box maps get a gradient only at the anchors that are assigned to an object, a few in a
//! hundred. A zero stays zero on the way back until a kernel reaches over it, so the gradient of a map
//! `[batch, channels, height, width]` is kept as rows `[R, channels]` of the R cells at which it may differ
//! from zero, its *support*. A convolution widens the support by its kernel ([`Window`]); everything else
//! that a rule does to rows leaves it alone. The numbers are those of the whole map, without the zeros.
//!
//! Which cells these are is known only when the loss has been computed, so lengths are free, and tables of
//! indices come in beside the gradients: [`Rows::inputs`] makes both on the host. Tables are `f32`, as all
//! that sessions take; they are exact up to 2²⁴ rows.

use crate::tensor::Tensor;

/// A place of the map of a batch: `(picture · height + y) · width + x`.
type Place = usize;

/// Batch, height and width of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub batch: usize,
    pub sides: [usize; 2],
}

impl Grid {
    pub fn places(&self) -> usize {
        self.batch * self.sides[0] * self.sides[1]
    }
}

/// What a kernel of stride 1 reads that puts out a map as large as it takes: at `(y, x)`, tap `(r, c)` reads
/// `(y + r·dilation − pad, x + c·dilation − pad)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub dilations: [usize; 2],
    /// Top and left.
    pub pads: [usize; 2],
}

impl Window {
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Whether each place reads itself alone.
    pub fn is_point(&self) -> bool {
        self.taps() == 1 && self.pads == [0; 2]
    }

    /// How far each tap, row by row, reads from the place that it is put out at.
    fn steps(&self) -> Vec<[isize; 2]> {
        let step = |i: usize, tap: usize| (tap * self.dilations[i]) as isize - self.pads[i] as isize;
        (0..self.kernel[0]).flat_map(|r| (0..self.kernel[1]).map(move |c| [step(0, r), step(1, c)])).collect()
    }
}

/// Where a gradient may differ from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Support {
    pub grid: Grid,
    pub origin: Origin,
}

/// Why it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It does, in what the loss says of this output.
    Output(usize),
    /// What is put out on another support reads there.
    ReadBy(usize, Window),
}

/// A table of indices that the way back wants. Supports are named by their number; a row that is not there
/// is the one behind the last, which the graph has zeros at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// The places of a support's rows.
    Places(usize),
    /// For each row of `of` and each tap, the row of `within` that it reads.
    Reads { of: usize, within: usize, window: Window },
    /// For each row of `of` and each tap, the row of `within` that reads it.
    Readers { of: usize, within: usize, window: Window },
    /// For each place of the map, the row of a support.
    All(usize),
}

/// Which gradients are rows, and which tables go with them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub(super) supports: Vec<Support>,
    pub(super) tables: Vec<Table>,
}

/// The rows of a support.
struct Listed {
    places: Vec<Place>,
    /// For each place its row, or the number of rows.
    row: Vec<usize>,
}

impl Rows {
    /// Whether the gradient of this output goes in as rows.
    pub fn covers(&self, output: usize) -> bool {
        self.support_of(output).is_some()
    }

    fn support_of(&self, output: usize) -> Option<usize> {
        self.supports.iter().position(|support| support.origin == Origin::Output(output))
    }

    /// What the way back takes for the gradients of `outputs`, in their order, and then the tables. `gradient`
    /// gives the gradient of an output, `[batch, channels, height, width]`, and its shape.
    pub(super) fn inputs<'a>(
        &self,
        outputs: &[usize],
        gradient: impl Fn(usize) -> (&'a [f32], Vec<usize>),
    ) -> Vec<Tensor> {
        let listed = self.list(|grid, output| nonzero(grid, gradient(output).0));
        let gradients = outputs.iter().map(|&output| {
            let (values, shape) = gradient(output);
            match self.support_of(output) {
                Some(support) => listed[support].gather(values, &shape),
                None => Tensor::new(shape, values.to_vec()),
            }
        });
        gradients.chain(self.tables.iter().map(|table| self.table(table, &listed))).collect()
    }

    /// The tables alone, for places of outputs that the caller names.
    pub(super) fn tables<'a>(&self, at: &dyn Fn(usize) -> &'a [bool]) -> Vec<Tensor> {
        let listed = self.list(|_, output| at(output).to_vec());
        self.tables.iter().map(|table| self.table(table, &listed)).collect()
    }

    fn list(&self, at: impl Fn(Grid, usize) -> Vec<bool>) -> Vec<Listed> {
        let mut listed: Vec<Listed> = Vec::with_capacity(self.supports.len());
        for Support { grid, origin } in &self.supports {
            listed.push(match *origin {
                Origin::Output(output) => Listed::new(at(*grid, output)),
                Origin::ReadBy(readers, window) => listed[readers].read(*grid, window),
            });
        }
        listed
    }

    fn table(&self, table: &Table, listed: &[Listed]) -> Tensor {
        let indices: Vec<usize> = match *table {
            Table::Places(support) => listed[support].places.clone(),
            Table::All(support) => listed[support].row.clone(),
            Table::Reads { of, within, window } => {
                listed[of].reached(self.supports[of].grid, window.steps(), &listed[within])
            }
            Table::Readers { of, within, window } => {
                let back = window.steps().iter().map(|step| step.map(|by| -by)).collect();
                listed[of].reached(self.supports[of].grid, back, &listed[within])
            }
        };
        Tensor::new([indices.len()], indices.into_iter().map(|index| index as f32).collect())
    }
}

impl Listed {
    /// A support without a row would need operators that take nothing; a row of zeros does no harm.
    fn new(mut at: Vec<bool>) -> Self {
        if !at.contains(&true) {
            at[0] = true;
        }
        let places: Vec<Place> = (0..at.len()).filter(|&place| at[place]).collect();
        let mut row = vec![places.len(); at.len()];
        places.iter().enumerate().for_each(|(index, &place)| row[place] = index);
        Listed { places, row }
    }

    /// Where a kernel reads that puts out these rows.
    fn read(&self, grid: Grid, window: Window) -> Self {
        let mut at = vec![false; grid.places()];
        for step in window.steps() {
            for &place in &self.places {
                if let Some(place) = moved(grid, place, step) {
                    at[place] = true;
                }
            }
        }
        Listed::new(at)
    }

    /// For each of these rows and each step, the row of `within` that is there.
    fn reached(&self, grid: Grid, steps: Vec<[isize; 2]>, within: &Listed) -> Vec<usize> {
        let none = within.places.len();
        let row = |place: Option<Place>| place.map_or(none, |place| within.row[place]);
        let rows =
            |&place: &Place| steps.iter().map(move |&step| moved(grid, place, step)).map(row).collect();
        self.places.iter().flat_map::<Vec<usize>, _>(rows).collect()
    }

    /// The rows of a map `[batch, channels, height, width]`.
    fn gather(&self, map: &[f32], shape: &[usize]) -> Tensor {
        let (channels, cells) = (shape[1], shape[2] * shape[3]);
        let mut rows = vec![0.0; self.places.len() * channels];
        for (row, &place) in rows.chunks_exact_mut(channels).zip(&self.places) {
            let first = place / cells * channels * cells + place % cells;
            row.iter_mut().zip(map[first..].iter().step_by(cells)).for_each(|(to, &from)| *to = from);
        }
        Tensor::new([self.places.len(), channels], rows)
    }
}

/// Where any channel differs from zero (or is no number).
fn nonzero(grid: Grid, gradient: &[f32]) -> Vec<bool> {
    let mut at = vec![false; grid.places()];
    let cells = grid.sides[0] * grid.sides[1];
    let channels = gradient.len() / grid.places();
    for (at, picture) in at.chunks_exact_mut(cells).zip(gradient.chunks_exact(channels * cells)) {
        for plane in picture.chunks_exact(cells) {
            at.iter_mut().zip(plane).for_each(|(at, &value)| *at |= value != 0.0);
        }
    }
    at
}

/// The place so many rows and columns away, if the picture has it.
fn moved(grid: Grid, place: Place, step: [isize; 2]) -> Option<Place> {
    let [height, width] = grid.sides;
    let (picture, y, x) = (place / (height * width), place / width % height, place % width);
    let along = |at: usize, by: isize, length: usize| at.checked_add_signed(by).filter(|&at| at < length);
    let (y, x) = (along(y, step[0], height)?, along(x, step[1], width)?);
    Some((picture * height + y) * width + x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { batch: 2, sides: [3, 4] };
    const WINDOW: Window = Window { kernel: [3, 3], dilations: [1, 1], pads: [1, 1] };

    /// One output of two channels with a gradient at picture 1, (0, 3), and the support that a 3×3 kernel
    /// makes of it.
    fn rows(tables: Vec<Table>) -> Rows {
        let of = |origin| Support { grid: GRID, origin };
        Rows { supports: vec![of(Origin::Output(0)), of(Origin::ReadBy(0, WINDOW))], tables }
    }

    fn inputs(rows: &Rows, at: Option<Place>) -> Vec<Vec<f32>> {
        let mut map = [0.0; 2 * 2 * 12];
        if let Some(place) = at {
            map[place / 12 * 24 + place % 12 + 12] = 5.0;
        }
        let made = rows.inputs(&[0], |_| (&map[..], vec![2, 2, 3, 4]));
        made.iter().map(|tensor| tensor.data().to_vec()).collect()
    }

    #[test]
    fn a_corner_is_read_with_its_neighbours_and_the_border_is_no_row() {
        let rows = rows(vec![
            Table::Places(1),
            Table::Reads { of: 0, within: 1, window: WINDOW },
            Table::Readers { of: 1, within: 0, window: WINDOW },
        ]);
        let made = inputs(&rows, Some(15));
        assert_eq!(made[0], [0.0, 5.0], "its two channels");
        assert_eq!(made[1], [14.0, 15.0, 18.0, 19.0], "cells (0, 2), (0, 3), (1, 2), (1, 3) of picture 1");
        // Taps row by row; 4 is the row of zeros.
        assert_eq!(made[2], [4.0, 4.0, 4.0, 0.0, 1.0, 4.0, 2.0, 3.0, 4.0]);
        // (0, 2) is read by (0, 3) with the tap to its left, and by no other row.
        assert_eq!(made[3][..9], [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_gradient_of_zeros_has_one_row_of_zeros() {
        let rows = rows(vec![Table::Places(0), Table::All(0)]);
        let made = inputs(&rows, None);
        assert_eq!(made[0], [0.0, 0.0]);
        assert_eq!(made[1], [0.0]);
        assert_eq!(made[2][..3], [0.0, 1.0, 1.0]);
    }

    #[test]
    fn what_is_no_number_is_a_row() {
        let mut map = [0.0; 2 * 2 * 12];
        map[3] = f32::NAN;
        assert_eq!(Listed::new(nonzero(GRID, &map)).places, [3]);
    }
}
