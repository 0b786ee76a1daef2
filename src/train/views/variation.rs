//! The numbers of one view of one picture, drawn from its key.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ViewKey;
use super::affine::{Affine, turned};
use super::turns::Turn;

/// A number within `reach` of `centre`.
pub(super) fn around(rng: &mut impl Rng, centre: f32, reach: f32) -> f32 {
    centre + reach * (2.0 * rng.random::<f32>() - 1.0)
}

/// Relative to the letterbox's own scale.
pub(super) fn scale(rng: &mut impl Rng) -> f32 {
    around(rng, 1.0, 0.5)
}

/// Turn of the hue, in circles; factors of saturation and brightness.
pub(super) fn jitters(rng: &mut impl Rng) -> [f32; 3] {
    [around(rng, 0.0, 0.015), around(rng, 1.0, 0.7), around(rng, 1.0, 0.4)]
}

/// Input pixels per picture pixel where the turned picture just fits the input.
pub(super) fn letterbox_gain(picture: (u32, u32), turn: Turn, (height, width): (usize, usize)) -> f32 {
    let turned = turned(picture, turn);
    (width as f32 / turned[0]).min(height as f32 / turned[1])
}

/// Where a picture goes that fills the view alone, and the view's jitter.
pub(super) fn single(key: ViewKey, picture: (u32, u32), size: (usize, usize)) -> (Affine, [f32; 3]) {
    let mut seed = *key.sample;
    let mixed = key.seed.to_le_bytes().into_iter().chain(key.view.to_le_bytes());
    for (byte, mix) in seed.iter_mut().zip(mixed) {
        *byte ^= mix;
    }
    let mut rng = ChaCha8Rng::from_seed(seed);
    let scale = scale(&mut rng);
    // In sides of the input.
    let shift = [0, 1].map(|_| around(&mut rng, 0.0, 0.1));
    let hsv = jitters(&mut rng);
    let turn = Turn::random(key.turns, &mut rng);
    let (height, width) = size;
    let goal = [width as f32 * (0.5 + shift[0]), height as f32 * (0.5 + shift[1])];
    (Affine::new(picture, turn, letterbox_gain(picture, turn, size) * scale, goal), hsv)
}
