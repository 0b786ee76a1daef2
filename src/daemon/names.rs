//! What classes are called: in labels, and in what the current model finds.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::mqtt::ClassArguments;
use crate::store::{ClassNames, Store, StoreError};
use crate::train::{ClassChanges, TrainingSet};

use super::core::Core;
use super::models::words;

/// The classes of labels and of the current model.
///
/// Labels have numbers of their own: a model may know fewer classes than people label, or in another order, and one
/// from before a class was renamed calls it by its old name.
#[derive(Debug)]
pub(super) struct Names {
    /// What labels count in.
    pub labels: Vec<String>,
    /// What the model finds, by the names of today.
    pub model: Vec<String>,
    /// The number in `labels` of each of the model's classes.
    numbers: Vec<u32>,
}

impl Names {
    /// The names for a model that calls its classes so. Those that nobody has labelled yet are added to the
    /// store's.
    pub fn open(store: &Store, model: &[String]) -> Result<Names, StoreError> {
        let mut known = store.samples().class_names()?;
        let before = known.classes.len();
        let names = Names::of(&mut known, model);
        if known.classes.len() > before {
            store.samples().set_class_names(&known)?;
        }
        Ok(names)
    }

    /// The same, with what the model adds put into `known` and nowhere else.
    pub fn of(known: &mut ClassNames, model: &[String]) -> Names {
        let model: Vec<String> = model.iter().map(|name| known.today(name).to_owned()).collect();
        for name in &model {
            if !known.classes.contains(name) {
                known.classes.push(name.clone());
            }
        }
        let number = |name: &String| {
            let place = known.classes.iter().position(|class| class == name);
            place.expect("it has just been added where it was missing") as u32
        };
        let numbers = model.iter().map(number).collect();
        Names { labels: known.classes.clone(), model, numbers }
    }

    /// The model's classes, and behind them those that only labels know.
    pub fn model_and_others(&self) -> Vec<String> {
        let others = self.labels.iter().filter(|name| !self.model.contains(name));
        self.model.iter().chain(others).cloned().collect()
    }

    /// The number that labels have for a class of the model.
    pub fn number(&self, of_model: u32) -> u32 {
        self.numbers[of_model as usize]
    }

    /// The model's number for a class of the labels, if it knows it.
    pub fn of_model(&self, number: u32) -> Option<u32> {
        self.numbers.iter().position(|&known| known == number).map(|place| place as u32)
    }
}

/// What a run may do to the model's classes: give them the names of today, and add those that people have
/// labelled. `model` is what the model's file calls them.
pub(super) fn changes(names: &Names, model: &[String], set: &TrainingSet) -> ClassChanges {
    let renamed = model.iter().zip(&names.model).filter(|(old, today)| old != today);
    let used: HashSet<u32> = [&set.train, &set.holdout]
        .into_iter()
        .flatten()
        .flat_map(|example| example.labels.iter().map(|label| label.class))
        .collect();
    let is_new = |(number, name): &(u32, &String)| used.contains(number) && !names.model.contains(name);
    ClassChanges {
        grow: true,
        confirmed: (0..).zip(&names.labels).filter(is_new).map(|(_, name)| name.clone()).collect(),
        rename: renamed.map(|(old, today)| (old.clone(), today.clone())).collect(),
        drop: Vec::new(),
    }
}

impl Core {
    /// `cmd/class`: a class is added or called otherwise. Labels may use the name at once; a model's file takes it
    /// with the next run.
    pub(super) fn change_class(&mut self, arguments: &ClassArguments) -> Result<Value, String> {
        let mut known = self.store.samples().class_names().map_err(words)?;
        let new = arguments.change(&mut known)?;
        let names = Names::of(&mut known, self.detector.classes());
        self.store.samples().set_class_names(&known).map_err(words)?;
        self.names = names;
        self.selector.rename(&self.names.model);
        tracing::info!("{new}");
        self.publish_model();
        self.state_changed();
        Ok(json!({"classes": self.names.labels}))
    }
}
