//! Views: deterministic variations of a sample, made before the backbone sees it.
//!
//! View 0 is the plain letterboxed picture. Each further view is a function of (sample, view
//! number, seed) alone, so that its features can be cached and an interrupted run finds them again:
//! flips, a change of scale and position, and a jitter of hue, saturation and brightness, with the
//! ranges that YOLO training uses by default (scale ±50 %, shift ±10 %, hue ±1.5 %, saturation
//! ±70 %, brightness ±40 %).

use std::fmt;
use std::str::FromStr;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::label::LabelBox;
use crate::picture::Picture;
use crate::yolo::letterbox::{self, Fit, Letterbox};

/// Bumped whenever the same numbers would make another picture: cached features then don't fit.
pub(super) const VIEWS_VERSION: u32 = 2;

/// The grey that letterboxes are padded with.
const PADDING: f32 = 114.0 / 255.0;

/// A box of which less than this share stays in the view is dropped.
const KEPT_SHARE: f32 = 0.25;

/// A box with a side shorter than this many input pixels is dropped.
const SMALLEST_SIDE: f32 = 2.0;

/// Which way up a picture may be turned: what the camera could have seen as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turns {
    /// Never.
    None,
    /// Mirrored left to right: right for a camera that looks ahead.
    Mirror,
    /// Mirrored either way and turned by quarters: right for a camera that looks down.
    All,
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Turns::None => "none",
            Turns::Mirror => "mirror",
            Turns::All => "all",
        })
    }
}

impl FromStr for Turns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Turns::None),
            "mirror" => Ok(Turns::Mirror),
            "all" => Ok(Turns::All),
            other => Err(format!("there are no turns {other:?}; it is one of none, mirror, all")),
        }
    }
}

/// The numbers of one view.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Variation {
    mirror_x: bool,
    mirror_y: bool,
    transpose: bool,
    /// Relative to the letterbox's own scale.
    scale: f32,
    /// In sides of the input.
    shift: [f32; 2],
    /// Turn of the hue, in circles; factors of saturation and brightness.
    hsv: [f32; 3],
}

impl Variation {
    fn new(sample: &[u8; 32], view: u32, seed: u64, turns: Turns) -> Self {
        let mut key = *sample;
        for (byte, mix) in key.iter_mut().zip(seed.to_le_bytes().into_iter().chain(view.to_le_bytes())) {
            *byte ^= mix;
        }
        let mut rng = ChaCha8Rng::from_seed(key);
        let mut around = |centre: f32, reach: f32| centre + reach * (2.0 * rng.random::<f32>() - 1.0);
        let (scale, x, y) = (around(1.0, 0.5), around(0.0, 0.1), around(0.0, 0.1));
        let hsv = [around(0.0, 0.015), around(1.0, 0.7), around(1.0, 0.4)];
        let [mirror_x, mirror_y, transpose] = [0, 1, 2].map(|_| rng.random::<bool>());
        Variation {
            mirror_x: mirror_x && turns != Turns::None,
            mirror_y: mirror_y && turns == Turns::All,
            transpose: transpose && turns == Turns::All,
            scale,
            shift: [x, y],
            hsv,
        }
    }
}

/// What decides a view.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewKey<'a> {
    /// Hash of the picture.
    pub sample: &'a [u8; 32],
    /// Number of the view; 0 is the plain picture.
    pub view: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Which way up.
    pub turns: Turns,
}

/// One view of a picture: where its pixels and its boxes go.
pub(super) struct View {
    /// Height and width of the input, pixels.
    size: (usize, usize),
    /// Width and height of the picture, pixels.
    picture: (u32, u32),
    kind: Kind,
}

enum Kind {
    Plain(Letterbox),
    Varied { affine: Affine, hsv: [f32; 3] },
}

impl View {
    /// The view that `key` decides, of a picture of this width and height.
    pub(super) fn new(key: ViewKey, picture: (u32, u32), size: (usize, usize)) -> Self {
        let kind = if key.view == 0 {
            let sides = (picture.1 as usize, picture.0 as usize);
            Kind::Plain(Letterbox::plan(sides, size, Fit::Exact, true))
        } else {
            let variation = Variation::new(key.sample, key.view, key.seed, key.turns);
            Kind::Varied { affine: Affine::new(picture, &variation, size), hsv: variation.hsv }
        };
        View { size, picture, kind }
    }

    /// Draws into `target`, `[3, height, width]` of RGB from 0 to 1.
    pub(super) fn draw(&self, picture: &Picture, target: &mut [f32]) {
        match &self.kind {
            Kind::Plain(placed) => letterbox::draw(picture, placed, target),
            Kind::Varied { affine, hsv } => {
                sample_picture(picture, affine, self.size, target);
                jitter(target, *hsv);
            }
        }
    }

    /// The boxes that are in the view, normalised by the input's size.
    pub(super) fn labels(&self, labels: &[LabelBox]) -> Vec<LabelBox> {
        let corners = |label: &LabelBox| label.to_pixels(self.picture.0, self.picture.1);
        match &self.kind {
            Kind::Plain(placed) => labels
                .iter()
                .map(|label| normalised(label.class, placed.to_input(corners(label)), self.size))
                .collect(),
            Kind::Varied { affine, .. } => labels
                .iter()
                .filter_map(|label| affine.place(label.class, corners(label), self.size))
                .collect(),
        }
    }
}

/// Picture to input: `input = matrix · picture + offset`, in pixels; rows of a 2×2 matrix.
struct Affine {
    matrix: [[f32; 2]; 2],
    offset: [f32; 2],
}

impl Affine {
    fn new(picture: (u32, u32), variation: &Variation, (height, width): (usize, usize)) -> Self {
        let sides = [picture.0 as f32, picture.1 as f32];
        let turned = if variation.transpose { [sides[1], sides[0]] } else { sides };
        let gain = (width as f32 / turned[0]).min(height as f32 / turned[1]) * variation.scale;
        let sign = [variation.mirror_x, variation.mirror_y].map(|mirror| if mirror { -gain } else { gain });
        let matrix = if variation.transpose {
            [[0.0, sign[0]], [sign[1], 0.0]]
        } else {
            [[sign[0], 0.0], [0.0, sign[1]]]
        };
        // The picture's centre goes to the input's centre, moved by the shift.
        let centre = [sides[0] / 2.0, sides[1] / 2.0];
        let goal = [width as f32 * (0.5 + variation.shift[0]), height as f32 * (0.5 + variation.shift[1])];
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

    /// Where a box comes to lie; none when too little of it stays in sight.
    fn place(&self, class: u32, [x1, y1, x2, y2]: [f32; 4], size: (usize, usize)) -> Option<LabelBox> {
        let (p, q) = (self.apply([x1, y1]), self.apply([x2, y2]));
        let whole = [p[0].min(q[0]), p[1].min(q[1]), p[0].max(q[0]), p[1].max(q[1])];
        let (width, height) = (size.1 as f32, size.0 as f32);
        let seen = [
            whole[0].clamp(0.0, width),
            whole[1].clamp(0.0, height),
            whole[2].clamp(0.0, width),
            whole[3].clamp(0.0, height),
        ];
        let sides = [seen[2] - seen[0], seen[3] - seen[1]];
        let area = (whole[2] - whole[0]) * (whole[3] - whole[1]);
        let stays = sides[0].min(sides[1]) >= SMALLEST_SIDE && sides[0] * sides[1] >= KEPT_SHARE * area;
        stays.then(|| normalised(class, seen, size))
    }
}

fn normalised(class: u32, corners: [f32; 4], (height, width): (usize, usize)) -> LabelBox {
    let (width, height) = (width as f32, height as f32);
    LabelBox {
        class,
        cx: (corners[0] + corners[2]) / 2.0 / width,
        cy: (corners[1] + corners[3]) / 2.0 / height,
        w: (corners[2] - corners[0]) / width,
        h: (corners[3] - corners[1]) / height,
    }
}

/// Bilinear sampling with pixel centres at halves; what lies outside the picture is padding.
fn sample_picture(picture: &Picture, affine: &Affine, (height, width): (usize, usize), target: &mut [f32]) {
    let back = affine.invert();
    let (columns, rows) = (picture.width() as usize, picture.height() as usize);
    let rgb = picture.rgb();
    let (red, rest) = target.split_at_mut(height * width);
    let (green, blue) = rest.split_at_mut(height * width);
    for y in 0..height {
        for x in 0..width {
            let [u, v] = back.apply([x as f32 + 0.5, y as f32 + 0.5]);
            let inside = u >= 0.0 && v >= 0.0 && u < columns as f32 && v < rows as f32;
            let colour = if inside { bilinear(rgb, columns, rows, u - 0.5, v - 0.5) } else { [PADDING; 3] };
            let index = y * width + x;
            (red[index], green[index], blue[index]) = (colour[0], colour[1], colour[2]);
        }
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

/// Turns the hue, and scales saturation and brightness (the S and V of HSV), each kept within 0 to 1.
fn jitter(target: &mut [f32], [turn, saturation, brightness]: [f32; 3]) {
    let plane = target.len() / 3;
    let (red, rest) = target.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let [h, s, v] = to_hsv([*r, *g, *b]);
        let colour =
            from_hsv([(h + turn).rem_euclid(1.0), (s * saturation).min(1.0), (v * brightness).min(1.0)]);
        (*r, *g, *b) = (colour[0], colour[1], colour[2]);
    }
}

/// Source: Smith, "Color gamut transform pairs", SIGGRAPH 1978. All values run from 0 to 1.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let value = r.max(g).max(b);
    let chroma = value - r.min(g).min(b);
    if chroma <= 0.0 {
        return [0.0, 0.0, value];
    }
    let sextant = if value == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if value == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    [sextant / 6.0, chroma / value, value]
}

fn from_hsv([h, s, v]: [f32; 3]) -> [f32; 3] {
    let channel = |n: f32| {
        let k = (n + h * 6.0).rem_euclid(6.0);
        v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: (usize, usize) = (96, 96);

    /// Grey ground with one red rectangle, which is the label.
    fn scene(corners: [u32; 4]) -> (Picture, LabelBox) {
        let (width, height) = (120, 80);
        let mut rgb = vec![60; 3 * 120 * 80];
        for y in corners[1]..corners[3] {
            for x in corners[0]..corners[2] {
                let index = 3 * (y * width + x) as usize;
                rgb[index..index + 3].copy_from_slice(&[250, 10, 10]);
            }
        }
        let [x1, y1, x2, y2] = corners.map(|c| c as f32);
        let label = LabelBox {
            class: 0,
            cx: (x1 + x2) / 2.0 / width as f32,
            cy: (y1 + y2) / 2.0 / height as f32,
            w: (x2 - x1) / width as f32,
            h: (y2 - y1) / height as f32,
        };
        (Picture::from_rgb(width, height, rgb), label)
    }

    /// Extent of what is red in a view, `[x1, y1, x2, y2]` in pixels.
    /// The ground is grey, and variations take at most 70 % of the colour away.
    fn red_extent(view: &[f32]) -> Option<[f32; 4]> {
        let plane = SIZE.0 * SIZE.1;
        let red = (0..plane).filter(|&i| view[i] > 1.15 * view[plane + i] && view[i] > 0.05);
        red.map(|i| ((i % SIZE.1) as f32, (i / SIZE.1) as f32)).fold(None, |extent, (x, y)| {
            let [x1, y1, x2, y2] = extent.unwrap_or([x, y, x + 1.0, y + 1.0]);
            Some([x1.min(x), y1.min(y), x2.max(x + 1.0), y2.max(y + 1.0)])
        })
    }

    proptest! {
        #[test]
        fn boxes_follow_what_is_drawn(
            x in 0_u32..80, y in 0_u32..50, w in 14_u32..40, h in 14_u32..30,
            view in 0_u32..40, seed in any::<u64>(), all in any::<bool>(),
        ) {
            let (picture, label) = scene([x, y, (x + w).min(120), (y + h).min(80)]);
            let key = ViewKey {
                sample: &[7; 32], view, seed, turns: if all { Turns::All } else { Turns::Mirror },
            };
            let mut target = vec![0.0; 3 * SIZE.0 * SIZE.1];
            let view = View::new(key, (120, 80), SIZE);
            view.draw(&picture, &mut target);
            let labels = view.labels(&[label]);
            if let [label] = labels.as_slice() {
                let expected = label.to_pixels(SIZE.1 as u32, SIZE.0 as u32);
                let drawn = red_extent(&target).expect("a box that stays is drawn");
                for (drawn, expected) in drawn.iter().zip(expected) {
                    prop_assert!((drawn - expected).abs() <= 1.5, "{drawn} is not {expected}");
                }
            }
        }

        #[test]
        fn colours_survive_hue_saturation_value(rgb in prop::array::uniform3(0.0_f32..=1.0)) {
            let back = from_hsv(to_hsv(rgb));
            for (before, after) in rgb.iter().zip(back) {
                prop_assert!((before - after).abs() < 1e-5, "{rgb:?} became {back:?}");
            }
        }
    }

    #[test]
    fn a_view_depends_on_its_key_alone() {
        let (picture, label) = scene([20, 20, 60, 50]);
        let draw = |view, seed| {
            let mut target = vec![0.0; 3 * SIZE.0 * SIZE.1];
            let key = ViewKey { sample: &[1; 32], view, seed, turns: Turns::All };
            let view = View::new(key, (120, 80), SIZE);
            view.draw(&picture, &mut target);
            (target, view.labels(&[label]))
        };
        assert_eq!(draw(3, 5), draw(3, 5));
        assert_ne!(draw(3, 5).0, draw(4, 5).0);
        assert_ne!(draw(3, 5).0, draw(3, 6).0);
    }
}
