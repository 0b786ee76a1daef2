//! How unlike the kept frames a frame is, as the backbone sees it.
//!
//! The distance is that of pooled features, each channel in units of its own spread over the frames of late, to
//! the nearest kept frame. How far is far depends on the camera: distances are compared with what is usual.

use super::kept::Kept;

/// Frames that means and spreads look back on, roughly.
const MEMORY: f32 = 1000.0;

/// What a channel has that is the same on all frames is noise below this.
const LEAST_SPREAD: f32 = 1e-4;

/// Channels that are added side by side, and how often that is done between two looks at whether a frame is already
/// too far.
const LANES: usize = 8;
const STEP: usize = 8;

/// Distance of a frame from what is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Novelty {
    /// From the nearest kept frame; none where none is kept.
    pub distance: Option<f32>,
    /// The mean of this over frames of late.
    pub usual: f32,
}

impl Novelty {
    /// 0 where the frame is no further than usual, 1 where it is twice as far.
    pub fn amount(&self) -> f32 {
        match self.distance {
            None => 1.0,
            Some(distance) if self.usual > 0.0 => (distance / self.usual - 1.0).max(0.0),
            Some(_) => 0.0,
        }
    }
}

/// Running mean and variance of each channel, and the usual distance.
#[derive(Debug, Default)]
pub(super) struct Scale {
    frames: f32,
    mean: Vec<f32>,
    variance: Vec<f32>,
    usual: f32,
    distances: f32,
}

impl Scale {
    /// Takes a frame in and says how new it is.
    pub fn look(&mut self, features: &[f32], kept: &Kept) -> Novelty {
        if self.mean.len() != features.len() {
            // Another backbone, or the first frame.
            *self = Scale {
                mean: vec![0.0; features.len()],
                variance: vec![0.0; features.len()],
                ..Scale::default()
            };
        }
        self.frames = (self.frames + 1.0).min(MEMORY);
        let share = 1.0 / self.frames;
        for ((mean, variance), &value) in self.mean.iter_mut().zip(&mut self.variance).zip(features) {
            let off = value - *mean;
            *mean += share * off;
            *variance = (1.0 - share) * (*variance + share * off * off);
        }
        let weights: Vec<f32> =
            self.variance.iter().map(|v| 1.0 / v.max(LEAST_SPREAD * LEAST_SPREAD)).collect();
        let known = kept.iter().filter(|(look, _)| look.features.len() == features.len());
        let nearest = known.fold(None, |least: Option<f32>, (look, _)| {
            let limit = least.unwrap_or(f32::INFINITY);
            Some(limit.min(squares(features, &look.features, &weights, limit)))
        });
        // Root of the mean square over the channels.
        let distance = nearest.map(|squares| (squares / features.len().max(1) as f32).sqrt());
        let usual = self.usual;
        if let Some(distance) = distance {
            self.distances = (self.distances + 1.0).min(MEMORY);
            self.usual += (distance - self.usual) / self.distances;
        }
        Novelty { distance, usual }
    }
}

/// The sum of the weighted squares of the differences; of one that comes to `limit` only so much as shows it.
fn squares(a: &[f32], b: &[f32], weights: &[f32], limit: f32) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (weights, weights_rest) = weights.as_chunks::<LANES>();
    let rest = a_rest.iter().zip(b_rest).zip(weights_rest);
    let mut sum: f32 = rest.map(|((a, b), weight)| (a - b) * (a - b) * weight).sum();
    for ((a, b), weights) in a.chunks(STEP).zip(b.chunks(STEP)).zip(weights.chunks(STEP)) {
        // Sums side by side, as the processor adds.
        let mut lanes = [0.0; LANES];
        for ((a, b), weights) in a.iter().zip(b).zip(weights) {
            for lane in 0..LANES {
                let off = a[lane] - b[lane];
                lanes[lane] += off * off * weights[lane];
            }
        }
        sum += lanes.iter().sum::<f32>();
        if sum >= limit {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::kept::KeptLook;
    use super::*;
    use crate::picture::{Picture, Thumbnail};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn kept(features: &[f32], to: &mut Kept) {
        let thumbnail = Thumbnail::of(&Picture::filled(2, 2, [0; 3]));
        let look = KeptLook { thumbnail, features: features.to_vec() };
        to.add(look, &mut ChaCha8Rng::seed_from_u64(0));
    }

    #[test]
    fn a_frame_unlike_all_before_is_new_whatever_the_channels_are_measured_in() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (mut scale, mut memory) = (Scale::default(), Kept::default());
        let usual = |random: &mut ChaCha8Rng| {
            [random.random_range(-1.0_f32..1.0), 1000.0 * random.random_range(-1.0_f32..1.0), 5.0]
        };
        assert_eq!(scale.look(&usual(&mut random), &memory).amount(), 1.0, "nothing is kept yet");
        for _ in 0..20 {
            kept(&usual(&mut random), &mut memory);
        }
        let mut amounts: Vec<f32> = Vec::new();
        for _ in 0..300 {
            amounts.push(scale.look(&usual(&mut random), &memory).amount());
        }
        let mean = amounts[50..].iter().sum::<f32>() / 250.0;
        assert!(mean < 0.6, "{mean}");
        // Small beside the second channel, and far out on the first.
        let strange = scale.look(&[6.0, 0.0, 5.0], &memory);
        assert!(strange.amount() > 4.0 * mean.max(0.5), "{strange:?}");
        kept(&[6.0, 0.0, 5.0], &mut memory);
        assert_eq!(scale.look(&[6.0, 0.0, 5.0], &memory).amount(), 0.0, "it is kept now");
    }

    #[test]
    fn the_nearest_is_found_however_many_channels_there_are() {
        let mut random = ChaCha8Rng::seed_from_u64(4);
        for channels in [1, 7, 64, 131, 896] {
            let mut drawn = || (0..channels).map(|_| random.random_range(-3.0_f32..3.0)).collect::<Vec<_>>();
            let (looks, frame, weights): (Vec<Vec<f32>>, _, _) = (
                (0..20).map(|_| drawn()).collect(),
                drawn(),
                drawn().iter().map(|w| w.abs()).collect::<Vec<_>>(),
            );
            let plain = |look: &[f32]| -> f32 {
                frame.iter().zip(look).zip(&weights).map(|((a, b), w)| (a - b).powi(2) * w).sum()
            };
            let nearest = looks.iter().map(|look| plain(look)).fold(f32::INFINITY, f32::min);
            let found = looks
                .iter()
                .fold(f32::INFINITY, |least: f32, look| least.min(squares(&frame, look, &weights, least)));
            assert!((found - nearest).abs() <= 1e-4 * nearest, "{channels}: {found} {nearest}");
        }
    }

    #[test]
    fn looks_of_another_backbone_are_not_compared() {
        let (mut scale, mut memory) = (Scale::default(), Kept::default());
        kept(&[1.0, 2.0, 3.0], &mut memory);
        assert_eq!(scale.look(&[1.0, 2.0], &memory).distance, None);
    }
}
