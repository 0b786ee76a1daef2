//! Views: deterministic variations of a sample, made before the backbone sees it.
//!
//! View 0 is the plain letterboxed picture. Each further view is a function of (sample, view
//! number, seed), so that its features can be cached and an interrupted run finds them again: flips, a
//! change of scale and position, and a jitter of hue, saturation and brightness, with the ranges that
//! YOLO training uses by default (scale ±50 %, shift ±10 %, hue ±1.5 %, saturation ±70 %, brightness
//! ±40 %). Some may be mosaics of four samples; these depend on their partners too.

mod affine;
mod colour;
mod mosaic;
mod ring;
mod turns;
mod variation;

pub use turns::Turns;

pub(super) use mosaic::{TILES, is_mosaic};
pub(super) use ring::Ring;

use crate::label::LabelBox;
use crate::picture::Picture;
use crate::yolo::letterbox::{self, Fit, Letterbox};

use affine::{Affine, Window, normalised};
use colour::jitter;

/// Bumped whenever the same numbers would make another picture: cached features then don't fit.
pub(super) const VIEWS_VERSION: u32 = 2;

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

/// One view: where the pixels and the boxes of its pictures go.
pub(super) struct View {
    /// Height and width of the input, pixels.
    size: (usize, usize),
    kind: Kind,
}

enum Kind {
    /// `picture` is its width and height, pixels.
    Plain { placed: Letterbox, picture: (u32, u32) },
    /// One tile over the whole input, or a mosaic of several.
    Varied { tiles: Vec<Tile>, hsv: [f32; 3] },
}

/// One picture's part of a view.
struct Tile {
    /// Width and height of the picture, pixels.
    picture: (u32, u32),
    affine: Affine,
    window: Window,
}

impl View {
    /// The view that `key` decides, of a picture of this width and height.
    pub(super) fn new(key: ViewKey, picture: (u32, u32), size: (usize, usize)) -> Self {
        let kind = if key.view == 0 {
            let sides = (picture.1 as usize, picture.0 as usize);
            Kind::Plain { placed: Letterbox::plan(sides, size, Fit::Exact, true), picture }
        } else {
            let (affine, hsv) = variation::single(key, picture, size);
            Kind::Varied { tiles: vec![Tile { picture, affine, window: Window::whole(size) }], hsv }
        };
        View { size, kind }
    }

    /// The mosaic that `key` decides, of pictures of these widths and heights, the sample's own first.
    pub(super) fn mosaic(key: ViewKey, pictures: &[(u32, u32); TILES], size: (usize, usize)) -> Self {
        let (tiles, hsv) = mosaic::plan(key, pictures, size);
        View { size, kind: Kind::Varied { tiles, hsv } }
    }

    /// Draws into `target`, `[3, height, width]` of RGB from 0 to 1. `open` gives the picture with a
    /// number, in the order in which their sizes were given, one at a time.
    ///
    /// # Errors
    /// When `open` fails.
    pub(super) fn draw<E>(
        &self,
        mut open: impl FnMut(usize) -> Result<Picture, E>,
        target: &mut [f32],
    ) -> Result<(), E> {
        match &self.kind {
            Kind::Plain { placed, .. } => letterbox::draw(&open(0)?, placed, target),
            Kind::Varied { tiles, hsv } => {
                for (number, tile) in tiles.iter().enumerate() {
                    tile.affine.draw(&open(number)?, tile.window, self.size, target);
                }
                jitter(target, *hsv);
            }
        }
        Ok(())
    }

    /// The boxes that are in the view, normalised by the input's size; `labels` are those of its
    /// pictures in the same order.
    pub(super) fn labels(&self, labels: &[&[LabelBox]]) -> Vec<LabelBox> {
        match &self.kind {
            Kind::Plain { placed, picture } => labels[0]
                .iter()
                .map(|label| {
                    let corners = label.to_pixels(picture.0, picture.1);
                    normalised(label.class, placed.to_input(corners), self.size)
                })
                .collect(),
            Kind::Varied { tiles, .. } => {
                let place = |(tile, labels): (&Tile, &&[LabelBox])| -> Vec<LabelBox> {
                    let corners = |label: &LabelBox| label.to_pixels(tile.picture.0, tile.picture.1);
                    let each = labels.iter();
                    each.filter_map(|label| {
                        tile.affine.place(label.class, corners(label), tile.window, self.size)
                    })
                    .collect()
                };
                tiles.iter().zip(labels).flat_map(place).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
