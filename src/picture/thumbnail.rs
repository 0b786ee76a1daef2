//! Small grey copies of pictures, to tell whether two show the same view.

use super::Picture;

/// Cells on a side.
const SIDE: usize = 32;

/// Cells on the side of a part: what has changed in a small part of a view has changed the view.
const PART: usize = 4;
const CELLS: usize = PART * PART;
const PARTS: usize = (SIDE / PART).pow(2);

/// Contrasts that differ by up to this factor count as lighting.
const LIGHTING: f32 = 1.25;

/// Below this difference two pictures show the same view. Shifted by two pixels on both axes, half as good a JPEG or
/// 5 % lighter the demo's tiles (256 px) and drawn ones differ by at most 3.3 from themselves; by at least 5 once
/// there is one small thing more; the most alike two tiles by 9.2.
pub const ALIKE: f32 = 4.0;

/// The mean brightness of each of 32 × 32 cells of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbnail([u8; Thumbnail::BYTES]);

impl Thumbnail {
    /// What one takes.
    pub const BYTES: usize = SIDE * SIDE;

    /// The thumbnail of a picture.
    pub fn of(picture: &Picture) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let mut cells = [0; Self::BYTES];
        let bounds = |i: usize, length: usize| (i * length / SIDE, ((i + 1) * length).div_ceil(SIDE));
        // Rows are added up first, and cells cut out of the sum: long sums are what a processor is quick at, and
        // in 16 bits, which hold so many rows, it adds twice as many at a time.
        let mut sums: Vec<u16> = vec![0; 3 * width];
        let most_rows = usize::from(u16::MAX / u16::from(u8::MAX));
        for (index, row) in cells.chunks_mut(SIDE).enumerate() {
            let (y0, y1) = bounds(index, height);
            let mut totals = [0_u64; SIDE];
            for rows in picture.rgb()[3 * y0 * width..3 * y1 * width].chunks(3 * width * most_rows) {
                sums.fill(0);
                for pixels in rows.chunks(3 * width) {
                    sums.iter_mut().zip(pixels).for_each(|(sum, &value)| *sum += u16::from(value));
                }
                for (index, total) in totals.iter_mut().enumerate() {
                    let (x0, x1) = bounds(index, width);
                    *total += u64::from(sums[3 * x0..3 * x1].iter().map(|&sum| u32::from(sum)).sum::<u32>());
                }
            }
            for (index, (cell, total)) in row.iter_mut().zip(totals).enumerate() {
                let (x0, x1) = bounds(index, width);
                *cell = (total / ((x1 - x0) * (y1 - y0) * 3) as u64) as u8;
            }
        }
        Thumbnail(cells)
    }

    /// From the bytes that [`Thumbnail::bytes`] gave.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Thumbnail(bytes)
    }

    /// The cells, row by row.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// How much the views differ: the mean difference of brightness (0 to 255) in the part, an eighth of each
    /// side, where it is greatest. The whole getting brighter or a little richer in contrast is no difference,
    /// nor is a shift by less than a cell.
    pub fn difference(&self, other: &Thumbnail) -> f32 {
        Levelled::of(self).difference(&Levelled::of(other))
    }
}

/// A thumbnail that is ready to be compared with many.
#[derive(Debug, Clone)]
pub struct Levelled {
    parts: Vec<Part>,
    contrast: f32,
}

/// A part's cells: what is compared at a time lies side by side.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Brightness around the thumbnail's mean.
    cells: [f32; CELLS],
    /// The least and the greatest brightness of each cell and its neighbours: what a shift may bring there.
    low: [f32; CELLS],
    high: [f32; CELLS],
}

impl Levelled {
    /// Takes the mean away.
    pub fn of(thumbnail: &Thumbnail) -> Self {
        let sum: u32 = thumbnail.0.iter().map(|&cell| u32::from(cell)).sum();
        let mean = sum as f32 / Thumbnail::BYTES as f32;
        let at = |x: usize, y: usize| f32::from(thumbnail.0[y * SIDE + x]) - mean;
        let none = Part { cells: [0.0; CELLS], low: [0.0; CELLS], high: [0.0; CELLS] };
        let mut levelled = Levelled { parts: vec![none; PARTS], contrast: 0.0 };
        let mut squares = 0.0;
        for (index, part) in levelled.parts.iter_mut().enumerate() {
            let (left, top) = (index % (SIDE / PART) * PART, index / (SIDE / PART) * PART);
            for cell in 0..CELLS {
                let (x, y) = (left + cell % PART, top + cell / PART);
                let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
                for ny in y.saturating_sub(1)..=(y + 1).min(SIDE - 1) {
                    for nx in x.saturating_sub(1)..=(x + 1).min(SIDE - 1) {
                        low = low.min(at(nx, ny));
                        high = high.max(at(nx, ny));
                    }
                }
                (part.cells[cell], part.low[cell], part.high[cell]) = (at(x, y), low, high);
                squares += at(x, y).powi(2);
            }
        }
        levelled.contrast = (squares / Thumbnail::BYTES as f32).sqrt();
        levelled
    }

    /// [`Thumbnail::difference`].
    pub fn difference(&self, other: &Levelled) -> f32 {
        self.parts(other).fold(0.0, f32::max)
    }

    /// Whether the difference is below `limit`; quicker than to work it out, as most pictures differ in their
    /// first parts.
    pub fn is_alike(&self, other: &Levelled, limit: f32) -> bool {
        self.is_alike_from(other, limit, &mut 0)
    }

    /// [`Levelled::is_alike`], beginning with part `first`, where the part that differs is left. What is on one
    /// frame of a fixed camera and not on another is in the same place for most others.
    pub fn is_alike_from(&self, other: &Levelled, limit: f32, first: &mut usize) -> bool {
        let gain = self.gain(other);
        let differs = |&part: &usize| self.part(other, gain, part) >= limit;
        match (*first..PARTS).chain(0..*first).find(differs) {
            Some(part) => {
                *first = part;
                false
            }
            None => true,
        }
    }

    /// The mean of the parts' differences: small where only something on the view has changed.
    pub fn overall(&self, other: &Levelled) -> f32 {
        self.parts(other).sum::<f32>() / PARTS as f32
    }

    fn parts<'a>(&'a self, other: &'a Levelled) -> impl Iterator<Item = f32> + 'a {
        let gain = self.gain(other);
        (0..PARTS).map(move |part| self.part(other, gain, part))
    }

    /// What the other's brightness is multiplied by.
    fn gain(&self, other: &Levelled) -> f32 {
        // A picture without contrast has none to be levelled by.
        let ratio = self.contrast.max(1.0) / other.contrast.max(1.0);
        ratio.clamp(1.0 / LIGHTING, LIGHTING)
    }

    /// The mean difference in a part.
    fn part(&self, other: &Levelled, gain: f32, part: usize) -> f32 {
        let (own, other) = (&self.parts[part], &other.parts[part]);
        // There is no NaN here, which `f32::max` would mind.
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        let outside = |value: f32, low: f32, high: f32| larger(larger(low - value, value - high), 0.0);
        let differences: [f32; CELLS] = std::array::from_fn(|i| {
            let there = outside(own.cells[i], other.low[i] * gain, other.high[i] * gain);
            let here = outside(other.cells[i] * gain, own.low[i], own.high[i]);
            larger(there, here)
        });
        differences.iter().sum::<f32>() / CELLS as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Blobs on mottled ground, seen from a place that is `shift` pixels further to the right.
    fn view(seed: u64, shift: i32, brightness: f32, extra: bool) -> Picture {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let blobs: Vec<[f32; 4]> = (0..12)
            .map(|_| {
                let mut draw = |low: f32, high: f32| random.random_range(low..high);
                [draw(0.0, 160.0), draw(0.0, 160.0), draw(6.0, 20.0), draw(-70.0, 70.0)]
            })
            .chain(extra.then_some([80.0, 80.0, 9.0, 60.0]))
            .collect();
        let mut rgb = Vec::new();
        for y in 0..160 {
            for x in 0..160 {
                let (px, py) = ((x + shift) as f32, y as f32);
                let ground = 110.0 + 15.0 * (px * 0.21).sin() * (py * 0.13).cos();
                let inside = |b: &&[f32; 4]| (px - b[0]).powi(2) + (py - b[1]).powi(2) < b[2].powi(2);
                let value: f32 = ground + blobs.iter().filter(inside).map(|b| b[3]).sum::<f32>();
                rgb.extend([(value * brightness).clamp(0.0, 255.0) as u8; 3]);
            }
        }
        Picture::from_rgb(160, 160, rgb)
    }

    fn is_alike(a: &Picture, b: &Picture) -> bool {
        let [a, b] = [a, b].map(Thumbnail::of);
        let alike = Levelled::of(&a).is_alike(&Levelled::of(&b), ALIKE);
        assert_eq!(alike, a.difference(&b) < ALIKE);
        for mut first in [1, 30, PARTS - 1] {
            assert_eq!(Levelled::of(&a).is_alike_from(&Levelled::of(&b), ALIKE, &mut first), alike);
        }
        alike
    }

    #[test]
    fn a_shift_other_light_and_another_jpeg_are_no_difference() {
        for seed in 0..20 {
            let plain = view(seed, 0, 1.0, false);
            let jpeg = Picture::decode(&plain.to_jpeg(60).unwrap()).unwrap();
            assert!(is_alike(&plain, &jpeg), "{seed}");
            for (shift, light) in [(2, 1.0), (-1, 1.0), (0, 1.05), (0, 0.95), (1, 0.95)] {
                assert!(is_alike(&plain, &view(seed, shift, light, false)), "{seed}: {shift} {light}");
            }
        }
    }

    #[test]
    fn a_small_thing_more_and_another_view_are() {
        for seed in 0..20 {
            let plain = view(seed, 0, 1.0, false);
            assert!(!is_alike(&plain, &view(seed, 0, 1.0, true)), "{seed}");
            assert!(!is_alike(&plain, &view(seed + 100, 0, 1.0, false)), "{seed}");
        }
    }

    #[test]
    fn pictures_of_any_size_have_one() {
        for (width, height) in [(1, 1), (3, 50), (33, 31), (640, 480)] {
            let thumbnail = Thumbnail::of(&Picture::filled(width, height, [77; 3]));
            assert_eq!(thumbnail.bytes(), &[77; Thumbnail::BYTES]);
            assert_eq!(thumbnail.difference(&Thumbnail::of(&Picture::filled(9, 9, [200; 3]))), 0.0);
        }
    }
}
