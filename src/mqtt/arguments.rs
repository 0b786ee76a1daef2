//! What commands take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dataset::Format;
use crate::label::LabelBox;
use crate::train::{Rate, ScopeChoice};
use crate::yolo::names::listed;

/// Arguments of `label`: the truth about one sample. Labels that it had are replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelArguments {
    /// The sample's id, as `event/sample` gave it.
    pub sample: String,
    /// Every object on the frame, or of the classes in `covers`; an empty list says that there is none.
    pub boxes: Vec<LabelledBox>,
    /// The classes that were looked for; when absent, nothing is said about that.
    pub covers: Option<Vec<ClassRef>>,
    /// Whether the sample is held out to measure on; when absent the configured share decides.
    pub holdout: Option<bool>,
}

/// A box as people write it: class by name or number, centre and size in shares of the frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledBox {
    /// Name of the class, or its number.
    pub class: ClassRef,
    /// Centre, in widths of the frame, 0 to 1.
    pub cx: f32,
    /// Centre, in heights of the frame, 0 to 1.
    pub cy: f32,
    /// Width, in widths of the frame, above 0 to 1.
    pub w: f32,
    /// Height, in heights of the frame, above 0 to 1.
    pub h: f32,
}

/// A class by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassRef {
    /// Index into the model's classes.
    Number(u32),
    /// Name of one of the model's classes.
    Name(String),
}

impl std::str::FromStr for ClassRef {
    type Err = std::convert::Infallible;

    /// What reads as a number is one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| ClassRef::Name(text.to_owned()), ClassRef::Number))
    }
}

impl ClassRef {
    /// The class as an index into `classes`.
    ///
    /// # Errors
    /// That there is no such class, and which there are.
    pub fn resolve(&self, classes: &[String]) -> Result<u32, String> {
        match self {
            ClassRef::Number(number) if (*number as usize) < classes.len() => Ok(*number),
            ClassRef::Number(number) => Err(format!(
                "class {number} does not exist; the model has 0 to {}",
                classes.len().saturating_sub(1)
            )),
            ClassRef::Name(name) => match classes.iter().position(|known| known == name) {
                Some(index) => Ok(index as u32),
                None => Err(format!("class {name:?} does not exist; the model has {}", listed(classes))),
            },
        }
    }
}

impl LabelArguments {
    /// The boxes, and the classes that they cover, as indices into `classes`.
    ///
    /// # Errors
    /// Which argument is wrong and what it may be.
    pub fn resolve(&self, classes: &[String]) -> Result<(Vec<LabelBox>, Option<Vec<u32>>), String> {
        let covers = self.covers.as_ref().map(|covers| covered(covers, classes)).transpose()?;
        let is_covered = |label: &LabelBox| match &covers {
            Some(covers) if !covers.contains(&label.class) => Err(format!(
                "class {:?} is not among those that covers names; add it there, or leave the box out",
                classes[label.class as usize]
            )),
            _ => Ok(()),
        };
        let resolve = |(index, labelled): (usize, &LabelledBox)| {
            let label = labelled.resolve(classes).and_then(|label| is_covered(&label).map(|()| label));
            label.map_err(|reason| format!("boxes[{index}]: {reason}"))
        };
        let boxes = self.boxes.iter().enumerate().map(resolve).collect::<Result<_, String>>()?;
        Ok((boxes, covers))
    }
}

fn covered(covers: &[ClassRef], classes: &[String]) -> Result<Vec<u32>, String> {
    if covers.is_empty() {
        return Err("covers is empty, so the labels would say nothing; name what was looked for, or leave \
                    covers out"
            .into());
    }
    // Longer than this, one must be there twice.
    if covers.len() > classes.len() {
        let (many, known) = (covers.len(), classes.len());
        return Err(format!("covers has {many} entries, and the model has {known} classes; name each once"));
    }
    let mut numbers = Vec::with_capacity(covers.len());
    for (index, class) in covers.iter().enumerate() {
        let number = class.resolve(classes).map_err(|reason| format!("covers[{index}]: {reason}"))?;
        if numbers.contains(&number) {
            let name = &classes[number as usize];
            return Err(format!("covers[{index}]: {name:?} is there twice; name each class once"));
        }
        numbers.push(number);
    }
    Ok(numbers)
}

impl LabelledBox {
    /// The box with its class as an index into `classes`.
    ///
    /// # Errors
    /// Which value is wrong and what it may be.
    pub fn resolve(&self, classes: &[String]) -> Result<LabelBox, String> {
        let class = self.class.resolve(classes)?;
        // The same slack as label files have: writers round.
        let slack = 1e-6;
        let inside = |value: f32| (-slack..=1.0 + slack).contains(&value);
        let edges =
            [self.cx - self.w / 2.0, self.cx + self.w / 2.0, self.cy - self.h / 2.0, self.cy + self.h / 2.0];
        if ![self.cx, self.cy, self.w, self.h].into_iter().chain(edges).all(inside) {
            return Err(format!(
                "box cx={} cy={} w={} h={} leaves the frame; centre and size are shares of it, 0 to 1",
                self.cx, self.cy, self.w, self.h
            ));
        }
        if self.w <= 0.0 || self.h <= 0.0 {
            return Err(format!("box w={} h={} is empty; both must be above 0", self.w, self.h));
        }
        Ok(LabelBox { class, cx: self.cx, cy: self.cy, w: self.w, h: self.h })
    }
}

/// Arguments of `train`: what differs from the configuration in this run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainArguments {
    /// What is trained.
    pub scope: Option<ScopeChoice>,
    /// Passes over the samples.
    pub epochs: Option<u32>,
    /// Samples per step.
    pub batch: Option<usize>,
    /// Peak learning rate.
    pub lr: Option<Rate>,
    /// Views per sample.
    pub views: Option<u32>,
    /// The same seed gives the same model.
    pub seed: Option<u64>,
    /// Epochs without getting better after which the run stops.
    pub patience: Option<u32>,
    /// Stop in good order after so long.
    pub max_minutes: Option<f64>,
}

/// Arguments of `promote`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteArguments {
    /// The slot to make current.
    pub slot: u32,
}

/// Arguments of `evaluate`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateArguments {
    /// The slot whose model is measured; the current one when absent.
    pub slot: Option<u32>,
}

/// Arguments of `export`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportArguments {
    /// How other programs are to read it.
    pub format: Format,
}

/// Arguments of `set`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetArguments {
    /// Values by key; null gives a key back to the device's configuration. None just tells what holds.
    pub keys: BTreeMap<String, serde_json::Value>,
}

/// Arguments of `capture`: none; the next frame is kept whatever is on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureArguments {}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(class: ClassRef, cx: f32, w: f32) -> LabelledBox {
        LabelledBox { class, cx, cy: 0.5, w, h: 0.2 }
    }

    #[test]
    fn a_class_is_found_by_name_or_number() {
        let classes = ["tree".to_owned(), "post".to_owned()];
        let by_name = labelled(ClassRef::Name("post".into()), 0.5, 0.1).resolve(&classes);
        assert_eq!(by_name, labelled(ClassRef::Number(1), 0.5, 0.1).resolve(&classes));
        assert_eq!(by_name.expect("a box").class, 1);
    }

    fn labels(covers: &[&str], boxes: Vec<LabelledBox>) -> LabelArguments {
        let covers = covers.iter().map(|name| ClassRef::Name((*name).into())).collect();
        LabelArguments { sample: String::new(), boxes, covers: Some(covers), holdout: None }
    }

    #[test]
    fn labels_cover_what_they_say_and_their_boxes_are_of_that() {
        let classes = ["tree", "post", "hen"].map(str::to_owned);
        let post = || labelled(ClassRef::Name("post".into()), 0.5, 0.1);
        let (boxes, covers) = labels(&["hen", "post"], vec![post()]).resolve(&classes).expect("labels");
        assert_eq!((boxes.len(), covers), (1, Some(vec![2, 1])));
        let silent = LabelArguments { covers: None, ..labels(&[], vec![post()]) };
        assert_eq!(silent.resolve(&classes).expect("labels").1, None);
        for (wrong, words) in [
            (labels(&["hen"], vec![post()]), ["boxes[0]", "\"post\""]),
            (labels(&["post", "cow"], vec![post()]), ["covers[1]", "\"cow\""]),
            (labels(&["post", "post"], vec![]), ["covers[1]", "\"post\" is there twice"]),
            (labels(&[], vec![]), ["covers is empty", "leave covers out"]),
            (labels(&["post"; 4], vec![]), ["4 entries", "3 classes"]),
        ] {
            let error = wrong.resolve(&classes).expect_err("wrong labels");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn a_wrong_box_is_refused_with_what_it_may_be() {
        let classes = ["tree".to_owned()];
        let tree = || ClassRef::Name("tree".into());
        for (wrong, word) in [
            (labelled(ClassRef::Name("cow".into()), 0.5, 0.1), "\"tree\""),
            (labelled(ClassRef::Number(1), 0.5, 0.1), "0 to 0"),
            (labelled(tree(), 0.99, 0.1), "leaves the frame"),
            (labelled(tree(), f32::NAN, 0.1), "leaves the frame"),
            (labelled(tree(), 0.5, 0.0), "above 0"),
            (labelled(tree(), 0.5, -0.1), "leaves the frame"),
        ] {
            let error = wrong.resolve(&classes).expect_err("a wrong box");
            assert!(error.contains(word), "{error}");
        }
    }
}
