//! COCO's JSON: `images`, `categories` and `annotations` with boxes `[x, y, width, height]` in pixels.
//!
//! The format: <https://cocodataset.org/#format-data>.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::label::LabelBox;

use super::collection::{Collection, Entry, Told};
use super::{DatasetError, Fault};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    images: Vec<Value>,
    #[serde(default)]
    annotations: Vec<Value>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Category {
    pub id: i64,
    pub name: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Image {
    pub id: i64,
    pub file_name: String,
    pub width: u32,
    pub height: u32,
    /// Not COCO's: what graftd knows besides.
    #[serde(default)]
    pub graftd: Told,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Annotation {
    pub id: i64,
    pub image_id: i64,
    pub category_id: i64,
    pub bbox: [f64; 4],
    #[serde(default)]
    pub area: f64,
    #[serde(default)]
    pub iscrowd: u8,
}

/// Reads a COCO file.
pub(super) fn read(path: &Path, images: Option<&Path>) -> Result<Collection, DatasetError> {
    let bytes = std::fs::read(path).map_err(|error| DatasetError::one(path, error.to_string()))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| DatasetError::Faults {
        faults: vec![Fault {
            path: path.to_owned(),
            line: Some(error.line()),
            message: format!("{error}; a COCO file has images, annotations and categories"),
        }],
    })?;
    if file.categories.is_empty() || file.images.is_empty() {
        let what = if file.categories.is_empty() { "categories" } else { "images" };
        return Err(DatasetError::one(path, format!("it has no {what}; is it a COCO file?")));
    }
    let mut reader = Reader { path, faults: Vec::new() };
    // Ids may be any numbers, in any order; classes are numbered as their ids are ordered.
    let by_id: BTreeMap<i64, String> =
        file.categories.into_iter().map(|category| (category.id, category.name)).collect();
    let class_of: HashMap<i64, u32> = by_id.keys().zip(0..).map(|(&id, class)| (id, class)).collect();
    let classes: Vec<String> = by_id.into_values().collect();
    let mut entries = reader.images(file.images, images);
    reader.annotations(file.annotations, &class_of, &mut entries);
    let mut entries: Vec<(i64, Entry)> = entries.into_iter().collect();
    entries.sort_by_key(|(id, _)| *id);
    Ok(Collection {
        classes,
        entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        faults: reader.faults,
    })
}

struct Reader<'a> {
    path: &'a Path,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, message: String) {
        self.faults.push(Fault { path: self.path.to_owned(), line: None, message });
    }

    fn images(&mut self, values: Vec<Value>, folder: Option<&Path>) -> HashMap<i64, Entry> {
        let mut entries = HashMap::new();
        for (index, value) in values.into_iter().enumerate() {
            let image: Image = match serde_json::from_value(value) {
                Ok(image) => image,
                Err(error) => {
                    self.fault(format!("images[{index}]: {error}"));
                    continue;
                }
            };
            let Some(picture) = find(self.path, folder, &image.file_name) else {
                self.fault(format!(
                    "images[{index}]: there is no picture {:?}; name its folder with --images",
                    image.file_name
                ));
                continue;
            };
            let size = Some((image.width, image.height));
            let entry = Entry { picture, size, boxes: Vec::new(), split: None, told: image.graftd };
            if entries.insert(image.id, entry).is_some() {
                self.fault(format!("images[{index}]: id {} is there twice; the later one counts", image.id));
            }
        }
        entries
    }

    fn annotations(
        &mut self,
        values: Vec<Value>,
        class_of: &HashMap<i64, u32>,
        entries: &mut HashMap<i64, Entry>,
    ) {
        // A picture with something on it that can't be read would teach that it is not there.
        let mut spoilt = HashMap::new();
        for (index, value) in values.into_iter().enumerate() {
            let image = value.get("image_id").and_then(Value::as_i64);
            let read = serde_json::from_value::<Annotation>(value).map_err(|error| error.to_string());
            let Some(entry) = image.and_then(|image| entries.get_mut(&image)) else {
                self.fault(format!("annotations[{index}]: it belongs to no picture that could be read"));
                continue;
            };
            match read.and_then(|annotation| to_label(&annotation, class_of, entry.size.unwrap_or_default()))
            {
                Ok(label) if entry.boxes.contains(&label) => {}
                Ok(label) => entry.boxes.push(label),
                Err(reason) => {
                    spoilt.entry(image.unwrap_or_default()).or_insert((index, reason));
                }
            }
        }
        let mut spoilt: Vec<_> = spoilt.into_iter().collect();
        spoilt.sort_by_key(|(_, (index, _))| *index);
        for (image, (index, reason)) in spoilt {
            let entry = entries.remove(&image).expect("it was there when the annotation was read");
            let picture = entry.picture.display();
            self.fault(format!("annotations[{index}]: {reason}; {picture} is left out"));
        }
    }
}

fn to_label(
    annotation: &Annotation,
    class_of: &HashMap<i64, u32>,
    (width, height): (u32, u32),
) -> Result<LabelBox, String> {
    let id = annotation.category_id;
    let &class = class_of.get(&id).ok_or_else(|| format!("category {id} is not among the categories"))?;
    if annotation.iscrowd != 0 {
        return Err("a crowd, whose objects have no boxes of their own".into());
    }
    let [x, y, w, h] = annotation.bbox;
    if !annotation.bbox.iter().all(|value| value.is_finite()) || w <= 0.0 || h <= 0.0 {
        return Err(format!("the box {:?} is empty", annotation.bbox));
    }
    let (width, height) = (f64::from(width), f64::from(height));
    let clip = |low: f64, high: f64, side: f64| (low.clamp(0.0, side) / side, high.clamp(0.0, side) / side);
    let ((left, right), (top, bottom)) = (clip(x, x + w, width), clip(y, y + h, height));
    if right <= left || bottom <= top {
        return Err(format!("the box {:?} lies outside the picture", annotation.bbox));
    }
    Ok(LabelBox {
        class,
        cx: ((left + right) / 2.0) as f32,
        cy: ((top + bottom) / 2.0) as f32,
        w: (right - left) as f32,
        h: (bottom - top) as f32,
    })
}

/// A label as COCO writes it.
pub(super) fn from_label(label: &LabelBox, id: i64, image: &Image) -> Annotation {
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    let [cx, cy, w, h] = [label.cx, label.cy, label.w, label.h].map(f64::from);
    let bbox = [(cx - w / 2.0) * width, (cy - h / 2.0) * height, w * width, h * height];
    // Category ids begin at 1, as in COCO's own files.
    let category_id = i64::from(label.class) + 1;
    Annotation { id, image_id: image.id, category_id, bbox, area: bbox[2] * bbox[3], iscrowd: 0 }
}

/// Where a picture lies. Names come from outside: one that climbs out of its folder is not followed.
fn find(path: &Path, folder: Option<&Path>, name: &str) -> Option<PathBuf> {
    let name = Path::new(name);
    let stays = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !stays {
        return None;
    }
    let beside = path.parent().unwrap_or(Path::new(""));
    let folders = match folder {
        Some(folder) => vec![folder.to_owned()],
        None => vec![beside.to_owned(), beside.join("images"), beside.join(".."), beside.join("../images")],
    };
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}
