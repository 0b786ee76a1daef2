//! What a run learns from and is measured on, in the classes of the model that is trained.

use serde::{Deserialize, Serialize};

use crate::dataset::Example;

use crate::yolo::names::listed;

/// Examples whose labels count in `classes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// Names of the classes that labels refer to.
    pub classes: Vec<String>,
    /// What to learn from.
    pub train: Vec<Example>,
    /// What to measure on.
    pub holdout: Vec<Example>,
}

/// Why labels and the model's classes don't come together.
#[derive(Debug, thiserror::Error)]
pub enum ClassesError {
    /// Labels whose classes the model does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownClasses),
    /// A change of the model's classes that makes no sense. The text says what to do.
    #[error("{0}")]
    Change(String),
}

/// Labels whose classes the model does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model has no class {}; it has {known}. Rename the classes in data.yaml to the model's, or take a \
     base model that has them", unknown.join(", ")
)]
pub struct UnknownClasses {
    unknown: Vec<String>,
    known: String,
}

impl TrainingSet {
    /// The same examples with labels that count in the model's classes, matched by name. A class that
    /// no label uses need not be known to the model.
    ///
    /// # Errors
    /// [`UnknownClasses`] when a label's class is not among the model's.
    pub fn in_classes_of(mut self, model: &[String]) -> Result<Self, UnknownClasses> {
        for examples in [&mut self.train, &mut self.holdout] {
            renumber(examples, &self.classes, model)?;
        }
        Ok(TrainingSet { classes: model.to_vec(), ..self })
    }
}

/// Makes labels that count in `from` count in `to`, matched by name.
///
/// # Errors
/// [`UnknownClasses`] when a label's class is not among `to`.
pub fn renumber(examples: &mut [Example], from: &[String], to: &[String]) -> Result<(), UnknownClasses> {
    let numbers: Vec<Option<u32>> =
        from.iter().map(|name| to.iter().position(|known| known == name).map(|i| i as u32)).collect();
    let mut unknown: Vec<String> = Vec::new();
    for label in examples.iter_mut().flat_map(|example| &mut example.labels) {
        let class = label.class as usize;
        match (numbers.get(class), from.get(class)) {
            (Some(Some(number)), _) => label.class = *number,
            (_, Some(name)) => unknown.push(format!("{name:?}")),
            (_, None) => unknown.push(format!("number {class}")),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    unknown.sort();
    unknown.dedup();
    Err(UnknownClasses { unknown, known: listed(to) })
}
