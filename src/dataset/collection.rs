//! Data sets of other programs as they are, faults and all: what can be read goes in, the rest is listed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::label::{LabelBox, Provenance};

use super::description::Description;
use super::{DatasetError, Fault, Split, coco, rows, splits};

/// What only graftd's own exports tell of a picture.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Who says what is on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Names of the classes that were looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covers: Option<Vec<String>>,
    /// Whether it is measured on rather than learnt from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<bool>,
    /// When it was taken, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_ms: Option<u64>,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A picture and what is on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its file.
    pub picture: PathBuf,
    /// Width and height as the data set tells them, pixels.
    pub size: Option<(u32, u32)>,
    /// Its boxes; classes count in the collection's.
    pub boxes: Vec<LabelBox>,
    /// Its part, where the data set has parts.
    pub split: Option<Split>,
    /// What else is known.
    pub told: Told,
}

/// A data set of another program.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Collection {
    /// Class names by index.
    pub classes: Vec<String>,
    /// What could be read.
    pub entries: Vec<Entry>,
    /// What could not.
    pub faults: Vec<Fault>,
}

/// Where a YOLO folder keeps what its label files can't say: [`Told`] by path below the `data.yaml`.
pub(super) const TOLD: &str = "graftd.json";

impl Collection {
    /// Reads a YOLO folder by its `data.yaml` or a COCO file (`.json`). A picture of a COCO file lies in
    /// `images` if that is given, else beside the file, in `images/` beside it, or beside its folder.
    ///
    /// # Errors
    /// When the file itself can't be read. What is wrong with single pictures is listed in
    /// [`Collection::faults`].
    pub fn read(path: &Path, images: Option<&Path>) -> Result<Collection, DatasetError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => coco::read(path, images),
            _ => read_yolo(path),
        }
    }
}

fn read_yolo(data_yaml: &Path) -> Result<Collection, DatasetError> {
    let description = Description::read(data_yaml)?;
    let mut told = read_told(data_yaml)?;
    let mut collection = Collection { classes: description.classes.clone(), ..Collection::default() };
    for split in [Split::Train, Split::Val, Split::Test] {
        for picture in splits::pictures(data_yaml, &description, split)? {
            match rows::read(&splits::label_file(&picture), &description) {
                Ok(boxes) => {
                    let known = told.remove(&picture);
                    let told = known
                        .unwrap_or_else(|| Told { covers: description.covers.clone(), ..Told::default() });
                    collection.entries.push(Entry { picture, size: None, boxes, split: Some(split), told });
                }
                Err(faults) => collection.faults.extend(faults),
            }
        }
    }
    Ok(collection)
}

/// What lies in [`TOLD`] beside a `data.yaml`, by the paths that its splits give; nothing where there is none.
pub(super) fn read_told(data_yaml: &Path) -> Result<HashMap<PathBuf, Told>, DatasetError> {
    let folder = data_yaml.parent().unwrap_or(Path::new(""));
    let path = folder.join(TOLD);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(DatasetError::one(&path, error.to_string())),
    };
    let told: HashMap<PathBuf, Told> =
        serde_json::from_slice(&bytes).map_err(|error| DatasetError::Faults {
            faults: vec![Fault {
                path: path.clone(),
                line: Some(error.line()),
                message: format!("{error}; it should hold what graftd's export wrote; remove it if need be"),
            }],
        })?;
    // Written with `path: .`, so that splits begin with it.
    Ok(told.into_iter().map(|(picture, told)| (folder.join(".").join(picture), told)).collect())
}
