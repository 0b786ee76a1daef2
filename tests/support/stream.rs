//! A drawn stream as a camera over a yard gives it: scenes that last some frames and move a little, most of
//! them dull, common things often and rare things seldom, and light that changes.

use std::path::Path;

use graftd::dataset::Example;
use graftd::label::LabelBox;
use graftd::picture::Picture;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is to be found, and how often a thing of a scene is one, in parts of a thousand. The last two are rare.
pub const CLASSES: [(&str, u32); 4] = [("ellipse", 560), ("rectangle", 380), ("ring", 35), ("cross", 25)];

/// Places that a world has.
const PLACES: usize = 8;

/// Scenes without a thing on them, of a hundred.
const DULL: u32 = 65;

/// One frame and the truth about it.
pub struct Frame {
    pub picture: Picture,
    pub labels: Vec<LabelBox>,
}

impl Frame {
    /// As a labelled picture on the disk.
    pub fn save(&self, folder: &Path, name: &str) -> Example {
        std::fs::create_dir_all(folder).unwrap();
        let picture = folder.join(format!("{name}.png"));
        self.picture.save(&picture).unwrap();
        Example { picture, labels: self.labels.clone(), covers: None }
    }
}

/// Frames without end; a function of the seeds.
pub struct Stream {
    random: ChaCha8Rng,
    side: u32,
    things: Vec<Thing>,
    /// Where the camera may look: it turns between a few places.
    grounds: Vec<Ground>,
    ground: usize,
    /// Frames that the scene goes on for.
    left: u32,
    /// Whether classes are equally frequent and no scene is dull: to measure on.
    even: bool,
}

#[derive(Clone)]
struct Thing {
    class: u32,
    centre: [f32; 2],
    half: [f32; 2],
    speed: [f32; 2],
    colour: [f32; 3],
    light: f32,
}

/// Brightness of each pixel's colours, without noise.
struct Ground(Vec<f32>);

impl Stream {
    /// As a camera sees it in this world.
    pub fn new(side: u32, world: u64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(world);
        let grounds = (0..PLACES).map(|_| Ground::draw(&mut random, side)).collect();
        let random = ChaCha8Rng::seed_from_u64(seed);
        Stream { random, side, things: Vec::new(), grounds, ground: 0, left: 0, even: false }
    }

    /// Scenes of one frame each on which every class is as frequent as the others.
    pub fn even(side: u32, world: u64, seed: u64) -> Self {
        Stream { even: true, ..Stream::new(side, world, seed) }
    }

    pub fn frame(&mut self) -> Frame {
        if self.left == 0 {
            self.scene();
        }
        self.left -= 1;
        for thing in &mut self.things {
            for axis in 0..2 {
                thing.centre[axis] += thing.speed[axis];
            }
        }
        let side = self.side as f32;
        let is_inside = |thing: &Thing| {
            (0..2).all(|axis| {
                thing.centre[axis] - thing.half[axis] >= 0.0 && thing.centre[axis] + thing.half[axis] <= side
            })
        };
        self.things.retain(is_inside);
        let light = self.random.random_range(0.97_f32..1.03);
        let mut rgb = self.grounds[self.ground].paint(&mut self.random);
        for thing in &self.things {
            thing.paint(&mut self.random, &mut rgb, self.side);
        }
        let bytes = rgb.iter().map(|value| (value * light).clamp(0.0, 255.0) as u8).collect();
        let labels = self.things.iter().map(|thing| thing.label(side)).collect();
        Frame { picture: Picture::from_rgb(self.side, self.side, bytes), labels }
    }

    fn scene(&mut self) {
        let random = &mut self.random;
        self.left = if self.even { 1 } else { random.random_range(3..8) };
        self.ground = random.random_range(0..PLACES);
        self.things.clear();
        if !self.even && random.random_range(0..100) < DULL {
            return;
        }
        let side = self.side as f32;
        for _ in 0..random.random_range(2..6) {
            let class = match self.even {
                true => random.random_range(0..CLASSES.len() as u32),
                false => {
                    let mut rest = random.random_range(0..1000);
                    CLASSES
                        .iter()
                        .position(|&(_, often)| {
                            let is_it = rest < often;
                            rest = rest.saturating_sub(often);
                            is_it
                        })
                        .unwrap() as u32
                }
            };
            let size = side * 0.055 * random.random_range(0.0_f32..1.0).exp();
            let stretch = random.random_range(-0.3_f32..0.3).exp();
            let half = [size * stretch, size / stretch];
            let centre = half.map(|half| random.random_range(half + 4.0..side - half - 4.0));
            let touches = |other: &Thing| {
                (0..2).all(|axis| (other.centre[axis] - centre[axis]).abs() < other.half[axis] + half[axis])
            };
            if self.things.iter().any(touches) {
                continue;
            }
            let speed = [0; 2].map(|_| random.random_range(-1.0_f32..1.0));
            let colour = [0; 3].map(|_| random.random_range(20.0_f32..235.0));
            let light = random.random_range(0.0_f32..6.3);
            self.things.push(Thing { class, centre, half, speed, colour, light });
        }
    }
}

impl Thing {
    fn label(&self, side: f32) -> LabelBox {
        let [cx, cy] = self.centre.map(|value| value / side);
        let [w, h] = self.half.map(|value| 2.0 * value / side);
        LabelBox { class: self.class, cx, cy, w, h }
    }

    fn paint(&self, random: &mut ChaCha8Rng, rgb: &mut [f32], side: u32) {
        let low = |axis: usize| (self.centre[axis] - self.half[axis]).max(0.0) as u32;
        let high = |axis: usize| ((self.centre[axis] + self.half[axis]).ceil() as u32).min(side);
        for y in low(1)..high(1) {
            for x in low(0)..high(0) {
                let u = (x as f32 + 0.5 - self.centre[0]) / self.half[0];
                let v = (y as f32 + 0.5 - self.centre[1]) / self.half[1];
                let round = u * u + v * v;
                let inside = match self.class {
                    0 => round <= 1.0,
                    1 => u.abs() <= 1.0 && v.abs() <= 1.0,
                    2 => (0.3..=1.0).contains(&round),
                    _ => (u.abs() <= 0.33 || v.abs() <= 0.33) && u.abs() <= 1.0 && v.abs() <= 1.0,
                };
                if inside {
                    let shade = 1.0 + 0.3 * (u * self.light.cos() + v * self.light.sin());
                    let at = 3 * (y * side + x) as usize;
                    for (slot, colour) in rgb[at..at + 3].iter_mut().zip(self.colour) {
                        *slot = colour * shade + random.random_range(-14.0_f32..14.0);
                    }
                }
            }
        }
    }
}

impl Ground {
    fn draw(random: &mut ChaCha8Rng, side: u32) -> Self {
        let colour = [0; 3].map(|_| random.random_range(60.0_f32..170.0));
        let wave = |_| {
            let pitch = random.random_range(0.02_f32..0.25);
            let turn = random.random_range(0.0_f32..6.3);
            let (phase, height) = (random.random_range(0.0..6.3), random.random_range(2.0..12.0));
            [pitch * turn.cos(), pitch * turn.sin(), phase, height]
        };
        let waves: Vec<[f32; 4]> = (0..6).map(wave).collect();
        let places = (0..side).flat_map(|y| (0..side).map(move |x| (x as f32, y as f32)));
        let brightness = |(x, y): (f32, f32)| -> f32 {
            waves.iter().map(|w| w[3] * (w[0] * x + w[1] * y + w[2]).sin()).sum()
        };
        Ground(places.flat_map(|place| colour.map(|colour| colour + brightness(place))).collect())
    }

    fn paint(&self, random: &mut ChaCha8Rng) -> Vec<f32> {
        self.0
            .chunks(3)
            .flat_map(|pixel| {
                let noise = random.random_range(-12.0_f32..12.0);
                [pixel[0] + noise, pixel[1] + noise, pixel[2] + noise]
            })
            .collect()
    }
}
