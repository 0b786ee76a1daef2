//! A drawn stream as a camera over a yard gives it: scenes that last some frames and move a little, most of
//! them dull, common things often and rare things seldom, and light that changes.

use std::ops::Range;
use std::path::Path;

use graftd::dataset::Example;
use graftd::label::LabelBox;
use graftd::picture::Picture;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is drawn after.
#[derive(Debug)]
pub struct World {
    /// What is to be found: its name, what it looks like, and how often a thing of a scene is one, in parts of
    /// a thousand. The last two are rare.
    pub classes: [(&'static str, Shape, u32); 4],
    /// Places that the camera may look at.
    places: usize,
    /// Scenes without a thing on them, of a hundred.
    dull: u32,
    /// Frames of a scene.
    frames: Range<u32>,
    /// Things on a scene that is not dull.
    things: Range<u32>,
    /// Half a side of the smallest things, in shares of the picture's.
    size: f32,
    /// How far brightness is off from pixel to pixel.
    noise: f32,
}

/// Whether a point from (-1, -1) to (1, 1) lies on a thing.
pub type Shape = fn(f32, f32) -> bool;

/// The world that the selection was tuned in.
pub const YARD: World = World {
    classes: [
        ("ellipse", |u, v| u * u + v * v <= 1.0, 560),
        ("rectangle", |_, _| true, 380),
        ("ring", |u, v| (0.3..=1.0).contains(&(u * u + v * v)), 35),
        ("cross", |u, v| u.abs() <= 0.33 || v.abs() <= 0.33, 25),
    ],
    places: 8,
    dull: 65,
    frames: 3..8,
    things: 2..6,
    size: 0.055,
    noise: 12.0,
};

/// A world of other things, with fewer dull scenes and longer ones; nothing was tuned in it.
pub const FIELD: World = World {
    classes: [
        ("triangle", |u, v| u.abs() <= (v + 1.0) / 2.0, 600),
        ("tee", |u, v| v < -0.4 || u.abs() <= 0.3, 310),
        ("diamond", |u, v| u.abs() + v.abs() <= 1.0, 60),
        ("frame", |u, v| u.abs().max(v.abs()) >= 0.55, 30),
    ],
    places: 14,
    dull: 40,
    frames: 2..16,
    things: 1..7,
    size: 0.065,
    noise: 18.0,
};

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
    world: &'static World,
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
    /// As a camera sees it in this world; its places are a function of `places`.
    pub fn new(world: &'static World, side: u32, places: u64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(places);
        let grounds = (0..world.places).map(|_| Ground::draw(&mut random, side)).collect();
        let random = ChaCha8Rng::seed_from_u64(seed);
        Stream { world, random, side, things: Vec::new(), grounds, ground: 0, left: 0, even: false }
    }

    /// Scenes of one frame each on which every class is as frequent as the others.
    pub fn even(world: &'static World, side: u32, places: u64, seed: u64) -> Self {
        Stream { even: true, ..Stream::new(world, side, places, seed) }
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
        let mut rgb = self.grounds[self.ground].paint(&mut self.random, self.world.noise);
        for thing in &self.things {
            let shape = self.world.classes[thing.class as usize].1;
            thing.paint(shape, &mut self.random, &mut rgb, self.side);
        }
        let bytes = rgb.iter().map(|value| (value * light).clamp(0.0, 255.0) as u8).collect();
        let labels = self.things.iter().map(|thing| thing.label(side)).collect();
        Frame { picture: Picture::from_rgb(self.side, self.side, bytes), labels }
    }

    fn scene(&mut self) {
        let random = &mut self.random;
        self.left = if self.even { 1 } else { random.random_range(self.world.frames.clone()) };
        self.ground = random.random_range(0..self.world.places);
        self.things.clear();
        if !self.even && random.random_range(0..100) < self.world.dull {
            return;
        }
        let side = self.side as f32;
        for _ in 0..random.random_range(self.world.things.clone()) {
            let class = match self.even {
                true => random.random_range(0..self.world.classes.len() as u32),
                false => {
                    let mut rest = random.random_range(0..1000);
                    self.world
                        .classes
                        .iter()
                        .position(|&(_, _, often)| {
                            let is_it = rest < often;
                            rest = rest.saturating_sub(often);
                            is_it
                        })
                        .unwrap() as u32
                }
            };
            let size = side * self.world.size * random.random_range(0.0_f32..1.0).exp();
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

    fn paint(&self, shape: Shape, random: &mut ChaCha8Rng, rgb: &mut [f32], side: u32) {
        let low = |axis: usize| (self.centre[axis] - self.half[axis]).max(0.0) as u32;
        let high = |axis: usize| ((self.centre[axis] + self.half[axis]).ceil() as u32).min(side);
        for y in low(1)..high(1) {
            for x in low(0)..high(0) {
                let u = (x as f32 + 0.5 - self.centre[0]) / self.half[0];
                let v = (y as f32 + 0.5 - self.centre[1]) / self.half[1];
                let inside = u.abs() <= 1.0 && v.abs() <= 1.0 && shape(u, v);
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

    fn paint(&self, random: &mut ChaCha8Rng, noise: f32) -> Vec<f32> {
        self.0
            .chunks(3)
            .flat_map(|pixel| {
                let noise = random.random_range(-noise..noise);
                [pixel[0] + noise, pixel[1] + noise, pixel[2] + noise]
            })
            .collect()
    }
}
