//! From raw maps, or from a whole model's output, to boxes in pixels of the network's input.
//!
//! A side's distance from its anchor is the expectation of the softmax over `reg_max` bins (Li et
//! al., "Generalized focal loss", arXiv 2006.04388), in cells; a class score is the logistic
//! function of its logit. Scores are compared as logits first, so that the many anchors that see
//! nothing cost one comparison each.

use super::detection::Detection;
use super::look::Sighting;
use super::maps::{HeadShape, RawMaps};
use super::nms::{Candidate, Hit, Keep, suppress};

/// Detections of picture `index` of a batch of raw maps, in pixels of the input, surest first.
///
/// Of a one-to-one head the surest pairs of anchor and class are taken as they are, as its own
/// decoding does: `iou`, `multi_label` and `agnostic` of `keep` say nothing then.
pub fn detections_of_maps(shape: &HeadShape, maps: &RawMaps, index: usize, keep: &Keep) -> Vec<Detection> {
    candidates_of_maps(shape, maps, index, keep).into_iter().map(|candidate| candidate.detection).collect()
}

/// The same, each with the class that comes second at its anchor.
pub fn sightings_of_maps(shape: &HeadShape, maps: &RawMaps, index: usize, keep: &Keep) -> Vec<Sighting> {
    let sighting = |Candidate { detection, anchor }: Candidate| {
        let (number, cell) = cell_of(shape, anchor);
        let cells = shape.levels[number].cells();
        let classes = picture(maps.classes[number], shape.classes * cells, index);
        let others = (0..shape.classes).filter(|&class| class != detection.class as usize);
        let rival = others
            .map(|class| (class as u32, classes[class * cells + cell]))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        Sighting { detection, rival: rival.map(|(class, value)| (class, sigmoid(value))) }
    };
    candidates_of_maps(shape, maps, index, keep).into_iter().map(sighting).collect()
}

fn candidates_of_maps(shape: &HeadShape, maps: &RawMaps, index: usize, keep: &Keep) -> Vec<Candidate> {
    let keep = &if shape.one_to_one { keep.for_one_to_one(shape.anchors()) } else { *keep };
    let threshold = logit(keep.confidence);
    let mut hits = Vec::new();
    let mut first_anchor = 0;
    for (number, level) in shape.levels.iter().enumerate() {
        let classes = picture(maps.classes[number], shape.classes * level.cells(), index);
        for_each_hit(classes, level.cells(), threshold, keep.multi_label, |cell, class, value| {
            let score = sigmoid(value);
            if score > keep.confidence {
                hits.push(Hit { score, anchor: first_anchor + cell, class });
            }
        });
        first_anchor += level.cells();
    }
    let corners = |anchor: usize| corners(shape, maps, index, anchor);
    suppress(hits, shape.anchors(), keep, corners)
}

/// Where a class is more likely than `confidence` in the class maps of a batch, per level, for each picture and cell,
/// `[batch · cells]`: [`detections_of_maps`] reads boxes there alone.
pub fn likely_places(shape: &HeadShape, classes: &[&[f32]], confidence: f32) -> Vec<Vec<bool>> {
    let threshold = logit(confidence);
    let places = shape.levels.iter().zip(classes).map(|(level, classes)| {
        let cells = level.cells();
        let mut places = vec![false; classes.len() / shape.classes];
        let pictures = places.chunks_exact_mut(cells).zip(classes.chunks_exact(shape.classes * cells));
        for (places, classes) in pictures {
            for plane in classes.chunks_exact(cells) {
                places.iter_mut().zip(plane).for_each(|(place, &value)| *place |= value > threshold);
            }
        }
        places
    });
    places.collect()
}

/// The box of one anchor of picture `index`, `[x1, y1, x2, y2]` in pixels of the input.
fn corners(shape: &HeadShape, maps: &RawMaps, index: usize, anchor: usize) -> [f32; 4] {
    let (number, cell) = cell_of(shape, anchor);
    let level = &shape.levels[number];
    let boxes = picture(maps.boxes[number], shape.box_channels() * level.cells(), index);
    let [left, top, right, bottom] = distances(boxes, level.cells(), cell, shape.reg_max);
    let (x, y) = ((cell % level.width) as f32 + 0.5, (cell / level.width) as f32 + 0.5);
    let stride = level.stride as f32;
    [x - left, y - top, x + right, y + bottom].map(|side| side * stride)
}

/// The level that an anchor lies on, and its cell there.
fn cell_of(shape: &HeadShape, anchor: usize) -> (usize, usize) {
    let mut cell = anchor;
    let mut number = 0;
    while cell >= shape.levels[number].cells() {
        cell -= shape.levels[number].cells();
        number += 1;
    }
    (number, cell)
}

/// What is kept of a whole model's output for one picture, `[4 + classes, anchors]`: rows of centre
/// x, centre y, width, height in pixels of the input, then a row of scores for each class.
pub fn candidates_of_output(output: &[f32], anchors: usize, keep: &Keep) -> Vec<Candidate> {
    let (boxes, scores) = output.split_at(4 * anchors);
    let mut hits = Vec::new();
    for_each_hit(scores, anchors, keep.confidence, keep.multi_label, |anchor, class, score| {
        hits.push(Hit { score, anchor, class });
    });
    suppress(hits, anchors, keep, |anchor| {
        let [cx, cy, w, h] = [0, 1, 2, 3].map(|row| boxes[row * anchors + anchor]);
        [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
    })
}

/// Detections of a whole model's output for one picture; see [`candidates_of_output`].
pub fn detections_of_output(output: &[f32], anchors: usize, keep: &Keep) -> Vec<Detection> {
    candidates_of_output(output, anchors, keep).into_iter().map(|candidate| candidate.detection).collect()
}

/// The part of a batch that belongs to one picture.
fn picture(batch: &[f32], length: usize, index: usize) -> &[f32] {
    &batch[index * length..][..length]
}

/// Calls `hit(cell, class, value)` for values above the threshold: for every class, or for the best
/// class of each cell (the first among equals). `values` is `[classes, cells]`.
fn for_each_hit(
    values: &[f32],
    cells: usize,
    threshold: f32,
    multi_label: bool,
    mut hit: impl FnMut(usize, u32, f32),
) {
    if multi_label {
        for (class, plane) in values.chunks_exact(cells).enumerate() {
            for (cell, &value) in plane.iter().enumerate() {
                if value > threshold {
                    hit(cell, class as u32, value);
                }
            }
        }
        return;
    }
    let mut best = vec![(threshold, u32::MAX); cells];
    for (class, plane) in values.chunks_exact(cells).enumerate() {
        for (best, &value) in best.iter_mut().zip(plane) {
            if value > best.0 {
                *best = (value, class as u32);
            }
        }
    }
    for (cell, &(value, class)) in best.iter().enumerate() {
        if class != u32::MAX {
            hit(cell, class, value);
        }
    }
}

/// Distances of one anchor's box sides, in cells: left, top, right, bottom.
fn distances(boxes: &[f32], cells: usize, cell: usize, reg_max: usize) -> [f32; 4] {
    let at = |channel: usize| boxes[channel * cells + cell];
    [0, 1, 2, 3].map(|side| {
        if reg_max == 1 {
            return at(side);
        }
        let bins = (0..reg_max).map(|bin| at(side * reg_max + bin));
        let highest = bins.clone().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut weighted) = (0.0, 0.0);
        for (bin, value) in bins.enumerate() {
            let share = (value - highest).exp();
            sum += share;
            weighted += share * bin as f32;
        }
        weighted / sum
    })
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// A little below the logit of a score, so that rounding loses none; the score itself decides.
fn logit(score: f32) -> f32 {
    (score / (1.0 - score)).ln() - 1e-3
}

#[cfg(test)]
mod tests {
    use super::super::maps::Level;
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn slices(maps: &[Vec<f32>]) -> Vec<&[f32]> {
        maps.iter().map(Vec::as_slice).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn boxes_are_read_where_a_class_is_likely_alone(measure: bool, one_to_one: bool, seed: u64) {
            let level = |stride: usize| Level { stride, height: 64 / stride, width: 96 / stride };
            let shape = HeadShape {
                input: (64, 96),
                levels: vec![level(8), level(16)],
                reg_max: 4,
                classes: 3,
                one_to_one,
            };
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut maps = |channels: usize, low: f32, high: f32| -> Vec<Vec<f32>> {
                let map = |level: &Level| {
                    (0..2 * channels * level.cells()).map(|_| random.random_range(low..high)).collect()
                };
                shape.levels.iter().map(map).collect()
            };
            // Some below the threshold of measuring, which is -6.9, and most below that of use.
            let (boxes, classes) = (maps(16, -2.0, 2.0), maps(3, -30.0, 2.0));
            let keep = if measure { Keep::to_measure() } else { Keep::to_use() };
            let places = likely_places(&shape, &slices(&classes), keep.confidence);
            let mut poisoned = boxes.to_vec();
            for (map, places) in poisoned.iter_mut().zip(&places) {
                let cells = places.len() / 2;
                for (index, value) in map.iter_mut().enumerate() {
                    if !places[index / (16 * cells) * cells + index % cells] {
                        *value = f32::NAN;
                    }
                }
            }
            for index in 0..2 {
                let found = |boxes: &[Vec<f32>]| {
                    let maps = RawMaps { batch: 2, boxes: slices(boxes), classes: slices(&classes) };
                    detections_of_maps(&shape, &maps, index, &keep)
                };
                let expected = found(&boxes);
                let maps = RawMaps { batch: 2, boxes: slices(&boxes), classes: slices(&classes) };
                let seen = sightings_of_maps(&shape, &maps, index, &keep);
                let same: Vec<Detection> = seen.iter().map(|sighting| sighting.detection).collect();
                prop_assert_eq!(&same, &expected);
                for Sighting { detection, rival } in &seen {
                    let (class, score) = rival.unwrap();
                    prop_assert!(class != detection.class && (keep.multi_label || one_to_one || score <= detection.score));
                }
                prop_assert!(!expected.is_empty());
                prop_assert_eq!(expected, found(&poisoned));
            }
        }
    }
}
