//! Fits a picture into the network's input: scaled to fit, centred, padded with grey.
//!
//! Sizes, paddings and the resizing itself follow what Ultralytics' predictor and validator do
//! (bilinear, half-pixel centres, edges clamped, no antialiasing; sizes round half to even), because
//! a network answers differently to pictures that were scaled otherwise.

use crate::picture::Picture;

/// The grey of the padding, 0 to 255.
const PADDING: u8 = 114;

/// How large the result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Exactly the size asked for.
    Exact,
    /// Padded only up to a multiple of this stride on each axis: for exports with free axes.
    Stride(usize),
}

/// Where a picture was put.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    /// The input, pixels: (height, width).
    pub size: (usize, usize),
    /// The scaled picture, pixels: (height, width).
    pub resized: (usize, usize),
    /// Rows of padding above the picture.
    pub top: usize,
    /// Columns of padding left of the picture.
    pub left: usize,
    /// The picture before, pixels: (height, width).
    pub picture: (usize, usize),
}

impl Letterbox {
    /// Works out sizes and paddings, without touching a pixel. `scale_up` allows pictures smaller
    /// than the input to grow.
    pub fn plan(picture: (usize, usize), target: (usize, usize), fit: Fit, scale_up: bool) -> Self {
        let (height, width) = (picture.0 as f64, picture.1 as f64);
        let mut ratio = (target.0 as f64 / height).min(target.1 as f64 / width);
        if !scale_up {
            ratio = ratio.min(1.0);
        }
        let resized = [height, width].map(|side| ((side * ratio).round_ties_even() as usize).max(1));
        let room = [0, 1].map(|i| {
            let gap = [target.0, target.1][i].saturating_sub(resized[i]);
            match fit {
                Fit::Exact => gap,
                Fit::Stride(stride) => gap % stride,
            }
        });
        let before = room.map(|room| (room as f64 / 2.0 - 0.1).round_ties_even() as usize);
        Letterbox {
            size: (resized[0] + room[0], resized[1] + room[1]),
            resized: (resized[0], resized[1]),
            top: before[0],
            left: before[1],
            picture,
        }
    }

    /// Corners in pixels of the picture to corners in pixels of the input.
    pub fn to_input(&self, [x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
        let [gx, gy] = self.gains();
        let (left, top) = (self.left as f32, self.top as f32);
        [x1 * gx + left, y1 * gy + top, x2 * gx + left, y2 * gy + top]
    }

    /// Corners in pixels of the input to corners in pixels of the picture, clipped to it.
    pub fn to_picture(&self, [x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
        let [gx, gy] = self.gains();
        let (left, top) = (self.left as f32, self.top as f32);
        let (width, height) = (self.picture.1 as f32, self.picture.0 as f32);
        [
            ((x1 - left) / gx).clamp(0.0, width),
            ((y1 - top) / gy).clamp(0.0, height),
            ((x2 - left) / gx).clamp(0.0, width),
            ((y2 - top) / gy).clamp(0.0, height),
        ]
    }

    /// Input pixels per picture pixel, along x and y: they differ by the rounding of the sizes.
    fn gains(&self) -> [f32; 2] {
        [self.resized.1 as f32 / self.picture.1 as f32, self.resized.0 as f32 / self.picture.0 as f32]
    }
}

/// Letterboxes a picture into `target`, `[3, height, width]` of RGB from 0 to 1.
///
/// # Panics
/// When `target` does not have `3 * height * width` values.
pub fn letterbox(picture: &Picture, size: (usize, usize), fit: Fit, target: &mut [f32]) -> Letterbox {
    let placed = Letterbox::plan((picture.height() as usize, picture.width() as usize), size, fit, true);
    draw(picture, &placed, target);
    placed
}

/// Draws a picture where a plan says.
///
/// # Panics
/// When `target` does not have `3 * height * width` values of the plan's size.
pub fn draw(picture: &Picture, placed: &Letterbox, target: &mut [f32]) {
    let (height, width) = placed.size;
    assert_eq!(target.len(), 3 * height * width, "a letterbox of {height}x{width}");
    target.fill(f32::from(PADDING) / 255.0);
    let columns = taps(placed.picture.1, placed.resized.1);
    let rows = taps(placed.picture.0, placed.resized.0);
    let rgb = picture.rgb();
    let stride = 3 * placed.picture.1;
    let plane = height * width;
    let mut line = vec![0.0_f32; 3 * placed.picture.1];
    for (y, row) in rows.iter().enumerate() {
        let (upper, lower) = (&rgb[row.first * stride..][..stride], &rgb[row.second * stride..][..stride]);
        for ((value, &a), &b) in line.iter_mut().zip(upper).zip(lower) {
            *value = f32::from(a) + (f32::from(b) - f32::from(a)) * row.weight;
        }
        let start = (placed.top + y) * width + placed.left;
        for channel in 0..3 {
            let out = &mut target[channel * plane + start..][..columns.len()];
            for (value, column) in out.iter_mut().zip(&columns) {
                let a = line[3 * column.first + channel];
                let b = line[3 * column.second + channel];
                // Rounded as the 8-bit picture that the reference makes in between.
                *value = (a + (b - a) * column.weight).round() / 255.0;
            }
        }
    }
}

/// Two neighbours along an axis and how much the second weighs.
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|index| {
            let position = ((index as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
            let first = position as usize;
            Tap { first, second: (first + 1).min(from - 1), weight: (position - first as f64) as f32 }
        })
        .collect()
}
