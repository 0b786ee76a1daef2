//! Writes data sets as other programs read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::label::LabelBox;

use super::DatasetError;
use super::coco::{self, Annotation, Category, Image};
use super::collection::{TOLD, Told};

/// A form of data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// images/, labels/ and data.yaml.
    #[default]
    Yolo,
    /// images/, train.json and val.json.
    Coco,
}

impl Format {
    /// Writes a data set of this form into a new or empty folder; gives the number of pictures. They come one at a
    /// time, so that a large store need not fit in memory.
    ///
    /// # Errors
    /// When there is something in the folder already, or the disk fails; and whatever the items' source says.
    pub fn write<E: From<DatasetError>>(
        self,
        folder: &Path,
        classes: &[String],
        items: impl Iterator<Item = Result<Item, E>>,
    ) -> Result<usize, E> {
        match self {
            Format::Yolo => write_yolo(folder, classes, items),
            Format::Coco => write_coco(folder, classes, items),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "yolo" => Ok(Format::Yolo),
            "coco" => Ok(Format::Coco),
            other => Err(format!("there is no form {other:?}; it is one of yolo, coco")),
        }
    }
}

/// One picture to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its file's name.
    pub name: String,
    /// Its bytes, written as they are.
    pub bytes: Vec<u8>,
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// Its boxes.
    pub boxes: Vec<LabelBox>,
    /// Whether it is measured on rather than learnt from.
    pub holdout: bool,
    /// What else is known.
    pub told: Told,
}

impl Item {
    fn split(&self) -> &'static str {
        if self.holdout { "val" } else { "train" }
    }
}

/// Writes `images/SPLIT/NAME`, `labels/SPLIT/….txt`, `data.yaml`, and `graftd.json` with what a YOLO folder
/// can't say.
fn write_yolo<E: From<DatasetError>>(
    folder: &Path,
    classes: &[String],
    items: impl Iterator<Item = Result<Item, E>>,
) -> Result<usize, E> {
    make_empty(folder)?;
    for split in ["train", "val"] {
        for kind in ["images", "labels"] {
            make_folder(&folder.join(kind).join(split))?;
        }
    }
    let mut told = BTreeMap::new();
    for item in items {
        let item = item?;
        let split = item.split();
        write(&folder.join("images").join(split).join(&item.name), &item.bytes)?;
        let mut rows = String::new();
        for LabelBox { class, cx, cy, w, h } in &item.boxes {
            // Writing into a string can't fail. As many digits as it takes to read the same numbers back.
            let _ = writeln!(rows, "{class} {cx} {cy} {w} {h}");
        }
        let path = folder.join("labels").join(split).join(&item.name).with_extension("txt");
        write(&path, rows.as_bytes())?;
        told.insert(format!("images/{split}/{}", item.name), item.told);
    }
    write(&folder.join(TOLD), &json(&told))?;
    let names: String =
        classes.iter().enumerate().map(|(index, name)| format!("  {index}: {name:?}\n")).collect();
    let text = format!("path: .\ntrain: images/train\nval: images/val\nnames:\n{names}");
    write(&folder.join("data.yaml"), text.as_bytes())?;
    Ok(told.len())
}

#[derive(Serialize, Default)]
struct CocoFile {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

/// Writes `images/NAME`, `train.json` and `val.json` in COCO's form.
fn write_coco<E: From<DatasetError>>(
    folder: &Path,
    classes: &[String],
    items: impl Iterator<Item = Result<Item, E>>,
) -> Result<usize, E> {
    make_empty(folder)?;
    make_folder(&folder.join("images"))?;
    let mut files = BTreeMap::from(["train", "val"].map(|split| (split, CocoFile::default())));
    let mut count = 0;
    for item in items {
        let item = item?;
        write(&folder.join("images").join(&item.name), &item.bytes)?;
        count += 1;
        let file = files.entry(item.split()).or_default();
        let (width, height) = item.size;
        let image = Image { id: count as i64, file_name: item.name, width, height, graftd: item.told };
        for label in &item.boxes {
            let id = file.annotations.len() as i64 + 1;
            file.annotations.push(coco::from_label(label, id, &image));
        }
        file.images.push(image);
    }
    for (split, mut file) in files {
        file.categories = (1..).zip(classes).map(|(id, name)| Category { id, name: name.clone() }).collect();
        write(&folder.join(format!("{split}.json")), &json(&file))?;
    }
    Ok(count)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("plain records can be written")
}

/// An export beside another one's files would be a mixture of both.
fn make_empty(folder: &Path) -> Result<(), DatasetError> {
    make_folder(folder)?;
    let mut entries = fs::read_dir(folder).map_err(failed(folder))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(DatasetError::one(folder, "there is something in it; name a new folder")),
    }
}

fn make_folder(path: &Path) -> Result<(), DatasetError> {
    fs::create_dir_all(path).map_err(failed(path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    fs::write(path, bytes).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DatasetError {
    let path = path.to_owned();
    move |source| DatasetError::Write { path, source }
}
