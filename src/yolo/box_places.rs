//! Where the criterion reads boxes: at the anchors that may answer for an object. Box maps are needed there
//! alone.

use crate::label::LabelBox;

use super::assign::for_each_anchor_inside;
use super::criterion::Criterion;
use super::decode::likely_places;
use super::distil::{FAINT, Lesson, Partial};
use super::maps::RawMaps;

impl Criterion {
    /// Whether [`Criterion::partial_sums`] may read a box logit, per level for each picture and cell,
    /// `[batch · cells]`. No gradient of a box logit differs from zero elsewhere.
    ///
    /// # Panics
    /// When a class is taught but there is no teacher.
    pub fn box_places(&self, truth: &[Vec<LabelBox>], partial: Option<&Partial>) -> Vec<Vec<bool>> {
        let levels = &self.shape.levels;
        let mut places: Vec<Vec<bool>> =
            levels.iter().map(|level| vec![false; truth.len() * level.cells()]).collect();
        let mut mark = |picture: usize, anchor: usize| {
            let cell = self.cell(anchor);
            places[cell.level][picture * self.cells(&cell) + cell.index] = true;
        };
        let teacher: Option<&RawMaps> = partial.and_then(|partial| partial.teacher);
        let teacher = teacher.map(|maps| self.split(maps));
        for (picture, labels) in truth.iter().enumerate() {
            for box_ in self.to_input(labels) {
                for_each_anchor_inside(&self.shape, box_.corners, |anchor| mark(picture, anchor));
            }
            let Some(partial) = partial else { continue };
            let lesson = Lesson {
                coverage: &partial.coverage[picture],
                teacher: teacher.as_ref().map(|teacher| &teacher[picture]),
            };
            self.imitated(&lesson).for_each(|anchor| mark(picture, anchor));
        }
        places
    }

    /// Whether [`Criterion::partial_sums`] may read a box logit of a teacher whose class maps are these, as
    /// [`Criterion::box_places`] says it: where the teacher sees anything at all.
    pub fn teacher_places(&self, classes: &[&[f32]]) -> Vec<Vec<bool>> {
        likely_places(&self.shape, classes, FAINT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::assign::Assigner;
    use super::super::criterion::Gains;
    use super::super::distil::Coverage;
    use super::super::maps::{HeadShape, Level};
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A picture of 64 by 64, two classes.
    fn shape() -> HeadShape {
        let level = |stride: usize| Level { stride, height: 64 / stride, width: 64 / stride };
        HeadShape {
            input: (64, 64),
            levels: vec![level(8), level(16)],
            reg_max: 4,
            classes: 2,
            one_to_one: false,
        }
    }

    struct Owned([Vec<Vec<f32>>; 2]);

    impl Owned {
        fn random(random: &mut ChaCha8Rng, batch: usize) -> Self {
            let mut maps = |channels: usize, low: f32, high: f32| {
                let count = |level: &Level| batch * channels * level.cells();
                shape()
                    .levels
                    .iter()
                    .map(|level| (0..count(level)).map(|_| random.random_range(low..high)).collect())
                    .collect()
            };
            Owned([maps(16, -2.0, 2.0), maps(2, -4.0, 0.5)])
        }

        /// The same, with no number for a box logit elsewhere.
        fn poisoned(&self, places: &[Vec<bool>]) -> Self {
            let mut poisoned = self.0.clone();
            for (map, places) in poisoned[0].iter_mut().zip(places) {
                let cells = places.len() / 2;
                for (index, value) in map.iter_mut().enumerate() {
                    if !places[index / (16 * cells) * cells + index % cells] {
                        *value = f32::NAN;
                    }
                }
            }
            Owned(poisoned)
        }

        fn raw(&self) -> RawMaps<'_> {
            let [boxes, classes] = self.0.each_ref().map(|maps| maps.iter().map(Vec::as_slice).collect());
            RawMaps { batch: 2, boxes, classes }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn elsewhere_box_logits_are_not_read(
            objects in prop::collection::vec((0.0f32..1.0, 0.0f32..1.0, 0.02f32..0.6, 0.02f32..0.6, 0u32..2), 0..4),
            taught: bool,
            seed: u64,
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let criterion = Criterion::new(&shape(), Gains::default(), Assigner::ONE_TO_MANY);
            let (teacher, maps) = (Owned::random(&mut random, 2), Owned::random(&mut random, 2));
            let labels: Vec<LabelBox> =
                objects.iter().map(|&(cx, cy, w, h, class)| LabelBox { class, cx, cy, w, h }).collect();
            let truth = vec![Vec::new(), labels];
            let open = if taught { Coverage::Taught } else { Coverage::Labelled };
            let coverage = vec![vec![Coverage::Labelled, open]; 2];
            let seen = criterion.teacher_places(&teacher.raw().classes);
            let poisoned_teacher = teacher.poisoned(&seen);
            let (teacher, poisoned_teacher) = (teacher.raw(), poisoned_teacher.raw());
            let partial = Partial { coverage: &coverage, teacher: taught.then_some(&teacher) };
            let places = criterion.box_places(&truth, Some(&partial));

            let poisoned = maps.poisoned(&places);
            let blind = Partial { teacher: taught.then_some(&poisoned_teacher), ..partial.clone() };
            let [mut whole, mut few] = [criterion.gradients(2), criterion.gradients(2)];
            let expected = criterion.partial_sums(&maps.raw(), &truth, Some(&partial), &mut whole);
            let found = criterion.partial_sums(&poisoned.raw(), &truth, Some(&blind), &mut few);
            prop_assert_eq!(expected, found);
            prop_assert_eq!(whole, few);
        }
    }
}
