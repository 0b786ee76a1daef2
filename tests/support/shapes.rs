//! A drawn world for learning without forgetting: shaded ellipses and rectangles in any colour on
//! mottled ground, so that shape alone tells the classes apart, and triangles that are nothing.

use std::path::Path;

use graftd::dataset::Example;
use graftd::label::LabelBox;
use graftd::picture::Picture;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is drawn; the first two are classes 0 and 1.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ellipse,
    Rectangle,
    Triangle,
}

/// Pictures in `folder`, labelled for both classes; a function of `seed`.
pub fn scenes(folder: &Path, count: usize, side: u32, seed: u64) -> Vec<Example> {
    std::fs::create_dir_all(folder).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|index| {
            let (drawn, labels) = scene(&mut random, side);
            let picture = folder.join(format!("{seed}-{index:04}.png"));
            drawn.save(&picture).unwrap();
            Example { picture, labels, covers: None }
        })
        .collect()
}

/// The same pictures with the labels of one class alone.
pub fn labelled_for(examples: &[Example], class: u32) -> Vec<Example> {
    let keep = |example: &Example| Example {
        picture: example.picture.clone(),
        labels: example.labels.iter().copied().filter(|label| label.class == class).collect(),
        covers: None,
    };
    examples.iter().map(keep).collect()
}

fn scene(random: &mut ChaCha8Rng, side: u32) -> (Picture, Vec<LabelBox>) {
    let mut picture = ground(random, side);
    let mut taken: Vec<[f32; 4]> = Vec::new();
    let mut labels = Vec::new();
    let length = side as f32;
    for _ in 0..random.random_range(4..9) {
        let kind = [Kind::Ellipse, Kind::Rectangle, Kind::Triangle][random.random_range(0..3)];
        let size = length * 0.09 * (random.random_range(0.0_f32..1.3)).exp();
        let stretch = random.random_range(-0.4_f32..0.4).exp();
        let (w, h) = (size * stretch, size / stretch);
        let (cx, cy) =
            (random.random_range(w / 2.0..length - w / 2.0), random.random_range(h / 2.0..length - h / 2.0));
        let corners = [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0];
        // Neighbours may touch and hide a little of each other, not more.
        if taken.iter().any(|other| covers(*other, corners) > 0.2) {
            continue;
        }
        taken.push(corners);
        paint(random, &mut picture, kind, corners);
        if kind != Kind::Triangle {
            labels.push(LabelBox {
                class: u32::from(kind == Kind::Rectangle),
                cx: cx / length,
                cy: cy / length,
                w: w / length,
                h: h / length,
            });
        }
    }
    (picture, labels)
}

/// Overlap in shares of the smaller box.
fn covers(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |c: [f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    side(0) * side(1) / area(a).min(area(b))
}

fn ground(random: &mut ChaCha8Rng, side: u32) -> Picture {
    let colour = [0; 3].map(|_| random.random_range(60.0_f32..170.0));
    let waves: Vec<[f32; 4]> = (0..6)
        .map(|_| {
            let pitch = random.random_range(0.02_f32..0.25);
            let turn = random.random_range(0.0_f32..6.3);
            [
                pitch * turn.cos(),
                pitch * turn.sin(),
                random.random_range(0.0..6.3),
                random.random_range(2.0..12.0),
            ]
        })
        .collect();
    let mut rgb = Vec::with_capacity(3 * (side * side) as usize);
    for y in 0..side {
        for x in 0..side {
            let wave: f32 =
                waves.iter().map(|w| w[3] * (w[0] * x as f32 + w[1] * y as f32 + w[2]).sin()).sum();
            let noise = random.random_range(-14.0_f32..14.0);
            rgb.extend(colour.map(|c| (c + wave + noise).clamp(0.0, 255.0) as u8));
        }
    }
    Picture::from_rgb(side, side, rgb)
}

fn paint(random: &mut ChaCha8Rng, picture: &mut Picture, kind: Kind, [x1, y1, x2, y2]: [f32; 4]) {
    let side = picture.width();
    let colour = [0; 3].map(|_| random.random_range(20.0_f32..235.0));
    let light = random.random_range(0.0_f32..6.3);
    let (cx, cy, rx, ry) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0, (x2 - x1) / 2.0, (y2 - y1) / 2.0);
    for y in y1.max(0.0) as u32..(y2.ceil() as u32).min(side) {
        for x in x1.max(0.0) as u32..(x2.ceil() as u32).min(side) {
            let (u, v) = ((x as f32 + 0.5 - cx) / rx, (y as f32 + 0.5 - cy) / ry);
            let inside = match kind {
                Kind::Ellipse => u * u + v * v <= 1.0,
                Kind::Rectangle => u.abs() <= 1.0 && v.abs() <= 1.0,
                Kind::Triangle => v <= 1.0 && u.abs() <= (v + 1.0) / 2.0,
            };
            if !inside {
                continue;
            }
            let shade = 1.0 + 0.3 * (u * light.cos() + v * light.sin());
            let noise = random.random_range(-18.0_f32..18.0);
            let at = 3 * (y * side + x) as usize;
            for (slot, c) in picture.rgb_mut()[at..at + 3].iter_mut().zip(colour) {
                *slot = (c * shade + noise).clamp(0.0, 255.0) as u8;
            }
        }
    }
}
