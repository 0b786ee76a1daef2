//! Which classes the labels of a run cover, and what the others are taught by.
//!
//! An example may say which classes it was labelled for. Of those that do not, a class is covered when
//! at least one training box of theirs has it: then its objects are taken to be labelled wherever they are, and a
//! picture without such a box holds none. A class that no training box has was not looked for. What the
//! hold-out holds does not count, since nothing is learnt from it.

use serde::{Deserialize, Serialize};

use crate::dataset::Example;
use crate::yolo::distil::Coverage;

/// Whether a run holds on to what the base knows of classes that its labels don't cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distill {
    /// Where a class is not covered, the base teaches it. Costs a forward pass of the head per step, and
    /// nothing when every class is covered.
    Auto,
    /// Never: whatever is not labelled counts as background.
    Off,
}

impl std::fmt::Display for Distill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Distill::Auto => "auto",
            Distill::Off => "off",
        })
    }
}

impl std::str::FromStr for Distill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Distill::Auto),
            "off" => Ok(Distill::Off),
            other => Err(format!("there is no distillation {other:?}; it is one of auto, off")),
        }
    }
}

/// Of each class whether a training box has it, of an example that does not say what it was labelled for.
/// Labels count in the model's classes.
pub(super) fn covered_classes(train: &[Example], n_classes: usize) -> Vec<bool> {
    let mut covered = vec![false; n_classes];
    // Frames that say they were labelled for a new class say nothing of older frames.
    let silent = train.iter().filter(|example| example.covers.is_none());
    for label in silent.flat_map(|example| &example.labels) {
        covered[label.class as usize] = true;
    }
    covered
}

/// Of each of the model's classes whether an example was labelled for it, where `by_rule` is what
/// [`covered_classes`] says.
pub(super) fn covered_on(example: &Example, classes: &[String], by_rule: &[bool]) -> Vec<bool> {
    match &example.covers {
        Some(names) => classes.iter().map(|class| names.contains(class)).collect(),
        None => by_rule.to_vec(),
    }
}

/// What is known of each class on pictures that are labelled for `covered`, where the base knows `known`.
pub(super) fn coverage(covered: &[bool], known: &[bool]) -> Vec<Coverage> {
    let class = |(&covered, &known): (&bool, &bool)| match (covered, known) {
        (true, _) => Coverage::Labelled,
        (false, true) => Coverage::Taught,
        (false, false) => Coverage::Unknown,
    };
    covered.iter().zip(known).map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::LabelBox;

    fn example(classes: &[u32], covers: Option<&[&str]>) -> Example {
        let label = |&class: &u32| LabelBox { class, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
        Example {
            picture: "a.png".into(),
            labels: classes.iter().map(label).collect(),
            covers: covers.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    #[test]
    fn a_class_without_a_training_box_is_not_covered() {
        let said = example(&[1], Some(&["fox"]));
        let examples = [example(&[2], None), example(&[], None), example(&[0, 2], None), said];
        let covered = covered_classes(&examples, 4);
        assert_eq!(covered, [true, false, true, false]);
        let found = coverage(&covered, &[true, true, false, false]);
        assert_eq!(found, [Coverage::Labelled, Coverage::Taught, Coverage::Labelled, Coverage::Unknown]);
    }

    #[test]
    fn what_an_example_says_of_itself_counts() {
        let classes = ["hen", "fox", "egg"].map(str::to_owned);
        let by_rule = [true, true, false];
        assert_eq!(covered_on(&example(&[0], None), &classes, &by_rule), by_rule);
        let said = example(&[0], Some(&["egg", "hen"]));
        assert_eq!(covered_on(&said, &classes, &by_rule), [true, false, true]);
        assert_eq!(covered_on(&example(&[], Some(&[])), &classes, &by_rule), [false; 3]);
    }
}
