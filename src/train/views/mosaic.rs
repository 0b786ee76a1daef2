//! Mosaics: four pictures around a point of the input, each turned and scaled by itself.
//!
//! A mosaic shows objects beside grounds they were never seen on, and four pictures' objects for the
//! price of one (Bochkovskiy, Wang and Liao, "YOLOv4", arXiv 2004.10934). The point lies in the middle
//! half of the input, so that every picture has at least a quarter of each side. In its window a
//! picture keeps the scales of a single view; where it is larger than the window any part of it may be
//! seen, and where it is smaller it may lie anywhere.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::cache::hash;
use super::affine::{Affine, Window, turned};
use super::turns::Turn;
use super::variation::{around, jitters, letterbox_gain, scale};
use super::{Tile, ViewKey};

/// Pictures in a mosaic.
pub(in crate::train) const TILES: usize = 4;

/// Whether a view is a mosaic, when this share of the varied views (all but view 0) is: spread evenly,
/// every second one at 0.5, and the same ones however many views there are.
pub(in crate::train) fn is_mosaic(view: u32, share: f64) -> bool {
    let until = |view: u32| (f64::from(view) * share).floor();
    view > 0 && until(view) > until(view - 1)
}

/// Where the pictures of a mosaic go, and its jitter. The first picture is the sample's own; it may
/// come to lie in any corner.
pub(super) fn plan(
    key: ViewKey,
    pictures: &[(u32, u32); TILES],
    size: (usize, usize),
) -> (Vec<Tile>, [f32; 3]) {
    let seed = hash(&[b"mosaic", key.sample, &key.view.to_le_bytes(), &key.seed.to_le_bytes()]);
    let mut rng = ChaCha8Rng::from_seed(seed);
    let mut meet = |side: usize| {
        let place = (side as f32 * around(&mut rng, 0.5, 0.25)).round() as usize;
        place.clamp(1, side - 1)
    };
    let (row, column) = (meet(size.0), meet(size.1));
    let first = rng.random_range(0..TILES as u32) as usize;
    let tiles = pictures.iter().enumerate().map(|(number, &picture)| {
        let corner = (first + number) % TILES;
        let window = Window {
            columns: [(0, column), (column, size.1)][corner % 2],
            rows: [(0, row), (row, size.0)][corner / 2],
        };
        let scale = scale(&mut rng);
        let place: [f32; 2] = [0, 1].map(|_| rng.random());
        let turn = Turn::random(key.turns, &mut rng);
        let gain = letterbox_gain(picture, turn, size) * scale;
        let sides = turned(picture, turn).map(|side| gain * side);
        let goal = [0, 1].map(|i| {
            let (start, end) = [window.columns, window.rows][i];
            let room = (end - start) as f32 - sides[i];
            start as f32 + place[i] * room + sides[i] / 2.0
        });
        Tile { picture, affine: Affine::new(picture, turn, gain, goal), window }
    });
    let tiles = tiles.collect();
    (tiles, jitters(&mut rng))
}
