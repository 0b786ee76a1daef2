//! What the kept frames looked like: the latest, and of all before them a fair sample.

use std::collections::VecDeque;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rand::{Rng, RngExt};

use crate::picture::{Levelled, Thumbnail};

/// The latest kept frames are all remembered, and as many of those before.
const LATEST: usize = 256;

/// What a kept frame looked like.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptLook {
    /// To people.
    pub thumbnail: Thumbnail,
    /// To the backbone: [`crate::yolo::look::Look::features`].
    pub features: Vec<f32>,
}

impl KeptLook {
    /// As bytes, to be found again after a restart.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut half = vec![f16::ZERO; self.features.len()];
        half.convert_from_f32_slice(&self.features);
        let mut bytes = self.thumbnail.bytes().to_vec();
        bytes.extend(half.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// From what [`KeptLook::to_bytes`] gave; none where the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (thumbnail, features) = bytes.split_first_chunk()?;
        let (features, rest) = features.as_chunks();
        let features = features.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect();
        rest.is_empty().then(|| KeptLook { thumbnail: Thumbnail::from_bytes(*thumbnail), features })
    }
}

/// The kept frames that are remembered.
#[derive(Debug, Default)]
pub(super) struct Kept {
    latest: VecDeque<(KeptLook, Levelled)>,
    /// Of the frames before the latest each is here with the same chance (Vitter, "Random sampling with a
    /// reservoir", 1985).
    earlier: Vec<(KeptLook, Levelled)>,
    /// Frames that have ever left `latest`.
    left: usize,
}

impl Kept {
    /// Another frame is kept.
    pub fn add(&mut self, look: KeptLook, random: &mut impl Rng) {
        let levelled = Levelled::of(&look.thumbnail);
        self.latest.push_back((look, levelled));
        if self.latest.len() <= LATEST {
            return;
        }
        let oldest = self.latest.pop_front().expect("there are more than none");
        self.left += 1;
        if self.earlier.len() < LATEST {
            self.earlier.push(oldest);
        } else {
            let place = random.random_range(0..self.left);
            if let Some(slot) = self.earlier.get_mut(place) {
                *slot = oldest;
            }
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.latest.len() + self.earlier.len()
    }

    /// All of them, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = &(KeptLook, Levelled)> {
        self.latest.iter().rev().chain(&self.earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Picture;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn look(value: f32) -> KeptLook {
        KeptLook { thumbnail: Thumbnail::of(&Picture::filled(4, 4, [9; 3])), features: vec![value, -0.5] }
    }

    #[test]
    fn looks_come_back_from_their_bytes() {
        let bytes = look(1.25).to_bytes();
        assert_eq!(KeptLook::from_bytes(&bytes), Some(look(1.25)));
        assert_eq!(KeptLook::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(KeptLook::from_bytes(&bytes[..99]), None);
    }

    #[test]
    fn memory_is_bounded_and_fair_to_what_is_old() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut kept = Kept::default();
        for number in 0..2048 {
            kept.add(look(number as f32), &mut random);
        }
        assert_eq!(kept.len(), 2 * LATEST);
        let numbers: Vec<f32> = kept.iter().map(|(look, _)| look.features[0]).collect();
        assert_eq!(numbers[..LATEST], (1792..2048).rev().map(|n| n as f32).collect::<Vec<_>>());
        let old = numbers[LATEST..].iter().filter(|&&number| number < 896.0).count();
        assert!((98..158).contains(&old), "{old} of 256 are from the first half");
    }
}
