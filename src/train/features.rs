//! Fills the feature cache: each view of each sample goes through the backbone once.

use std::collections::HashSet;
use std::path::Path;

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
use super::options::TrainOptions;
use super::views::{Ring, TILES, Turns, VIEWS_VERSION, View, ViewKey, is_mosaic};

/// An example whose picture has been looked at.
#[derive(Debug, Clone, Copy)]
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
#[derive(Debug, Clone)]
pub(super) struct Views<'a> {
    seed: u64,
    turns: Turns,
    size: (usize, usize),
    /// Share of the varied views that are mosaics.
    mosaic: f64,
    /// Who may be a partner in a mosaic, and whom the ring's numbers mean.
    ring: Ring,
    samples: Vec<Sample<'a>>,
}

impl<'a> Views<'a> {
    /// Views for an input of this height and width. Partners in mosaics come from `samples`, which must
    /// be those that are learnt from: a held-out picture must not be seen while training.
    pub fn new(options: &TrainOptions, size: (usize, usize), samples: &[Sample<'a>]) -> Self {
        let samples = if options.mosaic > 0.0 { samples.to_vec() } else { Vec::new() };
        let hashes: Vec<[u8; 32]> = samples.iter().map(|sample| sample.hash).collect();
        Views {
            seed: options.seed,
            turns: options.turns,
            size,
            mosaic: options.mosaic,
            ring: Ring::new(&hashes),
            samples,
        }
    }

    /// Whether the view with this number is a mosaic.
    pub fn is_mosaic(&self, view: u32) -> bool {
        !self.samples.is_empty() && is_mosaic(view, self.mosaic)
    }

    /// What identifies the features of a view within the cache of one backbone.
    pub fn key(&self, sample: &Sample, view: u32) -> FeatureKey {
        if view == 0 {
            // The plain picture is the same whatever the seed.
            return hash(&[&sample.hash, b"plain", &VIEWS_VERSION.to_le_bytes()]);
        }
        let (turns, seed) = ([self.turns as u8], self.seed.to_le_bytes());
        let numbers = [view.to_le_bytes(), VIEWS_VERSION.to_le_bytes()].concat();
        match self.partners(sample, view) {
            None => hash(&[&sample.hash, &numbers, &seed, &turns]),
            // With other partners it is another picture.
            Some(partners) => {
                let [a, b, c] = partners.map(|partner| &partner.hash);
                hash(&[&sample.hash, &numbers, &seed, &turns, b"mosaic", a, b, c])
            }
        }
    }

    /// The boxes of a sample in a view, and in a mosaic those of its partners.
    pub fn labels(&self, sample: &Sample, view: u32) -> Vec<LabelBox> {
        let own = sample.example.labels.as_slice();
        match self.partners(sample, view) {
            None => self.view(sample, view).labels(&[own]),
            Some(partners) => {
                let [a, b, c] = partners.map(|partner| partner.example.labels.as_slice());
                self.view(sample, view).labels(&[own, a, b, c])
            }
        }
    }

    /// Draws a view of a sample into `target`, `[3, height, width]`.
    fn draw(&self, sample: &Sample, view: u32, target: &mut [f32]) -> Result<(), PictureError> {
        let partners = self.partners(sample, view);
        let open = |number: usize| match (number, &partners) {
            (1.., Some(partners)) => Picture::open(&partners[number - 1].example.picture),
            _ => Picture::open(&sample.example.picture),
        };
        self.view(sample, view).draw(open, target)
    }

    /// View number `view` of a sample.
    fn view(&self, sample: &Sample, view: u32) -> View {
        match self.partners(sample, view) {
            None => View::new(self.view_key(sample, view), sample.picture, self.size),
            Some(partners) => {
                let [a, b, c] = partners.map(|partner| partner.picture);
                View::mosaic(self.view_key(sample, view), &[sample.picture, a, b, c], self.size)
            }
        }
    }

    /// Of each class what may be said of it in a view of sample `number`, where `each` says it of each
    /// sample's own picture: on a mosaic a class is `labelled` when it is on all four, since what was not
    /// looked for on one of them is not known there.
    ///
    /// `each` follows the samples that the views were made for.
    pub fn in_common<T: Copy + PartialEq>(
        &self,
        each: &[Vec<T>],
        labelled: T,
        (number, sample): (usize, &Sample),
        view: u32,
    ) -> Vec<T> {
        let mut common = each[number].clone();
        for partner in self.partner_numbers(sample, view).into_iter().flatten() {
            for (common, &theirs) in common.iter_mut().zip(&each[partner]) {
                if *common == labelled {
                    *common = theirs;
                }
            }
        }
        common
    }

    /// With whom a sample is seen in a view; none where the view is no mosaic.
    fn partners(&self, sample: &Sample, view: u32) -> Option<[&Sample<'a>; TILES - 1]> {
        Some(self.partner_numbers(sample, view)?.map(|number| &self.samples[number]))
    }

    fn partner_numbers(&self, sample: &Sample, view: u32) -> Option<[usize; TILES - 1]> {
        self.is_mosaic(view).then(|| self.ring.partners(self.view_key(sample, view)))
    }

    fn view_key<'s>(&self, sample: &'s Sample, view: u32) -> ViewKey<'s> {
        ViewKey { sample: &sample.hash, view, seed: self.seed, turns: self.turns }
    }
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
                let mut target = vec![0.0; length];
                views.draw(sample, *view, &mut target)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yolo::distil::Coverage;
    use std::path::PathBuf;

    /// Pictures on disk, each of a colour and with a box of a class of its own.
    fn examples(folder: &Path, count: u32) -> Vec<Example> {
        let make = |number: u32| {
            let picture: PathBuf = folder.join(format!("{number}.png"));
            Picture::filled(40 + number, 30, [20 * number as u8, 200, 90]).save(&picture).unwrap();
            let label = LabelBox { class: number, cx: 0.5, cy: 0.5, w: 0.9, h: 0.9 };
            Example { picture, labels: vec![label], covers: None }
        };
        (0..count).map(make).collect()
    }

    fn views<'a>(mosaic: f64, samples: &[Sample<'a>]) -> Views<'a> {
        Views::new(&TrainOptions { mosaic, ..TrainOptions::default() }, (64, 64), samples)
    }

    #[test]
    fn a_mosaic_has_other_features_as_soon_as_its_partners_change() {
        let folder = tempfile::tempdir().unwrap();
        let examples = examples(folder.path(), 6);
        let samples = Sample::look_at(&examples).unwrap();
        let (without, all, fewer) = (views(0.0, &samples), views(0.5, &samples), views(0.5, &samples[..5]));
        let mut changed = 0;
        for sample in &samples[..5] {
            for view in 0..16 {
                let (single, mosaic, old) =
                    (without.key(sample, view), all.key(sample, view), fewer.key(sample, view));
                let is_mosaic = view > 0 && view % 2 == 0;
                assert_eq!(all.is_mosaic(view), is_mosaic);
                assert_eq!(single != mosaic, is_mosaic, "view {view}");
                let hashes = |views: &Views| -> Option<Vec<[u8; 32]>> {
                    Some(views.partners(sample, view)?.iter().map(|partner| partner.hash).collect())
                };
                assert_eq!(mosaic == old, hashes(&all) == hashes(&fewer));
                changed += usize::from(mosaic != old);
            }
        }
        assert!((1..40).contains(&changed), "{changed} of 40 mosaics changed");
    }

    #[test]
    fn a_class_that_one_picture_of_a_mosaic_leaves_open_is_open_on_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let examples = examples(folder.path(), 6);
        let samples = Sample::look_at(&examples).unwrap();
        let (mosaics, singles) = (views(1.0, &samples), views(0.0, &samples));
        // Class 0 is labelled everywhere, class 1 nowhere; sample 2 leaves class 2 open, sample 3 class 3.
        let each: Vec<Vec<Coverage>> = (0..6)
            .map(|sample| {
                let labelled = |open: bool| if open { Coverage::Unknown } else { Coverage::Labelled };
                vec![Coverage::Labelled, Coverage::Taught, labelled(sample == 2), labelled(sample == 3)]
            })
            .collect();
        let mut open = [0; 4];
        for (number, sample) in samples.iter().enumerate() {
            for view in 0..16 {
                let alone = singles.in_common(&each, Coverage::Labelled, (number, sample), view);
                assert_eq!(alone, each[number]);
                let partners = mosaics.partners(sample, view).into_iter().flatten();
                let shown: Vec<[u8; 32]> = partners.chain([sample]).map(|member| member.hash).collect();
                let shows = |other: usize| shown.contains(&samples[other].hash);
                let found = mosaics.in_common(&each, Coverage::Labelled, (number, sample), view);
                assert_eq!(found[..2], [Coverage::Labelled, Coverage::Taught]);
                for class in [2, 3] {
                    let wanted = if shows(class) { Coverage::Unknown } else { Coverage::Labelled };
                    assert_eq!(found[class], wanted, "sample {number} view {view} class {class}");
                    open[class] += usize::from(shows(class));
                }
            }
        }
        assert!(open[2..].iter().all(|open| (17..96).contains(open)), "{open:?}");
    }

    #[test]
    fn a_mosaic_shows_training_samples_with_their_boxes_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let examples = examples(folder.path(), 8);
        let samples = Sample::look_at(&examples).unwrap();
        let (holdout, samples) = samples.split_at(2);
        let views = views(1.0, samples);
        let mut seen = HashSet::new();
        for sample in samples {
            for view in 1..20 {
                let partners = views.partners(sample, view).unwrap();
                assert!(partners.iter().all(|partner| holdout.iter().all(|held| held.hash != partner.hash)));
                let labels = views.labels(sample, view);
                let mut members = vec![sample.example.labels[0].class];
                members.extend(partners.iter().map(|partner| partner.example.labels[0].class));
                assert!(labels.iter().all(|label| members.contains(&label.class)), "{labels:?}");
                seen.extend(labels.iter().map(|label| label.class));
                let mut target = vec![f32::NAN; 3 * 64 * 64];
                views.draw(sample, view, &mut target).unwrap();
                assert!(target.iter().all(|value| (0.0..=1.0).contains(value)));
            }
        }
        assert_eq!(seen, (2..8).collect());
    }
}
