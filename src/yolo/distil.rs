//! What a picture teaches about classes that nobody labelled on it.
//!
//! A picture may be labelled for some classes only. Objects of the others are on it all the same, so
//! "no box" must not count as "nothing there": that is how a detector forgets. For a class that is
//! not covered the *teacher*, the same head with the weights that the run began with, says what is
//! to be found:
//!
//! - class logits: cross-entropy against the teacher's probability at every anchor, whose gradient is
//!   `σ(z) − p` and so exactly zero as long as nothing has changed (Li & Hoiem, "Learning without
//!   forgetting", arXiv 1606.09282);
//! - box logits, where the teacher is confident (Shmelkov et al., "Incremental learning of object
//!   detectors without catastrophic forgetting", arXiv 1708.06977; choosing by confidence: Feng et
//!   al., "Overcoming catastrophic forgetting in incremental object detection via elastic response
//!   distillation", arXiv 2204.02136): cross-entropy of each side's bins against the teacher's,
//!   weighted by its probability (Zheng et al., "Localization distillation", arXiv 2102.12252). A
//!   head without bins has a Huber distance there, in the units of its L1.
//!
//! A person's label wins: an anchor whose teacher sees an object that a person labelled as something
//! else, or that answers for a person's box more strongly than the teacher for its own, is taught
//! nothing. A class that the teacher does not know either is left alone but where a person's box says
//! that something else is there.
//!
//! The teacher's probabilities of its confident anchors stand for the target scores that labels would
//! have given, so they are part of the normaliser: a picture taught in part weighs as much as one
//! labelled in full. (Measured, it makes no difference there: 0.006 at most.)

use crate::onnx::{OnnxError, values};

use super::assign::{Assigned, TrueBox};
use super::bce::{cross_entropy, cross_entropy_with, sigmoid};
use super::criterion::{Cell, Criterion, Loss, Picture, PictureGradients, Sums, corners_of};
use super::export::{Branch, Export, HeadConv};
use super::geometry::iou;
use super::maps::RawMaps;

/// From this probability on the teacher's boxes are taught too. At 0.05 both classes of
/// `benches/forgetting` ended lower by 0.01 (AP50-95, two seeds).
const CONFIDENT: f32 = 0.25;

/// Below this probability the teacher sees nothing that a person could contradict.
pub(super) const FAINT: f32 = 0.05;

/// A person's box that overlaps the teacher's this much is the same object.
const SAME_OBJECT: f64 = 0.5;

/// How much the teacher's boxes count, in shares of what labelled boxes count. At 0 the old class of
/// `benches/forgetting` falls from 0.74 to 0.62 and from 0.70 to 0.52 (AP50-95, two seeds), at 1 not at
/// all: classes alone don't hold the boxes that they share with the new class.
const BOX_SHARE: f64 = 1.0;

/// The Huber distance of heads without bins is quadratic up to so many pixels.
const KNEE: f64 = 1.0;

/// What is known about the objects of one class on one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Every one of them is labelled: where no box is, there is none.
    Labelled,
    /// Not labelled; the teacher knows the class and says where they are.
    Taught,
    /// Not labelled, and the teacher does not know the class either.
    Unknown,
}

/// Which classes a model knows. Of a class whose last kernels are zero everywhere it says the same of
/// every anchor: that is how a class that was just added looks.
///
/// # Errors
/// When a kernel can't be read as floats.
pub fn known_classes(export: &Export) -> Result<Vec<bool>, OnnxError> {
    let mut known = vec![false; export.classes.len()];
    let is_last = |conv: &&HeadConv| conv.branch == Branch::Class && export.is_last(conv);
    for conv in export.convs.iter().filter(is_last) {
        let name = export.parameters(conv).next();
        let kernel = export.model().graph().initializer.iter().find(|tensor| Some(tensor.name()) == name);
        // A kernel that some operator computes is no new class's.
        let Some(kernel) = kernel else { return Ok(vec![true; known.len()]) };
        let values = values::to_f32(kernel)?;
        for (known, row) in known.iter_mut().zip(values.chunks_exact(values.len() / export.classes.len())) {
            *known |= row.iter().any(|&weight| weight != 0.0);
        }
    }
    Ok(known)
}

/// Pictures of which some are not labelled for every class.
#[derive(Debug, Clone)]
pub struct Partial<'a> {
    /// Per picture, what is known of each class.
    pub coverage: &'a [Vec<Coverage>],
    /// The teacher's raw maps of the same pictures; needed where a class is taught.
    pub teacher: Option<&'a RawMaps<'a>>,
}

/// One picture of a [`Partial`].
pub(super) struct Lesson<'a> {
    pub(super) coverage: &'a [Coverage],
    pub(super) teacher: Option<&'a Picture<'a>>,
}

impl Lesson<'_> {
    /// Whether anything but labels is to be learnt from.
    pub(super) fn is_partial(&self) -> bool {
        self.coverage.iter().any(|&coverage| coverage != Coverage::Labelled)
    }

    fn teacher(&self) -> &Picture<'_> {
        self.teacher.expect("a class that is taught has a teacher")
    }

    /// Classes that are not labelled.
    fn open_classes(&self) -> impl Iterator<Item = (usize, Coverage)> {
        self.coverage.iter().copied().enumerate().filter(|&(_, coverage)| coverage != Coverage::Labelled)
    }
}

impl Criterion {
    /// The class part of every anchor against 0, against the teacher, or left out; and the teacher's
    /// boxes. The caller takes the target scores of `assigned` from it. Class gradients of the whole
    /// picture are set, box gradients of anchors that are not assigned.
    pub(super) fn taught(
        &self,
        picture: &Picture,
        gradients: &mut PictureGradients,
        assigned: &[Assigned],
        truth: &[TrueBox],
        lesson: &Lesson,
    ) -> Sums {
        let scale = self.gains.cls as f32;
        let mut sums = Sums::default();
        for level in 0..self.shape.levels.len() {
            let cells = self.shape.levels[level].cells();
            for (class, &coverage) in lesson.coverage.iter().enumerate() {
                let plane = class * cells..(class + 1) * cells;
                let logits = &picture.classes[level][plane.clone()];
                let slots = &mut gradients.classes[level][plane.clone()];
                sums.loss.cls += match coverage {
                    Coverage::Labelled => cross_entropy(logits, scale, slots),
                    Coverage::Taught => {
                        cross_entropy_with(logits, &lesson.teacher().classes[level][plane], scale, slots)
                    }
                    Coverage::Unknown => {
                        slots.fill(0.0);
                        0.0
                    }
                };
            }
        }
        let beliefs = self.beliefs(lesson);
        let mut answers = assigned.iter().peekable();
        for (anchor, &belief) in beliefs.iter().enumerate() {
            let answer = answers.next_if(|assigned| assigned.anchor == anchor);
            if answer.is_none() && belief < FAINT {
                continue;
            }
            let cell = self.cell(anchor);
            let overruled = belief >= FAINT && {
                let seen = self.teachers_box(lesson, &cell);
                let same = |box_: &TrueBox| iou(seen, box_.corners.map(f64::from)) >= SAME_OBJECT;
                answer.is_some_and(|assigned| assigned.score >= belief) || truth.iter().any(same)
            };
            for (class, coverage) in lesson.open_classes() {
                let answered = answer.is_some_and(|assigned| truth[assigned.truth].class == class);
                let at = class * self.cells(&cell) + cell.index;
                let z = picture.classes[cell.level][at];
                match coverage {
                    Coverage::Taught if overruled || answered => {
                        let p = sigmoid(lesson.teacher().classes[cell.level][at]);
                        sums.loss.cls += f64::from(p * z);
                        gradients.classes[cell.level][at] += p * scale;
                    }
                    Coverage::Unknown if answer.is_some() => {
                        let slot = &mut gradients.classes[cell.level][at..=at];
                        sums.loss.cls += cross_entropy(&[z], scale, slot);
                    }
                    _ => {}
                }
            }
            if answer.is_none() && !overruled && belief >= CONFIDENT {
                sums.loss = sums.loss + self.imitate(picture, gradients, lesson, &cell, f64::from(belief));
                sums.scores += f64::from(belief);
            }
        }
        sums.loss.cls *= self.gains.cls;
        sums
    }

    /// Anchors whose box may be taught.
    pub(super) fn imitated(&self, lesson: &Lesson) -> impl Iterator<Item = usize> {
        let beliefs = self.beliefs(lesson).into_iter().enumerate();
        beliefs.filter(|&(_, belief)| belief >= CONFIDENT).map(|(anchor, _)| anchor)
    }

    /// The teacher's highest probability of a class that it teaches, per anchor; 0 without a teacher.
    fn beliefs(&self, lesson: &Lesson) -> Vec<f32> {
        let taught: Vec<usize> = lesson
            .open_classes()
            .filter(|&(_, coverage)| coverage == Coverage::Taught)
            .map(|(class, _)| class)
            .collect();
        if taught.is_empty() {
            return vec![0.0; self.shape.anchors()];
        }
        let mut beliefs = Vec::with_capacity(self.shape.anchors());
        for (level, logits) in self.shape.levels.iter().zip(&lesson.teacher().classes) {
            let cells = level.cells();
            let mut highest = vec![f32::NEG_INFINITY; cells];
            for &class in &taught {
                for (highest, &logit) in highest.iter_mut().zip(&logits[class * cells..][..cells]) {
                    *highest = highest.max(logit);
                }
            }
            beliefs.extend(highest.into_iter().map(sigmoid));
        }
        beliefs
    }

    /// Corners in pixels of the input.
    fn teachers_box(&self, lesson: &Lesson, cell: &Cell) -> [f64; 4] {
        corners_of(cell, self.distances(lesson.teacher(), cell)).map(|position| position * cell.stride)
    }

    /// The box of one anchor against the teacher's.
    fn imitate(
        &self,
        picture: &Picture,
        gradients: &mut PictureGradients,
        lesson: &Lesson,
        cell: &Cell,
        belief: f64,
    ) -> Loss {
        let (cells, reg_max) = (self.cells(cell), self.shape.reg_max);
        let weight = belief * BOX_SHARE * (self.gains.box_ + self.gains.dfl) / 4.0;
        let map = &mut gradients.boxes[cell.level];
        let mut loss = 0.0;
        if reg_max == 1 {
            let (mine, theirs) = (self.distances(picture, cell), self.distances(lesson.teacher(), cell));
            for side in 0..4 {
                let length = [self.shape.input.1, self.shape.input.0][side % 2] as f64;
                let error = (mine[side] - theirs[side]) * cell.stride;
                let (distance, slope) = match error.abs() {
                    near if near < KNEE => (error * error / (2.0 * KNEE), error / KNEE),
                    far => (far - KNEE / 2.0, error.signum()),
                };
                loss += distance / length;
                map[side * cells + cell.index] = (weight * slope * cell.stride / length) as f32;
            }
            return Loss { dfl: loss * weight, ..Loss::default() };
        }
        for side in 0..4 {
            let mine = self.bins(picture, cell, side);
            let theirs = self.bins(lesson.teacher(), cell, side);
            for (bin, (&mine, &theirs)) in mine.iter().zip(&theirs).enumerate() {
                loss -= theirs * mine.max(f64::MIN_POSITIVE).ln();
                map[(side * reg_max + bin) * cells + cell.index] = (weight * (mine - theirs)) as f32;
            }
        }
        Loss { dfl: loss * weight, ..Loss::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assign::Assigner;
    use super::super::criterion::Gains;
    use super::super::maps::{HeadShape, Level, MapGradients};
    use super::*;
    use crate::label::LabelBox;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const CLASSES: usize = 3;

    fn shape(reg_max: usize) -> HeadShape {
        let level = |stride: usize| Level { stride, height: 64 / stride, width: 64 / stride };
        HeadShape {
            input: (64, 64),
            levels: vec![level(8), level(16)],
            reg_max,
            classes: CLASSES,
            one_to_one: false,
        }
    }

    /// Maps of one picture that are owned: per level boxes and classes.
    #[derive(Clone)]
    struct Maps {
        boxes: Vec<Vec<f32>>,
        classes: Vec<Vec<f32>>,
    }

    impl Maps {
        /// Many faint beliefs and some strong ones.
        fn random(shape: &HeadShape, random: &mut ChaCha8Rng) -> Self {
            let mut map = |channels: usize, range: std::ops::Range<f32>| -> Vec<Vec<f32>> {
                let count = |level: &Level| channels * level.cells();
                let levels = shape.levels.iter();
                levels
                    .map(|level| (0..count(level)).map(|_| random.random_range(range.clone())).collect())
                    .collect()
            };
            let boxes = map(shape.box_channels(), if shape.reg_max == 1 { 0.5..2.5 } else { -2.0..2.0 });
            Maps { boxes, classes: map(CLASSES, -6.0..1.5) }
        }

        fn raw(&self) -> RawMaps<'_> {
            RawMaps {
                batch: 1,
                boxes: self.boxes.iter().map(Vec::as_slice).collect(),
                classes: self.classes.iter().map(Vec::as_slice).collect(),
            }
        }

        fn picture(&self) -> Picture<'_> {
            let RawMaps { boxes, classes, .. } = self.raw();
            Picture { boxes, classes }
        }
    }

    fn criterion(reg_max: usize) -> Criterion {
        Criterion::new(&shape(reg_max), Gains::default(), Assigner::ONE_TO_MANY)
    }

    /// What is taught alone, with the assignment held fixed.
    fn taught(
        criterion: &Criterion,
        maps: &Maps,
        lesson: &Lesson,
        assigned: &[Assigned],
        truth: &[TrueBox],
    ) -> (Sums, MapGradients) {
        let mut gradients = criterion.gradients(1);
        let mut slots = PictureGradients {
            boxes: gradients.boxes.iter_mut().map(Vec::as_mut_slice).collect(),
            classes: gradients.classes.iter_mut().map(Vec::as_mut_slice).collect(),
        };
        let sums = criterion.taught(&maps.picture(), &mut slots, assigned, truth, lesson);
        (sums, gradients)
    }

    const ALL: [Coverage; 3] = [Coverage::Labelled, Coverage::Taught, Coverage::Unknown];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn gradients_of_what_is_taught_are_central_differences(
            seed in any::<u64>(), bins in any::<bool>(), coverage in prop::array::uniform3(0_usize..3),
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let criterion = criterion(if bins { 16 } else { 1 });
            let (maps, teacher) = (Maps::random(&criterion.shape, &mut random), Maps::random(&criterion.shape, &mut random));
            let coverage = coverage.map(|number| ALL[number]);
            let teacher = teacher.picture();
            let lesson = Lesson { coverage: &coverage, teacher: Some(&teacher) };
            let truth = [TrueBox { class: 0, corners: [4.0, 6.0, 40.0, 30.0] }, TrueBox { class: 1, corners: [30.0, 30.0, 60.0, 62.0] }];
            let assigned = [Assigned { anchor: 9, truth: 0, score: 0.4 }, Assigned { anchor: 45, truth: 1, score: 0.7 }, Assigned { anchor: 70, truth: 1, score: 0.1 }];
            let (_, gradients) = taught(&criterion, &maps, &lesson, &assigned, &truth);
            let value = |maps: &Maps| taught(&criterion, maps, &lesson, &assigned, &truth).0.loss.total();
            for is_box in [true, false] {
                for level in 0..2 {
                    let found = if is_box { &gradients.boxes[level] } else { &gradients.classes[level] };
                    let before = if is_box { &maps.boxes[level] } else { &maps.classes[level] };
                    // Boxes are worked on in double precision, and a wide step would reach over the knee.
                    let step = if is_box { 1.0 / 4096.0 } else { 1e-2 };
                    // All that differ from 0 would be many; every seventh, and a few zeros.
                    for at in (0..found.len()).filter(|at| at % 7 == 0 && (found[*at] != 0.0 || at % 49 == 0)) {
                        let moved = |to: f32| {
                            let mut maps = maps.clone();
                            let map = if is_box { &mut maps.boxes[level] } else { &mut maps.classes[level] };
                            map[at] = to;
                            value(&maps)
                        };
                        let (up, down) = (before[at] + step, before[at] - step);
                        let difference = (moved(up) - moved(down)) / f64::from(up - down);
                        let gradient = f64::from(found[at]);
                        prop_assert!(
                            (difference - gradient).abs() <= 5e-4 + 2e-3 * gradient.abs(),
                            "box {is_box} level {level} at {at}: {difference} is not {gradient}"
                        );
                    }
                }
            }
        }

        #[test]
        fn a_head_that_has_not_changed_is_taught_nothing(seed in any::<u64>(), bins in any::<bool>()) {
            let criterion = criterion(if bins { 16 } else { 1 });
            let maps = Maps::random(&criterion.shape, &mut ChaCha8Rng::seed_from_u64(seed));
            let partial = Partial { coverage: &[vec![Coverage::Taught; CLASSES]], teacher: Some(&maps.raw()) };
            let mut gradients = criterion.gradients(1);
            let sums = criterion.partial_sums(&maps.raw(), &[vec![]], Some(&partial), &mut gradients);
            prop_assert!(sums.scores > 0.0, "the teacher is sure of something");
            let moved = |map: &Vec<f32>| map.iter().any(|&gradient| gradient != 0.0);
            prop_assert!(!gradients.boxes.iter().chain(&gradients.classes).any(moved));
        }

        #[test]
        fn where_all_is_labelled_nothing_changes(seed in any::<u64>()) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let criterion = criterion(16);
            let (maps, teacher) = (Maps::random(&criterion.shape, &mut random), Maps::random(&criterion.shape, &mut random));
            let truth = [vec![LabelBox { class: 2, cx: 0.4, cy: 0.5, w: 0.5, h: 0.4 }]];
            let partial = Partial { coverage: &[vec![Coverage::Labelled; CLASSES]], teacher: Some(&teacher.raw()) };
            let (mut plain, mut with) = (criterion.gradients(1), criterion.gradients(1));
            let expected = criterion.sums(&maps.raw(), &truth, &mut plain);
            prop_assert_eq!(criterion.partial_sums(&maps.raw(), &truth, Some(&partial), &mut with), expected);
            prop_assert_eq!(with, plain);
        }
    }

    /// A head that sees nothing but one object of a class: anchor 27 of the first level, centre (28, 28).
    fn sees_one(class: usize) -> Maps {
        let shape = shape(1);
        let cells = shape.levels[0].cells();
        let mut maps = Maps {
            boxes: shape.levels.iter().map(|level| vec![1.0; 4 * level.cells()]).collect(),
            classes: shape.levels.iter().map(|level| vec![-9.0; CLASSES * level.cells()]).collect(),
        };
        maps.classes[0][class * cells + 27] = 2.0;
        maps
    }

    #[test]
    fn a_persons_label_wins_over_the_teacher() {
        let (criterion, maps) = (criterion(1), sees_one(0));
        let teacher = maps.picture();
        let coverage = [Coverage::Taught, Coverage::Labelled, Coverage::Labelled];
        let lesson = Lesson { coverage: &coverage, teacher: Some(&teacher) };
        let pull = |corners: [f32; 4]| {
            let truth = [TrueBox { class: 1, corners }];
            let (sums, gradients) = taught(&criterion, &maps, &lesson, &[], &truth);
            (sums.scores, gradients.classes[0][27])
        };
        let sure = sigmoid(2.0);
        // The teacher's box is [20, 20, 36, 36]: a person has called it something else.
        let (scores, gradient) = pull([21.0, 21.0, 36.0, 37.0]);
        assert_eq!(scores, 0.0);
        assert!((gradient - 0.5 * sure).abs() < 1e-6, "{gradient}");
        // Another object beside it changes nothing.
        let (scores, gradient) = pull([30.0, 30.0, 60.0, 60.0]);
        assert!((scores - f64::from(sure)).abs() < 1e-6 && gradient == 0.0, "{scores} {gradient}");
    }

    #[test]
    fn of_an_unknown_class_only_a_persons_box_tells() {
        let (criterion, maps) = (criterion(1), sees_one(0));
        let coverage = [Coverage::Labelled, Coverage::Unknown, Coverage::Unknown];
        let lesson = Lesson { coverage: &coverage, teacher: None };
        let truth = [TrueBox { class: 0, corners: [20.0, 20.0, 36.0, 36.0] }];
        let assigned = [Assigned { anchor: 27, truth: 0, score: 0.8 }];
        let (_, gradients) = taught(&criterion, &maps, &lesson, &assigned, &truth);
        let cells = criterion.shape.levels[0].cells();
        for class in [1, 2] {
            let plane = &gradients.classes[0][class * cells..][..cells];
            let told: Vec<usize> = (0..cells).filter(|&cell| plane[cell] != 0.0).collect();
            assert_eq!(told, [27], "class {class}");
            assert!((plane[27] - 0.5 * sigmoid(-9.0)).abs() < 1e-9);
        }
    }
}
