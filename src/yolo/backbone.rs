//! Runs the frozen part of a cut detector: pictures in, features (and frozen raw maps) out.

use crate::runtime::{Runtime, RuntimeError, Session, SessionOptions, Value};
use crate::tensor::Tensor;

use super::cut::Cut;
use super::export::Export;
use super::maps::{HeadShape, Level};

/// A loaded backbone.
pub struct Backbone {
    session: Box<dyn Session>,
    /// Pictures that go in at once; the file says so.
    batch: usize,
    size: (usize, usize),
    /// Shape of each output for one picture, `[1, C, h, w]`.
    shapes: Vec<Vec<usize>>,
}

impl Backbone {
    /// Loads the backbone of `cut`, made for this input size, and learns its outputs' shapes by
    /// running it once on zeros.
    ///
    /// # Errors
    /// When the runtime refuses the graph.
    pub fn load(
        export: &Export,
        cut: &Cut,
        size: (usize, usize),
        runtime: &dyn Runtime,
        options: &SessionOptions,
    ) -> Result<Self, RuntimeError> {
        let session = runtime.load(&cut.backbone.encode(), options)?;
        let mut backbone =
            Backbone { session, batch: export.input.batch.unwrap_or(1), size, shapes: Vec::new() };
        let outputs = backbone.run(Tensor::zeros([backbone.batch, 3, size.0, size.1]))?;
        backbone.shapes = outputs
            .iter()
            .map(|value| {
                let mut shape = value.shape();
                shape[0] = 1;
                shape
            })
            .collect();
        Ok(backbone)
    }

    /// Pictures that go in at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Height and width of the input, pixels.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Values of one picture, `[3, height, width]`.
    pub fn picture_len(&self) -> usize {
        3 * self.size.0 * self.size.1
    }

    /// Shape of each output for one picture, `[1, C, h, w]`.
    pub fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// Runs a batch, `[batch, 3, height, width]` of RGB from 0 to 1. The outputs are those of
    /// [`Cut::features`], in that order.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn run(&mut self, pictures: Tensor) -> Result<Vec<Value>, RuntimeError> {
        self.session.run(&[&pictures.into()])
    }
}

/// The shape of a detector's raw maps at this input size.
pub fn head_shape(export: &Export, size: (usize, usize)) -> HeadShape {
    let level = |stride: usize| Level { stride, height: size.0 / stride, width: size.1 / stride };
    HeadShape {
        input: size,
        levels: export.levels.iter().map(|found| level(found.stride)).collect(),
        reg_max: export.reg_max,
        classes: export.classes.len(),
        one_to_one: export.one_to_one,
    }
}

/// The input size that a detector is run at: its own, or a square of this side where the file leaves
/// the choice.
///
/// # Errors
/// One sentence, when the file is fixed to another size or the side is no multiple of the coarsest
/// stride.
pub fn input_size(export: &Export, side: Option<usize>) -> Result<(usize, usize), String> {
    let stride = export.levels.iter().map(|level| level.stride).max().unwrap_or(32);
    let size = match (side, export.input.fixed) {
        (None, _) => export.input.size,
        (Some(side), None) => (side, side),
        (Some(side), Some(fixed)) if fixed == (side, side) => fixed,
        (Some(side), Some((height, width))) => {
            return Err(format!(
                "the model's input is fixed to {height}x{width}, so imgsz {side} can't be had; \
                 leave imgsz out, or export the model with that imgsz or with dynamic axes"
            ));
        }
    };
    if size.0 == 0 || size.1 == 0 || size.0 % stride != 0 || size.1 % stride != 0 {
        return Err(format!(
            "an input of {}x{} is no multiple of the stride {stride}; try 640",
            size.0, size.1
        ));
    }
    Ok(size)
}
