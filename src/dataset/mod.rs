//! Data sets on disk: YOLO folders with pictures and boxes.
//!
//! A `data.yaml` names the classes and, for each split, folders or lists of pictures. The labels of
//! `images/a.jpg` lie in `labels/a.txt`, one row `class cx cy w h` per box, normalised by the
//! picture's sides. It may also name in `covers` the classes that the pictures were labelled for, all of
//! them. Nothing is guessed: a row that is wrong stops the reading, with file and line. To take in what is
//! whole and list the rest there is [`Collection`], which reads COCO's JSON too.

mod coco;
mod collection;
mod description;
mod export;
mod rows;
mod splits;

pub use collection::{Collection, Entry, Told};
pub use export::{Format, Item};
pub use rows::parse_rows;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::label::LabelBox;

use description::Description;

/// A picture on disk and what is on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The picture's file.
    pub picture: PathBuf,
    /// Its boxes; a picture without a label file has none.
    pub labels: Vec<LabelBox>,
    /// Names of the classes that it was labelled for, each of whose objects has a box; none where nobody
    /// has said so, and the data set as a whole must tell.
    pub covers: Option<Vec<String>>,
}

impl Example {
    /// Whether every object of this class is among the labels, as far as the example says.
    pub fn looks_for(&self, class: &str) -> bool {
        self.covers.as_ref().is_none_or(|covers| covers.iter().any(|covered| covered == class))
    }
}

/// A data set: class names and the examples of each split.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// Class names by index.
    pub classes: Vec<String>,
    /// What to learn from.
    pub train: Vec<Example>,
    /// The hold-out: what to measure on while learning.
    pub val: Vec<Example>,
    /// What to measure on at the end; often empty.
    pub test: Vec<Example>,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What to learn from.
    Train,
    /// The hold-out.
    Val,
    /// What to measure on at the end.
    Test,
}

impl Split {
    /// The split's key in `data.yaml`.
    pub fn key(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "train" => Ok(Split::Train),
            "val" => Ok(Split::Val),
            "test" => Ok(Split::Test),
            other => Err(format!("there is no split {other:?}; it is one of train, val, test")),
        }
    }
}

/// One thing that is wrong in a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// The line in it, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a data set could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The data set has faults; the first says what to do.
    #[error("{}{}", faults[0], others(faults.len() - 1))]
    Faults {
        /// At least one, at most [`MAX_FAULTS`].
        faults: Vec<Fault>,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Faults that are listed before reading stops.
pub const MAX_FAULTS: usize = 20;

fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " (and 1 more fault)".into(),
        _ if count + 1 >= MAX_FAULTS => format!(" (and {count} more faults or more)"),
        _ => format!(" (and {count} more faults)"),
    }
}

impl DatasetError {
    fn one(path: &Path, message: impl Into<String>) -> Self {
        DatasetError::Faults {
            faults: vec![Fault { path: path.to_owned(), line: None, message: message.into() }],
        }
    }
}

impl DataSet {
    /// Reads a data set by its `data.yaml`: all labels are read and checked, pictures only found.
    ///
    /// # Errors
    /// [`DatasetError::Faults`] with up to [`MAX_FAULTS`] faults, each with its file and line.
    pub fn open(data_yaml: &Path) -> Result<DataSet, DatasetError> {
        let description = Description::read(data_yaml)?;
        let mut told = collection::read_told(data_yaml)?;
        let mut faults = Vec::new();
        let mut read = |split: Split| -> Result<Vec<Example>, DatasetError> {
            let pictures = splits::pictures(data_yaml, &description, split)?;
            let mut examples = Vec::with_capacity(pictures.len());
            for picture in pictures {
                let path = splits::label_file(&picture);
                match rows::read(&path, &description) {
                    Ok(labels) => {
                        let covers = match told.remove(&picture) {
                            Some(told) => told.covers,
                            None => description.covers.clone(),
                        };
                        examples.push(Example { picture, labels, covers });
                    }
                    Err(found) => faults.extend(found),
                }
                if faults.len() >= MAX_FAULTS {
                    break;
                }
            }
            Ok(examples)
        };
        let (train, val, test) = (read(Split::Train)?, read(Split::Val)?, read(Split::Test)?);
        if !faults.is_empty() {
            faults.truncate(MAX_FAULTS);
            return Err(DatasetError::Faults { faults });
        }
        if train.is_empty() && val.is_empty() && test.is_empty() {
            return Err(DatasetError::one(
                data_yaml,
                "the data set is empty: it names no split with a picture",
            ));
        }
        Ok(DataSet { classes: description.classes, train, val, test })
    }

    /// The examples of a split.
    pub fn split(&self, split: Split) -> &[Example] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// The examples of a split that something shall be measured on.
    ///
    /// # Errors
    /// When the split has no picture, or no box on any.
    pub fn measurable(&self, split: Split, data_yaml: &Path) -> Result<&[Example], DatasetError> {
        let examples = self.split(split);
        let key = split.key();
        if examples.is_empty() {
            let message =
                format!("its split {key:?} has no pictures to measure on; add some, with their labels");
            return Err(DatasetError::one(data_yaml, message));
        }
        if examples.iter().all(|example| example.labels.is_empty()) {
            let message = format!(
                "no picture of its split {key:?} has a box, so nothing can be measured on it; \
                 label some (labels lie in labels/, beside images/)"
            );
            return Err(DatasetError::one(data_yaml, message));
        }
        Ok(examples)
    }

    /// The examples to learn from.
    ///
    /// # Errors
    /// When there is none, or none has a box.
    pub fn learnable(&self, data_yaml: &Path) -> Result<&[Example], DatasetError> {
        if self.train.is_empty() {
            return Err(DatasetError::one(data_yaml, "its split \"train\" has no pictures to learn from"));
        }
        if self.train.iter().all(|example| example.labels.is_empty()) {
            let message = "no picture of its split \"train\" has a box, so there is nothing to learn; \
                           label some (labels lie in labels/, beside images/)";
            return Err(DatasetError::one(data_yaml, message));
        }
        Ok(&self.train)
    }
}
