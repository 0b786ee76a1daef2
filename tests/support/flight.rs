//! The demo's tiles as a stream: a drone that flies over them in straight lanes and looks down.
//!
//! The tiles are neighbours, cut from one picture, so they are put together again. Frames come from five of their
//! six columns. The last column is for the hold-out, and the tiles that the demo holds out are for measuring: no
//! frame of the flight shows a pixel of these. Boxes stay as they are cut by the tiles' edges.

use std::path::Path;

use graftd::dataset::{DataSet, Example};
use graftd::label::LabelBox;
use graftd::picture::Picture;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::stream::Frame;

/// Rows and columns of the training tiles.
const TILES: (u32, u32) = (5, 6);

/// A box that is cut by the frame's edge counts from this share of its area on.
const VISIBLE: f32 = 0.4;

/// Pictures with the boxes on them, in pixels.
struct Map {
    picture: Picture,
    boxes: Vec<[f32; 4]>,
}

/// What there is to fly over, and what is kept apart from it.
pub struct Country {
    flown: Map,
    held: Vec<Map>,
    test: Vec<Map>,
}

/// A flight over it: frames without end; a function of the seed.
pub struct Flight<'a> {
    country: &'a Country,
    side: u32,
    random: ChaCha8Rng,
    at: [f32; 2],
    speed: [f32; 2],
    light: f32,
}

impl Country {
    /// The bundled tiles.
    pub fn open() -> Self {
        let set = DataSet::open(Path::new("demo/treecrowns/data.yaml")).unwrap();
        let (rows, columns) = TILES;
        let name = |row: u32, column: u32| format!("yell528_r{row}_c{column}");
        let tile = |name: &str| {
            let is_it = |example: &&Example| example.picture.file_stem().is_some_and(|stem| stem == name);
            Map::open(set.train.iter().find(is_it).unwrap_or_else(|| panic!("there is no tile {name}")))
        };
        let side = tile(&name(0, 0)).picture.width();
        let (width, height) = ((columns - 1) * side, rows * side);
        let mut flown = Map { picture: Picture::filled(width, height, [0; 3]), boxes: Vec::new() };
        for row in 0..rows {
            for column in 0..columns - 1 {
                let tile = tile(&name(row, column));
                let (x, y) = (column * side, row * side);
                flown.picture.paste(&tile.picture, x, y);
                let moved =
                    |b: &[f32; 4]| [b[0] + x as f32, b[1] + y as f32, b[2] + x as f32, b[3] + y as f32];
                flown.boxes.extend(tile.boxes.iter().map(moved));
            }
        }
        let held = (0..rows).map(|row| tile(&name(row, columns - 1))).collect();
        Country { flown, held, test: set.val.iter().map(Map::open).collect() }
    }

    /// Windows of the tiles that are held out, in random order.
    pub fn held(&self, side: u32, random: &mut ChaCha8Rng) -> Vec<Frame> {
        let mut windows = windows(&self.held, side);
        windows.shuffle(random);
        windows
    }

    /// All windows of the tiles that are measured on.
    pub fn test(&self, side: u32) -> Vec<Frame> {
        windows(&self.test, side)
    }
}

/// Windows that cover each map, a little over each other where its side is no multiple of theirs.
fn windows(maps: &[Map], side: u32) -> Vec<Frame> {
    let mut frames = Vec::new();
    for map in maps {
        let length = map.picture.width();
        let count = length.div_ceil(side);
        let at = |index: u32| index * (length - side) / (count - 1).max(1);
        for place in 0..count * count {
            frames.push(map.window(at(place % count), at(place / count), side, 1.0));
        }
    }
    frames
}

impl Map {
    fn open(example: &Example) -> Self {
        let picture = Picture::open(&example.picture).unwrap();
        let (width, height) = (picture.width(), picture.height());
        let boxes = example.labels.iter().map(|label| label.to_pixels(width, height)).collect();
        Map { picture, boxes }
    }

    fn window(&self, left: u32, top: u32, side: u32, light: f32) -> Frame {
        let width = self.picture.width();
        let mut rgb = Vec::with_capacity((3 * side * side) as usize);
        for y in top..top + side {
            let row = 3 * (y * width + left) as usize;
            let pixels = &self.picture.rgb()[row..row + 3 * side as usize];
            rgb.extend(pixels.iter().map(|&value| (f32::from(value) * light).min(255.0) as u8));
        }
        let (origin, length) = ([left as f32, top as f32], side as f32);
        let label = |b: &[f32; 4]| {
            let inside: [f32; 4] = std::array::from_fn(|i| (b[i] - origin[i % 2]).clamp(0.0, length));
            let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
            (area(&inside) >= VISIBLE * area(b)).then(|| LabelBox {
                class: 0,
                cx: (inside[0] + inside[2]) / 2.0 / length,
                cy: (inside[1] + inside[3]) / 2.0 / length,
                w: (inside[2] - inside[0]) / length,
                h: (inside[3] - inside[1]) / length,
            })
        };
        let labels = self.boxes.iter().filter_map(label).collect();
        Frame { picture: Picture::from_rgb(side, side, rgb), labels }
    }
}

impl<'a> Flight<'a> {
    /// A flight with a camera of this side, pixels.
    pub fn new(country: &'a Country, side: u32, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let mut flight = Flight { country, side, random, at: [0.0; 2], speed: [0.0; 2], light: 1.0 };
        flight.turn();
        flight
    }

    /// The next lane: from one border to the one opposite.
    fn turn(&mut self) {
        let ends = self.ends();
        let along = self.random.random_range(0..2);
        let speed = self.random.random_range(4.0_f32..12.0);
        let is_back = self.random.random::<bool>();
        self.speed = [0.0; 2];
        self.speed[along] = if is_back { -speed } else { speed };
        self.at[along] = if is_back { ends[along] } else { 0.0 };
        self.at[1 - along] = self.random.random_range(0.0..ends[1 - along]);
        self.light = self.random.random_range(0.85_f32..1.15);
    }

    fn ends(&self) -> [f32; 2] {
        let picture = &self.country.flown.picture;
        [picture.width(), picture.height()].map(|length| (length - self.side) as f32)
    }
}

impl Iterator for Flight<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let light = self.light * self.random.random_range(0.97_f32..1.03);
        let frame = self.country.flown.window(self.at[0] as u32, self.at[1] as u32, self.side, light);
        let ends = self.ends();
        for axis in 0..2 {
            self.at[axis] += self.speed[axis];
        }
        if (0..2).any(|axis| !(0.0..=ends[axis]).contains(&self.at[axis])) {
            self.turn();
        }
        Some(frame)
    }
}
