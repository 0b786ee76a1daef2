//! Raw maps: what the head's last convolutions put out, before sigmoid, softmax and decoding.

/// The shape of a head's raw maps at one input size. Levels go from fine to coarse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadShape {
    /// The network's input, pixels: (height, width).
    pub input: (usize, usize),
    /// One entry per level.
    pub levels: Vec<Level>,
    /// Bins per side of a box (16), or 1 when distances come out directly.
    pub reg_max: usize,
    /// Number of classes.
    pub classes: usize,
    /// Whether each object is meant to be found by one anchor alone, so that nothing is suppressed.
    pub one_to_one: bool,
}

/// One level of the head: a grid of anchors, one per cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Input pixels per cell.
    pub stride: usize,
    /// Rows of cells.
    pub height: usize,
    /// Columns of cells.
    pub width: usize,
}

impl Level {
    /// Cells, that is, anchors, on this level.
    pub fn cells(&self) -> usize {
        self.height * self.width
    }
}

impl HeadShape {
    /// Anchors of all levels.
    pub fn anchors(&self) -> usize {
        self.levels.iter().map(Level::cells).sum()
    }

    /// Whether a model's raw maps have this shape. `maps` holds the shapes of each level's box map and
    /// class map, `[1, channels, height, width]`.
    ///
    /// # Errors
    /// One sentence, when a level's grid is not what its stride says: then the file tells another stride
    /// than it has.
    pub fn check(&self, maps: impl IntoIterator<Item = [impl AsRef<[usize]>; 2]>) -> Result<(), String> {
        for (level, maps) in self.levels.iter().zip(maps) {
            for (map, channels) in maps.iter().zip([self.box_channels(), self.classes]) {
                let (found, expected) = (map.as_ref(), [1, channels, level.height, level.width]);
                if found != expected {
                    return Err(format!(
                        "a raw map has the shape {found:?}, where stride {} at an input of {}x{} makes it \
                         {expected:?}; export the model with its metadata (stride), or with another imgsz",
                        level.stride, self.input.0, self.input.1
                    ));
                }
            }
        }
        Ok(())
    }

    /// Channels of a box map: four sides of `reg_max` bins.
    pub fn box_channels(&self) -> usize {
        4 * self.reg_max
    }
}

/// A mini-batch of raw maps, borrowed, one slice per level.
#[derive(Debug, Clone)]
pub struct RawMaps<'a> {
    /// Pictures in the batch.
    pub batch: usize,
    /// Per level `[batch, 4 * reg_max, height, width]`: bin logits, left then top, right, bottom.
    pub boxes: Vec<&'a [f32]>,
    /// Per level `[batch, classes, height, width]`: class logits.
    pub classes: Vec<&'a [f32]>,
}

/// d(loss)/d(raw maps), in the same layout as [`RawMaps`].
#[derive(Debug, Clone, PartialEq)]
pub struct MapGradients {
    /// Per level, like [`RawMaps::boxes`].
    pub boxes: Vec<Vec<f32>>,
    /// Per level, like [`RawMaps::classes`].
    pub classes: Vec<Vec<f32>>,
}

impl MapGradients {
    /// Multiplies every value.
    pub fn scale(&mut self, factor: f32) {
        for map in self.boxes.iter_mut().chain(&mut self.classes) {
            map.iter_mut().for_each(|value| *value *= factor);
        }
    }
}
