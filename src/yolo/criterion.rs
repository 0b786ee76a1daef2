//! The criterion: loss of a batch of raw maps against true boxes, and its gradient with respect to
//! the maps.
//!
//! `L = batch · (7.5·L_box + 0.5·L_cls + 1.5·L_dfl)`, each part divided by `max(Σ target scores, 1)`:
//!
//! - `L_cls`: binary cross-entropy of every class logit against the target scores;
//! - `L_box`: `1 − CIoU` of each assigned anchor, weighted by its target score;
//! - `L_dfl`: cross-entropy of the bins beside the true distance, each weighted by its nearness,
//!   mean over the four sides, weighted likewise (Li et al., "Generalized focal loss",
//!   arXiv 2006.04388); a head without bins has the L1 distance there, in sides of the input.
//!
//! Which anchor answers for what is decided by [`Assigner`] and counts as constant. Pictures are
//! worked on in parallel. What is not labelled on a picture is [`super::distil`]'s.

use rayon::prelude::*;

use crate::label::LabelBox;

use super::assign::{Assigned, Assigner, TrueBox};
use super::bce::cross_entropy;
use super::distil::{Lesson, Partial};
use super::geometry::ciou_gradient;
use super::maps::{HeadShape, MapGradients, RawMaps};

/// How much each part of the loss counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gains {
    /// CIoU part.
    pub box_: f64,
    /// Class part.
    pub cls: f64,
    /// Distribution focal part, or L1.
    pub dfl: f64,
}

impl Default for Gains {
    fn default() -> Self {
        Gains { box_: 7.5, cls: 0.5, dfl: 1.5 }
    }
}

/// The parts of a loss, times their gains and the batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// CIoU part.
    pub box_: f64,
    /// Class part.
    pub cls: f64,
    /// Distribution focal part, or L1.
    pub dfl: f64,
}

impl Loss {
    /// The sum of the parts.
    pub fn total(&self) -> f64 {
        self.box_ + self.cls + self.dfl
    }
}

impl std::ops::Add for Loss {
    type Output = Loss;

    fn add(self, other: Loss) -> Loss {
        Loss { box_: self.box_ + other.box_, cls: self.cls + other.cls, dfl: self.dfl + other.dfl }
    }
}

impl std::ops::Mul<f64> for Loss {
    type Output = Loss;

    fn mul(self, factor: f64) -> Loss {
        Loss { box_: self.box_ * factor, cls: self.cls * factor, dfl: self.dfl * factor }
    }
}

/// Loss and target scores of pictures, added up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// The parts of the loss, times their gains.
    pub loss: Loss,
    /// Σ target scores.
    pub scores: f64,
}

impl std::ops::Add for Sums {
    type Output = Sums;

    fn add(self, other: Sums) -> Sums {
        Sums { loss: self.loss + other.loss, scores: self.scores + other.scores }
    }
}

/// What makes a loss and a gradient of sums over a batch: `batch / max(Σ target scores, 1)`.
pub fn normaliser(batch: usize, scores: f64) -> f64 {
    batch as f64 / scores.max(1.0)
}

/// The criterion for one shape of maps.
#[derive(Debug, Clone)]
pub struct Criterion {
    pub(super) shape: HeadShape,
    pub(super) gains: Gains,
    assigner: Assigner,
    /// First anchor of each level.
    starts: Vec<usize>,
}

/// Maps of one picture, per level.
pub(super) struct Picture<'a> {
    pub(super) boxes: Vec<&'a [f32]>,
    pub(super) classes: Vec<&'a [f32]>,
}

/// Gradients of one picture, per level, to be filled in.
pub(super) struct PictureGradients<'a> {
    pub(super) boxes: Vec<&'a mut [f32]>,
    pub(super) classes: Vec<&'a mut [f32]>,
}

/// Where an anchor lies.
pub(super) struct Cell {
    pub(super) level: usize,
    /// Index within the level's grid.
    pub(super) index: usize,
    /// Its centre, in cells.
    pub(super) centre: [f64; 2],
    pub(super) stride: f64,
}

impl Criterion {
    /// A criterion for maps of this shape.
    pub fn new(shape: &HeadShape, gains: Gains, assigner: Assigner) -> Self {
        let starts = shape
            .levels
            .iter()
            .scan(0, |next, level| {
                let start = *next;
                *next += level.cells();
                Some(start)
            })
            .collect();
        Criterion { shape: shape.clone(), gains, assigner, starts }
    }

    /// Gradients of the right size, all zero, for [`Criterion::evaluate`] to fill again and again.
    pub fn gradients(&self, batch: usize) -> MapGradients {
        let zeros = |channels: usize| {
            self.shape.levels.iter().map(|level| vec![0.0; batch * channels * level.cells()]).collect()
        };
        MapGradients { boxes: zeros(self.shape.box_channels()), classes: zeros(self.shape.classes) }
    }

    /// The loss of a batch; its gradient goes into `gradients`. `truth` holds each picture's boxes,
    /// normalised by the input's size.
    ///
    /// # Panics
    /// When maps, gradients and truth don't have the criterion's shape or the same batch.
    pub fn evaluate(&self, maps: &RawMaps, truth: &[Vec<LabelBox>], gradients: &mut MapGradients) -> Loss {
        let Sums { loss, scores } = self.sums(maps, truth, gradients);
        let scale = normaliser(maps.batch, scores);
        gradients.scale(scale as f32);
        loss * scale
    }

    /// The same before it is divided by `max(Σ target scores, 1)` and multiplied by the batch, so that
    /// a batch can be worked through in parts: sums of parts times [`normaliser`] are those of the
    /// whole batch.
    ///
    /// # Panics
    /// As [`Criterion::evaluate`].
    pub fn sums(&self, maps: &RawMaps, truth: &[Vec<LabelBox>], gradients: &mut MapGradients) -> Sums {
        self.partial_sums(maps, truth, None, gradients)
    }

    /// [`Criterion::sums`] of pictures on which not every class was labelled: see [`Partial`].
    ///
    /// # Panics
    /// As [`Criterion::evaluate`]; and when a class is taught but there is no teacher.
    pub fn partial_sums(
        &self,
        maps: &RawMaps,
        truth: &[Vec<LabelBox>],
        partial: Option<&Partial>,
        gradients: &mut MapGradients,
    ) -> Sums {
        assert_eq!(truth.len(), maps.batch, "one list of boxes per picture");
        let pictures = self.split(maps);
        let teacher = partial.and_then(|partial| partial.teacher).map(|maps| self.split(maps));
        let slots = split_gradients(&self.shape, maps.batch, gradients);
        pictures
            .par_iter()
            .zip(slots)
            .zip(truth)
            .enumerate()
            .map(|(index, ((picture, slots), labels))| {
                let truth = self.to_input(labels);
                let assigned = self.assign(picture, &truth);
                let lesson = partial.map(|partial| Lesson {
                    coverage: &partial.coverage[index],
                    teacher: teacher.as_ref().map(|teacher| &teacher[index]),
                });
                self.one(picture, slots, &assigned, &truth, lesson.filter(Lesson::is_partial).as_ref())
            })
            // Collected first: the order of the sum must not depend on which thread was faster.
            .collect::<Vec<_>>()
            .into_iter()
            .fold(Sums::default(), |a, b| a + b)
    }

    /// Which anchors answer for which box, per picture: for whoever wants to see the targets.
    pub fn assignments(&self, maps: &RawMaps, truth: &[Vec<LabelBox>]) -> Vec<Vec<Assigned>> {
        let pictures = self.split(maps);
        pictures
            .iter()
            .zip(truth)
            .map(|(picture, labels)| self.assign(picture, &self.to_input(labels)))
            .collect()
    }

    pub(super) fn split<'a>(&self, maps: &RawMaps<'a>) -> Vec<Picture<'a>> {
        let part = |map: &'a [f32], channels: usize, level: usize, index: usize| {
            let length = channels * self.shape.levels[level].cells();
            &map[index * length..(index + 1) * length]
        };
        (0..maps.batch)
            .map(|index| {
                let levels = 0..self.shape.levels.len();
                Picture {
                    boxes: levels
                        .clone()
                        .map(|level| part(maps.boxes[level], self.shape.box_channels(), level, index))
                        .collect(),
                    classes: levels
                        .map(|level| part(maps.classes[level], self.shape.classes, level, index))
                        .collect(),
                }
            })
            .collect()
    }

    pub(super) fn to_input(&self, labels: &[LabelBox]) -> Vec<TrueBox> {
        let (height, width) = (self.shape.input.0 as f32, self.shape.input.1 as f32);
        labels
            .iter()
            .map(|label| {
                let (x, y, w, h) = (label.cx * width, label.cy * height, label.w * width, label.h * height);
                TrueBox {
                    class: label.class as usize,
                    corners: [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0],
                }
            })
            .collect()
    }

    fn assign(&self, picture: &Picture, truth: &[TrueBox]) -> Vec<Assigned> {
        let score = |anchor: usize, class: usize| {
            let cell = self.cell(anchor);
            let logit = picture.classes[cell.level][class * self.cells(&cell) + cell.index];
            1.0 / (1.0 + (-logit).exp())
        };
        let corners = |anchor: usize| {
            let cell = self.cell(anchor);
            let sides = self.distances(picture, &cell);
            corners_of(&cell, sides).map(|position| (position * cell.stride) as f32)
        };
        self.assigner.assign(&self.shape, truth, score, corners)
    }

    pub(super) fn cell(&self, anchor: usize) -> Cell {
        let level = self.starts.partition_point(|&start| start <= anchor) - 1;
        let index = anchor - self.starts[level];
        let grid = &self.shape.levels[level];
        let centre = [(index % grid.width) as f64 + 0.5, (index / grid.width) as f64 + 0.5];
        Cell { level, index, centre, stride: grid.stride as f64 }
    }

    pub(super) fn cells(&self, cell: &Cell) -> usize {
        self.shape.levels[cell.level].cells()
    }

    /// The bins of one side, as probabilities.
    pub(super) fn bins(&self, picture: &Picture, cell: &Cell, side: usize) -> Vec<f64> {
        let (cells, reg_max) = (self.cells(cell), self.shape.reg_max);
        let logit =
            |bin: usize| f64::from(picture.boxes[cell.level][(side * reg_max + bin) * cells + cell.index]);
        let most = (0..reg_max).map(logit).fold(f64::NEG_INFINITY, f64::max);
        let mut bins: Vec<f64> = (0..reg_max).map(|bin| (logit(bin) - most).exp()).collect();
        let sum: f64 = bins.iter().sum();
        bins.iter_mut().for_each(|bin| *bin /= sum);
        bins
    }

    /// Predicted distances from the anchor's centre to left, top, right, bottom, in cells.
    pub(super) fn distances(&self, picture: &Picture, cell: &Cell) -> [f64; 4] {
        let cells = self.cells(cell);
        [0, 1, 2, 3].map(|side| match self.shape.reg_max {
            1 => f64::from(picture.boxes[cell.level][side * cells + cell.index]),
            _ => expectation(&self.bins(picture, cell, side)),
        })
    }

    /// Loss, gradient and target scores of one picture, before they are normalised.
    fn one(
        &self,
        picture: &Picture,
        mut gradients: PictureGradients,
        assigned: &[Assigned],
        truth: &[TrueBox],
        lesson: Option<&Lesson>,
    ) -> Sums {
        gradients.boxes.iter_mut().for_each(|map| map.fill(0.0));
        let cls_scale = self.gains.cls;
        let mut sums = match lesson {
            None => {
                let maps = picture.classes.iter().zip(&mut gradients.classes);
                let cls: f64 =
                    maps.map(|(logits, slots)| cross_entropy(logits, cls_scale as f32, slots)).sum();
                Sums { loss: Loss { cls: cls * cls_scale, ..Loss::default() }, scores: 0.0 }
            }
            Some(lesson) => self.taught(picture, &mut gradients, assigned, truth, lesson),
        };
        for assigned in assigned {
            let cell = self.cell(assigned.anchor);
            let target = &truth[assigned.truth];
            let at = target.class * self.cells(&cell) + cell.index;
            let mut part = self.regression(picture, &mut gradients, assigned, target, &cell);
            // BCE against 0 is in the sums; the target takes t·z from it.
            part.cls -= f64::from(assigned.score) * f64::from(picture.classes[cell.level][at]) * cls_scale;
            gradients.classes[cell.level][at] -= assigned.score * cls_scale as f32;
            sums = sums + Sums { loss: part, scores: f64::from(assigned.score) };
        }
        sums
    }

    /// CIoU and DFL (or L1) of one assigned anchor.
    fn regression(
        &self,
        picture: &Picture,
        gradients: &mut PictureGradients,
        assigned: &Assigned,
        target: &TrueBox,
        cell: &Cell,
    ) -> Loss {
        let weight = f64::from(assigned.score);
        let (cells, reg_max) = (self.cells(cell), self.shape.reg_max);
        let goal = target.corners.map(|position| f64::from(position) / cell.stride);
        let [cx, cy] = cell.centre;
        let true_sides = [cx - goal[0], cy - goal[1], goal[2] - cx, goal[3] - cy];
        let sides = self.distances(picture, cell);
        let (overlap, corner_gradient) = ciou_gradient(corners_of(cell, sides), goal);
        let box_weight = weight * self.gains.box_;
        // Left and top corners move against their distances. The loss is 1 − CIoU.
        let signs = [-1.0, -1.0, 1.0, 1.0];
        let dfl_weight = weight * self.gains.dfl / 4.0;
        let mut dfl = 0.0;
        for side in 0..4 {
            let d_side = -corner_gradient[side] * signs[side] * box_weight;
            let map = &mut gradients.boxes[cell.level];
            if reg_max == 1 {
                let length = [self.shape.input.1, self.shape.input.0][side % 2] as f64;
                let unit = cell.stride / length;
                let error = (sides[side] - true_sides[side]) * unit;
                dfl += error.abs();
                let pull = if error == 0.0 { 0.0 } else { error.signum() * unit };
                map[side * cells + cell.index] = (d_side + dfl_weight * pull) as f32;
                continue;
            }
            let bins = self.bins(picture, cell, side);
            let mean = expectation(&bins);
            // The reference's clamp keeps the right bin below the last.
            let distance = true_sides[side].clamp(0.0, reg_max as f64 - 1.0 - 0.01);
            let left = distance as usize;
            let right_share = distance - left as f64;
            let share = |bin: usize| match bin {
                bin if bin == left => 1.0 - right_share,
                bin if bin == left + 1 => right_share,
                _ => 0.0,
            };
            for (bin, &probability) in bins.iter().enumerate() {
                if share(bin) > 0.0 {
                    dfl -= share(bin) * probability.max(f64::MIN_POSITIVE).ln();
                }
                let d_logit =
                    d_side * probability * (bin as f64 - mean) + dfl_weight * (probability - share(bin));
                map[(side * reg_max + bin) * cells + cell.index] = d_logit as f32;
            }
        }
        Loss { box_: (1.0 - overlap) * box_weight, cls: 0.0, dfl: dfl * dfl_weight }
    }
}

fn expectation(bins: &[f64]) -> f64 {
    bins.iter().enumerate().map(|(bin, probability)| bin as f64 * probability).sum()
}

/// Corners of the box, in cells.
pub(super) fn corners_of(cell: &Cell, [left, top, right, bottom]: [f64; 4]) -> [f64; 4] {
    let [cx, cy] = cell.centre;
    [cx - left, cy - top, cx + right, cy + bottom]
}

fn split_gradients<'a>(
    shape: &HeadShape,
    batch: usize,
    gradients: &'a mut MapGradients,
) -> Vec<PictureGradients<'a>> {
    let mut slots: Vec<PictureGradients> =
        (0..batch).map(|_| PictureGradients { boxes: Vec::new(), classes: Vec::new() }).collect();
    for (level, map) in shape.levels.iter().zip(&mut gradients.boxes) {
        for (slot, part) in slots.iter_mut().zip(map.chunks_exact_mut(shape.box_channels() * level.cells())) {
            slot.boxes.push(part);
        }
    }
    for (level, map) in shape.levels.iter().zip(&mut gradients.classes) {
        for (slot, part) in slots.iter_mut().zip(map.chunks_exact_mut(shape.classes * level.cells())) {
            slot.classes.push(part);
        }
    }
    slots
}
