//! Where the pixels and the boxes of a picture go.

use crate::label::LabelBox;
use crate::picture::Picture;

use super::turns::Turn;

/// The grey of what no picture covers: that of letterboxes.
const PADDING: f32 = 114.0 / 255.0;

/// A box of which less than this share stays in sight is dropped.
const KEPT_SHARE: f32 = 0.25;

/// A box with a side shorter than this many input pixels is dropped.
const SMALLEST_SIDE: f32 = 2.0;

/// A part of the input that one picture is drawn into, pixels: columns and rows from the first to
/// before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub columns: (usize, usize),
    pub rows: (usize, usize),
}

impl Window {
    /// The whole input of this height and width.
    pub fn whole((height, width): (usize, usize)) -> Self {
        Window { columns: (0, width), rows: (0, height) }
    }
}

/// Picture to input: `input = matrix · picture + offset`, in pixels; rows of a 2×2 matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine {
    matrix: [[f32; 2]; 2],
    offset: [f32; 2],
}

/// Width and height of a picture once it is turned, pixels.
pub(super) fn turned(picture: (u32, u32), turn: Turn) -> [f32; 2] {
    let sides = [picture.0 as f32, picture.1 as f32];
    if turn.transpose { [sides[1], sides[0]] } else { sides }
}

impl Affine {
    /// Scales by `gain`, turns, and brings the picture's centre to `goal`.
    pub fn new(picture: (u32, u32), turn: Turn, gain: f32, goal: [f32; 2]) -> Self {
        let sides = [picture.0 as f32, picture.1 as f32];
        let sign = [turn.mirror_x, turn.mirror_y].map(|mirror| if mirror { -gain } else { gain });
        let matrix =
            if turn.transpose { [[0.0, sign[0]], [sign[1], 0.0]] } else { [[sign[0], 0.0], [0.0, sign[1]]] };
        let centre = [sides[0] / 2.0, sides[1] / 2.0];
        let offset = [0, 1].map(|i| goal[i] - matrix[i][0] * centre[0] - matrix[i][1] * centre[1]);
        Affine { matrix, offset }
    }

    fn apply(&self, point: [f32; 2]) -> [f32; 2] {
        [0, 1].map(|i| self.matrix[i][0] * point[0] + self.matrix[i][1] * point[1] + self.offset[i])
    }

    /// The way back. The matrix is a scaling with flips, so its inverse is as simple.
    fn invert(&self) -> Affine {
        let [[a, b], [c, d]] = self.matrix;
        let determinant = a * d - b * c;
        let matrix = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]];
        let offset = [0, 1].map(|i| -(matrix[i][0] * self.offset[0] + matrix[i][1] * self.offset[1]));
        Affine { matrix, offset }
    }

    /// Where a box comes to lie within a window of an input of this size; none when too little of it
    /// stays in sight.
    pub fn place(
        &self,
        class: u32,
        [x1, y1, x2, y2]: [f32; 4],
        window: Window,
        size: (usize, usize),
    ) -> Option<LabelBox> {
        let (p, q) = (self.apply([x1, y1]), self.apply([x2, y2]));
        let whole = [p[0].min(q[0]), p[1].min(q[1]), p[0].max(q[0]), p[1].max(q[1])];
        let [left, right, top, bottom] =
            [window.columns.0, window.columns.1, window.rows.0, window.rows.1].map(|edge| edge as f32);
        let seen = [
            whole[0].clamp(left, right),
            whole[1].clamp(top, bottom),
            whole[2].clamp(left, right),
            whole[3].clamp(top, bottom),
        ];
        let sides = [seen[2] - seen[0], seen[3] - seen[1]];
        let area = (whole[2] - whole[0]) * (whole[3] - whole[1]);
        let stays = sides[0].min(sides[1]) >= SMALLEST_SIDE && sides[0] * sides[1] >= KEPT_SHARE * area;
        stays.then(|| normalised(class, seen, size))
    }

    /// Draws the picture into a window of `target`, `[3, height, width]`: bilinear sampling with pixel
    /// centres at halves; what lies outside the picture is padding.
    pub fn draw(
        &self,
        picture: &Picture,
        window: Window,
        (height, width): (usize, usize),
        target: &mut [f32],
    ) {
        let back = self.invert();
        let (columns, rows) = (picture.width() as usize, picture.height() as usize);
        let rgb = picture.rgb();
        let (red, rest) = target.split_at_mut(height * width);
        let (green, blue) = rest.split_at_mut(height * width);
        for y in window.rows.0..window.rows.1 {
            for x in window.columns.0..window.columns.1 {
                let [u, v] = back.apply([x as f32 + 0.5, y as f32 + 0.5]);
                let inside = u >= 0.0 && v >= 0.0 && u < columns as f32 && v < rows as f32;
                let colour =
                    if inside { bilinear(rgb, columns, rows, u - 0.5, v - 0.5) } else { [PADDING; 3] };
                let index = y * width + x;
                (red[index], green[index], blue[index]) = (colour[0], colour[1], colour[2]);
            }
        }
    }
}

/// Corners in pixels of an input of this size as a label.
pub(super) fn normalised(class: u32, corners: [f32; 4], (height, width): (usize, usize)) -> LabelBox {
    let (width, height) = (width as f32, height as f32);
    LabelBox {
        class,
        cx: (corners[0] + corners[2]) / 2.0 / width,
        cy: (corners[1] + corners[3]) / 2.0 / height,
        w: (corners[2] - corners[0]) / width,
        h: (corners[3] - corners[1]) / height,
    }
}

fn bilinear(rgb: &[u8], columns: usize, rows: usize, u: f32, v: f32) -> [f32; 3] {
    let (u, v) = (u.clamp(0.0, (columns - 1) as f32), v.clamp(0.0, (rows - 1) as f32));
    let (left, top) = (u as usize, v as usize);
    let (right, bottom) = ((left + 1).min(columns - 1), (top + 1).min(rows - 1));
    let (fx, fy) = (u - left as f32, v - top as f32);
    let pixel =
        |row: usize, column: usize, channel: usize| f32::from(rgb[(row * columns + column) * 3 + channel]);
    [0, 1, 2].map(|channel| {
        let upper = pixel(top, left, channel) * (1.0 - fx) + pixel(top, right, channel) * fx;
        let lower = pixel(bottom, left, channel) * (1.0 - fx) + pixel(bottom, right, channel) * fx;
        (upper * (1.0 - fy) + lower * fy) / 255.0
    })
}
