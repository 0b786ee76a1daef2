//! Fills the feature cache: each view of each sample goes through the backbone once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::Example;
use crate::label::LabelBox;
use crate::picture::{Picture, PictureError};
use crate::tensor::Tensor;
use crate::yolo::backbone::Backbone;

use super::TrainError;
use super::cache::{FeatureCache, FeatureKey, hash};
use super::control::Control;
use super::views::{Turns, VIEWS_VERSION, View, ViewKey};

/// An example whose picture has been looked at.
pub(super) struct Sample<'a> {
    pub example: &'a Example,
    /// sha256 of the picture's file.
    pub hash: [u8; 32],
    /// Width and height, pixels.
    pub picture: (u32, u32),
}

impl<'a> Sample<'a> {
    /// Hashes the pictures and reads their sizes, so that a file that does not decode is named before
    /// any work begins.
    pub fn look_at(examples: &'a [Example]) -> Result<Vec<Self>, TrainError> {
        let look = |example: &'a Example| -> Result<Self, PictureError> {
            let bytes = std::fs::read(&example.picture)
                .map_err(|source| PictureError::Io { path: example.picture.clone(), source })?;
            let picture = Picture::size_of(&bytes).map_err(|error| error.in_file(&example.picture))?;
            Ok(Sample { example, hash: Sha256::digest(&bytes).into(), picture })
        };
        Ok(examples.par_iter().map(look).collect::<Result<_, _>>()?)
    }
}

/// Which views of samples are made, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Views {
    pub seed: u64,
    pub turns: Turns,
    pub size: (usize, usize),
}

impl Views {
    /// View number `view` of a sample.
    pub fn view(&self, sample: &Sample, view: u32) -> View {
        let key = ViewKey { sample: &sample.hash, view, seed: self.seed, turns: self.turns };
        View::new(key, sample.picture, self.size)
    }

    /// What identifies the features of a view within the cache of one backbone.
    pub fn key(&self, sample: &Sample, view: u32) -> FeatureKey {
        if view == 0 {
            // The plain picture is the same whatever the seed.
            return hash(&[&sample.hash, b"plain", &VIEWS_VERSION.to_le_bytes()]);
        }
        let turns = [self.turns as u8];
        let numbers = [view.to_le_bytes(), VIEWS_VERSION.to_le_bytes()].concat();
        hash(&[&sample.hash, &numbers, &self.seed.to_le_bytes(), &turns])
    }

    /// The boxes of a sample in a view.
    pub fn labels(&self, sample: &Sample, view: u32) -> Vec<LabelBox> {
        self.view(sample, view).labels(&sample.example.labels)
    }
}

/// Where under `root` the cache of this backbone lies.
pub(super) fn cache_folder(root: &Path, backbone_hash: &[u8], backbone: &Backbone) -> PathBuf {
    let (height, width) = backbone.size();
    let name: String = backbone_hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    root.join(format!("{name}-{height}x{width}"))
}

/// The cache of this backbone.
pub(super) fn open_cache(folder: &Path, backbone: &Backbone) -> Result<FeatureCache, TrainError> {
    let record = backbone.shapes().iter().map(|shape| shape.iter().product::<usize>()).sum();
    Ok(FeatureCache::open(folder, record)?)
}

/// Brings the features of all `wanted` (sample, view) pairs into the cache. `progress` is told how
/// many of them are there.
pub(super) fn extract(
    cache: &mut FeatureCache,
    backbone: &mut Backbone,
    views: &Views,
    wanted: &[(&Sample, u32)],
    mut progress: impl FnMut(usize, usize),
    control: &Control,
) -> Result<(), TrainError> {
    // The same picture may be among the samples twice.
    let mut seen = HashSet::new();
    let is_missing = |(sample, view): &&(&Sample, u32)| {
        let key = views.key(sample, *view);
        !cache.has(&key) && seen.insert(key)
    };
    let missing: Vec<_> = wanted.iter().filter(is_missing).copied().collect();
    let there = wanted.len() - missing.len();
    progress(there, wanted.len());
    // Pictures are drawn on all cores while the backbone waits; several at once keep them busy.
    let group = backbone.batch() * rayon::current_num_threads().div_ceil(backbone.batch()).max(1);
    let length = backbone.picture_len();
    let (height, width) = backbone.size();
    for (number, group_views) in missing.chunks(group).enumerate() {
        let drawn: Vec<Vec<f32>> = group_views
            .par_iter()
            .map(|(sample, view)| {
                let picture = Picture::open(&sample.example.picture)?;
                let mut target = vec![0.0; length];
                views.view(sample, *view).draw(&picture, &mut target);
                Ok(target)
            })
            .collect::<Result<_, PictureError>>()?;
        for (chunk, pictures) in group_views.chunks(backbone.batch()).zip(drawn.chunks(backbone.batch())) {
            control.go_on()?;
            let mut input = Tensor::zeros([backbone.batch(), 3, height, width]);
            for (target, picture) in input.data_mut().chunks_exact_mut(length).zip(pictures) {
                target.copy_from_slice(picture);
            }
            let outputs = backbone.run(input)?;
            for (index, (sample, view)) in chunk.iter().enumerate() {
                let features: Vec<&[f32]> = outputs
                    .iter()
                    .zip(backbone.shapes())
                    .map(|(value, shape)| {
                        let length: usize = shape.iter().product();
                        &value.data()[index * length..][..length]
                    })
                    .collect();
                cache.append(views.key(sample, *view), &features)?;
            }
        }
        // What is committed survives an interruption; some seconds of work are worth an fsync.
        if number % 16 == 15 {
            cache.commit()?;
        }
        progress(there + (number * group + group_views.len()), wanted.len());
    }
    Ok(cache.commit()?)
}
