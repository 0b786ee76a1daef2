//! The memory's part in a run: which records may be seen again, and which samples enter when it ends.

use std::collections::HashSet;

use rand::Rng;

use crate::label::LabelBox;
use crate::yolo::distil::Coverage;

use super::cache::FeatureCache;
use super::coverage::coverage;
use super::features::{Sample, Views};
use super::memory::{Memory, MemoryError, Record};

/// Views of a sample that are offered to the memory; more of the same teach less than other samples.
const VIEWS: u32 = 4;

/// Records that a run sees again, with their labels in the model's classes.
pub(super) struct Replay {
    pub memory: Memory,
    usable: Vec<usize>,
    lessons: Vec<(Vec<LabelBox>, Vec<Coverage>)>,
}

impl Replay {
    /// Records of samples that are in `seen` (the run's own, and its hold-out) are left out: the first
    /// are learnt from as they are, the second must not be. `known` tells of each of the model's
    /// `classes` whether a teacher knows it.
    pub fn new(memory: Memory, seen: &HashSet<[u8; 32]>, classes: &[String], known: &[bool]) -> Self {
        let usable = (0..memory.records().len())
            .filter(|&index| !seen.contains(&memory.records()[index].sample))
            .collect();
        let lessons = memory.records().iter().map(|record| lesson(record, classes, known)).collect();
        Replay { memory, usable, lessons }
    }

    /// Records that may be seen.
    pub fn len(&self) -> usize {
        self.usable.len()
    }

    /// What tells one memory's records from another's.
    pub fn identity(&self) -> Vec<u8> {
        let records = self.memory.records();
        self.usable.iter().flat_map(|&index| records[index].key).collect()
    }

    /// Draws records for a batch.
    pub fn sample(&self, count: usize, random: &mut impl Rng) -> Vec<usize> {
        Memory::sample(&self.usable, count, random)
    }

    /// Boxes of a record, and what is known of each class on it.
    pub fn lesson(&self, record: usize) -> &(Vec<LabelBox>, Vec<Coverage>) {
        &self.lessons[record]
    }

    /// Offers the samples of a run that was promoted to the memory. The run is done and its outcome good,
    /// whatever becomes of that.
    #[allow(clippy::too_many_arguments, reason = "all of it is the run's, and nothing else is done with it")]
    pub fn remember(
        &mut self,
        samples: &[Sample],
        views: &Views,
        n_views: u32,
        classes: &[String],
        covered: &[Vec<bool>],
        features: &FeatureCache,
        seed: u64,
    ) {
        let (records, shown) = candidates(samples, views, n_views, classes, covered);
        let read = |index: usize, targets: &mut [&mut [f32]]| {
            let (sample, view) = shown[index];
            features.read(&views.key(sample, view), targets);
        };
        match self.memory.admit(records, seed, read) {
            Ok(admission) => tracing::info!(
                "replay memory: {} views entered and {} left; it holds {} of them in {} MB",
                admission.entered,
                admission.left,
                self.memory.records().len(),
                self.memory.size().div_ceil(1 << 20)
            ),
            Err(error) => tracing::warn!("{error}; this run's samples will not be seen again"),
        }
    }

    /// Reads the features of a record.
    pub fn read(&self, record: usize, targets: &mut [&mut [f32]]) -> Result<(), MemoryError> {
        self.memory.read(record, targets)
    }
}

/// Boxes of classes that the model no longer has are left out.
fn lesson(record: &Record, classes: &[String], known: &[bool]) -> (Vec<LabelBox>, Vec<Coverage>) {
    let number = |name: &String| classes.iter().position(|known| known == name);
    let numbers: Vec<Option<usize>> = record.classes.iter().map(number).collect();
    let boxes = record
        .boxes
        .iter()
        .filter_map(|label| {
            numbers[label.class as usize].map(|class| LabelBox { class: class as u32, ..*label })
        })
        .collect();
    let mut covered = vec![false; classes.len()];
    for &number in numbers.iter().flatten() {
        covered[number] = true;
    }
    (boxes, coverage(&covered, known))
}

/// What the samples of a run offer to the memory, and which view each is; the plain views come first.
/// `covered` tells of each sample which of the `classes` it is labelled for; a mosaic is for those that all
/// of its pictures are labelled for.
fn candidates<'a>(
    samples: &'a [Sample<'a>],
    views: &Views,
    n_views: u32,
    classes: &[String],
    covered: &[Vec<bool>],
) -> (Vec<Record>, Vec<(&'a Sample<'a>, u32)>) {
    let of_view = |view: u32| samples.iter().enumerate().map(move |(number, sample)| (number, sample, view));
    (0..n_views.min(VIEWS))
        .flat_map(of_view)
        .map(|(number, sample, view)| {
            let covered = views.in_common(covered, true, (number, sample), view);
            let places: Vec<usize> = (0..classes.len()).filter(|&class| covered[class]).collect();
            let boxes = views.labels(sample, view).into_iter().filter_map(|label| {
                let place = places.iter().position(|&class| class == label.class as usize)?;
                Some(LabelBox { class: place as u32, ..label })
            });
            let record = Record {
                sample: sample.hash,
                key: views.key(sample, view),
                run: 0,
                boxes: boxes.collect(),
                classes: places.iter().map(|&class| classes[class].clone()).collect(),
            };
            (record, (sample, view))
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Example;
    use crate::train::TrainOptions;

    #[test]
    fn a_mosaic_enters_the_memory_for_what_all_of_its_pictures_cover() {
        let examples: Vec<Example> = (0..5)
            .map(|class| Example {
                picture: "x".into(),
                labels: vec![LabelBox { class, cx: 0.5, cy: 0.5, w: 0.9, h: 0.9 }],
                covers: None,
            })
            .collect();
        let samples: Vec<Sample> = examples
            .iter()
            .zip(1..)
            .map(|(example, number)| Sample { example, hash: [number; 32], picture: (64, 64) })
            .collect();
        let classes: Vec<String> = (0..5).map(|class| format!("c{class}")).collect();
        // Each is labelled for all classes but the next one's.
        let covered: Vec<Vec<bool>> =
            (0..5).map(|sample| (0..5).map(|class| class != (sample + 1) % 5).collect()).collect();
        let options = TrainOptions { mosaic: 1.0, ..TrainOptions::default() };
        let views = Views::new(&options, (64, 64), &samples);
        let (records, shown) = candidates(&samples, &views, 3, &classes, &covered);
        assert_eq!(records.len(), 15);
        for (record, (_, view)) in records.iter().zip(shown) {
            // Four of five pictures leave four classes open, and one alone one.
            assert_eq!(record.classes.len(), if view == 0 { 4 } else { 1 }, "view {view}");
            assert!(record.boxes.iter().all(|label| (label.class as usize) < record.classes.len()));
        }
    }
}
