//! What becomes of the model's classes: which stay, under which names, and which the labels add.

use serde::{Deserialize, Serialize};

use crate::yolo::grow::{ClassPlan, PlannedClass};
use crate::yolo::names::listed;

use super::set::{ClassesError, TrainingSet};

/// Changes that a run may make to the model's classes. By default there are none, and labels of a class
/// that the model does not have are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassChanges {
    /// Whether classes that labels use and the model lacks are added.
    pub grow: bool,
    /// New classes that are meant, however much their names are like known ones.
    pub confirmed: Vec<String>,
    /// Old and new names. Labels may use either.
    pub rename: Vec<(String, String)>,
    /// Classes that the model is to lose.
    pub drop: Vec<String>,
}

impl ClassChanges {
    /// Decides on the classes, and gives the set with labels that count in them.
    ///
    /// Classes that stay keep their order; new ones follow in the order of the set.
    ///
    /// # Errors
    /// [`ClassesError`]: a change that makes no sense, or a label of a class that is neither known nor to
    /// be added.
    pub fn apply(
        &self,
        known: &[String],
        mut set: TrainingSet,
    ) -> Result<(ClassPlan, TrainingSet), ClassesError> {
        let mut classes = self.kept(known)?;
        let kept: Vec<String> = classes.iter().map(|class| class.name.clone()).collect();
        let used = |set: &TrainingSet, holdout: bool, index: usize| {
            let examples = if holdout { &set.holdout } else { &set.train };
            examples.iter().flat_map(|e| &e.labels).filter(|label| label.class as usize == index).count()
        };
        for index in 0..set.classes.len() {
            let n_boxes = [used(&set, false, index), used(&set, true, index)];
            let name = &set.classes[index];
            if n_boxes == [0, 0] || kept.contains(name) {
                continue;
            }
            if let Some((old, new)) = self.rename.iter().find(|(old, _)| old == name) {
                let is_used = |i: usize| used(&set, false, i) + used(&set, true, i) > 0;
                if set.classes.iter().enumerate().any(|(i, name)| name == new && is_used(i)) {
                    return Err(change(format!(
                        "labels use both {old:?} and {new:?}, which --rename makes one class; give them one \
                         name in data.yaml"
                    )));
                }
                set.classes[index] = new.clone();
                continue;
            }
            if self.drop.contains(name) {
                return Err(change(format!(
                    "{name:?} is to be dropped, but {} boxes are of it; take them out of the data, or leave \
                     --drop out",
                    n_boxes[0] + n_boxes[1]
                )));
            }
            if !self.grow {
                continue;
            }
            if !self.confirmed.contains(name)
                && let Some(like) = kept.iter().find(|known| is_nearly(name, known))
            {
                return Err(change(format!(
                    "the model has no class {name:?}; did you mean {like:?}? Correct the name in data.yaml, \
                     rename the model's class with --rename {like:?}={name:?}, or add a class with \
                     --new-class {name:?}"
                )));
            }
            if n_boxes[0] == 0 {
                return Err(change(format!(
                    "{name:?} is new to the model, and no training picture has a box of it; label some"
                )));
            }
            if n_boxes[1] == 0 {
                tracing::warn!(
                    "no hold-out picture has a box of the new class {name:?}: nobody will see how well it is learnt"
                );
            }
            classes.push(PlannedClass { name: name.clone(), from: None });
        }
        if let Some(name) = self.confirmed.iter().find(|&n| !classes.iter().any(|class| class.name == *n)) {
            return Err(change(format!(
                "--new-class {name:?}: no label is of that class; label some, or leave it out"
            )));
        }
        // As with boxes: old names are good as long as nothing else has them now.
        let covered = set.train.iter_mut().chain(&mut set.holdout).filter_map(|e| e.covers.as_mut());
        for name in covered.flatten().filter(|name| !kept.contains(name)) {
            if let Some((_, new)) = self.rename.iter().find(|(old, _)| old == name) {
                name.clone_from(new);
            } else if !classes.iter().any(|class| class.name == *name)
                && let Some(like) = kept.iter().find(|known| is_nearly(name, known))
            {
                return Err(change(format!(
                    "covers names {name:?}, which the model does not have; did you mean {like:?}?"
                )));
            }
        }
        let plan = ClassPlan::new(classes, known.len()).map_err(change)?;
        let set = set.in_classes_of(&plan.names())?;
        Ok((plan, set))
    }

    /// The classes that stay, under the names that they will have.
    fn kept(&self, known: &[String]) -> Result<Vec<PlannedClass>, ClassesError> {
        let missing = |flag: &str, name: &str| {
            let like = known.iter().find(|known| is_nearly(name, known));
            let like = like.map_or(String::new(), |like| format!("; did you mean {like:?}?"));
            change(format!("{flag}: the model has no class {name:?}, it has {}{like}", listed(known)))
        };
        for (index, (old, new)) in self.rename.iter().enumerate() {
            let flag = format!("--rename {old}={new}");
            if !known.contains(old) {
                return Err(missing(&flag, old));
            }
            if self.rename[..index].iter().any(|(other, _)| other == old) {
                return Err(change(format!("{flag}: {old:?} has been given another name already")));
            }
            if self.drop.contains(old) {
                return Err(change(format!("{old:?} is to be both renamed and dropped; do one of the two")));
            }
        }
        if let Some(name) = self.drop.iter().find(|name| !known.contains(name)) {
            return Err(missing(&format!("--drop {name}"), name));
        }
        let renamed = |name: &String| {
            let new = self.rename.iter().find(|(old, _)| old == name).map(|(_, new)| new);
            new.unwrap_or(name).clone()
        };
        let kept: Vec<PlannedClass> = known
            .iter()
            .enumerate()
            .filter(|(_, name)| !self.drop.contains(name))
            .map(|(index, name)| PlannedClass { name: renamed(name), from: Some(index) })
            .collect();
        let taken = |(old, new): &&(String, String)| {
            kept.iter().filter(|class| class.name == *new).count() > 1 && old != new
        };
        if let Some((old, new)) = self.rename.iter().find(taken) {
            return Err(change(format!(
                "--rename {old}={new}: the model has a class {new:?} already; rename or drop that one too"
            )));
        }
        Ok(kept)
    }
}

fn change(message: String) -> ClassesError {
    ClassesError::Change(message)
}

/// Whether one name may be a slip of the other: equal but for case and spaces, or one letter added, left
/// out, changed or swapped with its neighbour. Numbers are no slips ("type1", "type2"), and in names of
/// three letters ("cat", "car") one of them says much.
fn is_nearly(a: &str, b: &str) -> bool {
    let plain = |name: &str| -> Vec<char> {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let (a, b) = (plain(a), plain(b));
    if a == b {
        return true;
    }
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if long.len() < 4 || long.len() - short.len() > 1 {
        return false;
    }
    let head = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let (short, long) = (&short[head..], &long[head..]);
    if short.iter().chain(long).take(2).any(|c| c.is_ascii_digit()) {
        return false;
    }
    match long.len() - short.len() {
        1 => short == &long[1..],
        _ => {
            let swapped = short.len() > 1 && short[0] == long[1] && short[1] == long[0];
            short[1..] == long[1..] || swapped && short[2..] == long[2..]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Example;
    use crate::label::LabelBox;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    /// A set with these classes, of which these are on its pictures.
    fn set(classes: &[&str], train: &[u32], holdout: &[u32]) -> TrainingSet {
        let examples = |labels: &[u32]| {
            let labels = labels.iter().map(|&class| LabelBox { class, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 });
            vec![Example { picture: "a.png".into(), labels: labels.collect(), covers: None }]
        };
        TrainingSet { classes: names(classes), train: examples(train), holdout: examples(holdout) }
    }

    fn growing() -> ClassChanges {
        ClassChanges { grow: true, ..ClassChanges::default() }
    }

    fn renaming(pairs: &[(&str, &str)]) -> ClassChanges {
        let rename = pairs.iter().map(|&(old, new)| (old.to_owned(), new.to_owned())).collect();
        ClassChanges { rename, ..growing() }
    }

    fn complaint(changes: &ClassChanges, known: &[&str], set: TrainingSet) -> String {
        changes.apply(&names(known), set).unwrap_err().to_string()
    }

    #[test]
    fn known_classes_keep_their_places_and_new_ones_follow() {
        let data = set(&["stone", "crop", "unused", "hen"], &[0, 1, 3], &[0]);
        let (plan, set) = growing().apply(&names(&["weed", "crop"]), data).unwrap();
        assert_eq!(plan.names(), ["weed", "crop", "stone", "hen"]);
        assert_eq!(
            plan.classes().iter().map(|class| class.from).collect::<Vec<_>>(),
            [Some(0), Some(1), None, None]
        );
        assert_eq!(set.train[0].labels.iter().map(|label| label.class).collect::<Vec<_>>(), [2, 1, 3]);
        assert_eq!(set.holdout[0].labels[0].class, 2);
    }

    #[test]
    fn without_leave_to_grow_a_new_class_is_refused() {
        let error = complaint(&ClassChanges::default(), &["weed"], set(&["hen"], &[0], &[0]));
        assert!(error.contains("the model has no class \"hen\""), "{error}");
    }

    #[test]
    fn renamed_classes_answer_to_both_names() {
        for data in ["weed", "dandelion"] {
            let changes = renaming(&[("weed", "dandelion")]);
            let (plan, set) = changes.apply(&names(&["crop", "weed"]), set(&[data], &[0], &[0])).unwrap();
            assert_eq!(plan.names(), ["crop", "dandelion"]);
            assert_eq!(set.train[0].labels[0].class, 1, "{data}");
        }
        let mut covering = set(&["weed"], &[0], &[0]);
        for example in covering.train.iter_mut().chain(&mut covering.holdout) {
            example.covers = Some(names(&["crop", "weed"]));
        }
        let (_, renamed) =
            renaming(&[("weed", "dandelion")]).apply(&names(&["crop", "weed"]), covering).unwrap();
        assert_eq!(renamed.train[0].covers, Some(names(&["crop", "dandelion"])));
        assert_eq!(renamed.holdout[0].covers, renamed.train[0].covers);
        let mut slip = set(&["weed"], &[0], &[0]);
        slip.train[0].covers = Some(names(&["weed", "Crop"]));
        let error = complaint(&ClassChanges::default(), &["crop", "weed"], slip);
        assert!(
            error.contains("covers names \"Crop\"") && error.contains("did you mean \"crop\""),
            "{error}"
        );
        let swap = renaming(&[("a", "b"), ("b", "a")]);
        let (plan, set) = swap.apply(&names(&["a", "b"]), set(&["a"], &[0], &[0])).unwrap();
        assert_eq!(plan.names(), ["b", "a"]);
        assert_eq!(set.train[0].labels[0].class, 1, "labels go by the new names first");
    }

    #[test]
    fn changes_that_make_no_sense_are_refused_with_what_to_do() {
        let known = ["weed", "crop"];
        let data = || set(&["weed"], &[0], &[0]);
        let dropping = |names: &[&str]| ClassChanges {
            drop: names.iter().map(|n| n.to_string()).collect(),
            ..growing()
        };
        for (changes, word) in [
            (renaming(&[("wed", "x")]), "did you mean \"weed\""),
            (renaming(&[("weed", "crop")]), "has a class \"crop\" already"),
            (renaming(&[("weed", "x"), ("weed", "y")]), "already"),
            (dropping(&["stone"]), "has no class \"stone\""),
            (dropping(&["weed"]), "2 boxes are of it"),
            (ClassChanges { confirmed: names(&["hen"]), ..growing() }, "no label is of that class"),
            (
                ClassChanges { drop: names(&["crop"]), ..renaming(&[("crop", "x")]) },
                "both renamed and dropped",
            ),
        ] {
            let error = complaint(&changes, &known, data());
            assert!(error.contains(word), "{error} lacks {word}");
        }
        let all = complaint(&dropping(&["weed", "crop"]), &known, set(&["weed"], &[], &[]));
        assert!(all.contains("no class would be left"), "{all}");
        let unseen = complaint(&growing(), &known, set(&["hen"], &[], &[0]));
        assert!(unseen.contains("no training picture"), "{unseen}");
    }

    #[test]
    fn a_slip_is_not_taken_for_a_new_class() {
        for slip in ["Weed", "we ed", "weeds", "wede", "weld"] {
            let error = complaint(&growing(), &["crop", "weed"], set(&[slip], &[0], &[0]));
            assert!(error.contains("did you mean \"weed\""), "{error}");
            let meant = ClassChanges { confirmed: names(&[slip]), ..growing() };
            assert!(meant.apply(&names(&["crop", "weed"]), set(&[slip], &[0], &[0])).is_ok());
        }
        for (known, new) in [("type1", "type2"), ("cat", "car"), ("weed", "wheat"), ("a", "b")] {
            assert!(growing().apply(&names(&[known]), set(&[new], &[0], &[0])).is_ok(), "{known} {new}");
        }
    }
}
