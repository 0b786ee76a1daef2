//! Which classes the labels of a run cover, and what the others are taught by.
//!
//! A class is covered when at least one training box has it: then its objects are taken to be labelled
//! wherever they are, and a picture without such a box holds none. A class that no training box has
//! was not looked for. What the hold-out holds does not count, since nothing is learnt from it.

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

/// Of each class whether a training box has it. Labels count in the model's classes.
pub(super) fn covered_classes(train: &[Example], n_classes: usize) -> Vec<bool> {
    let mut covered = vec![false; n_classes];
    for label in train.iter().flat_map(|example| &example.labels) {
        covered[label.class as usize] = true;
    }
    covered
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
