//! Finds the pictures of a split and where their labels lie.

use std::path::{Component, Path, PathBuf};

use super::description::Description;
use super::{DatasetError, Split};

/// The pictures of a split, sorted within each folder. A split that is not named has none.
pub(super) fn pictures(
    data_yaml: &Path,
    description: &Description,
    split: Split,
) -> Result<Vec<PathBuf>, DatasetError> {
    let mut pictures = Vec::new();
    for place in description.places(split) {
        let key = split.key();
        let path = resolve(&description.root, place).ok_or_else(|| {
            let tried = description.root.join(place);
            DatasetError::one(
                data_yaml,
                format!("{key}: {} does not exist; correct path or {key}", tried.display()),
            )
        })?;
        if path.is_dir() {
            walk(&path, &mut pictures)?;
        } else if is_picture(&path) {
            pictures.push(path);
        } else {
            listed(&path, &mut pictures)?;
        }
    }
    Ok(pictures)
}

/// Some tools write `../train/images` into the data.yaml beside `train/`: then the dots are wrong.
fn resolve(root: &Path, place: &Path) -> Option<PathBuf> {
    let path = root.join(place);
    if path.exists() {
        return Some(path);
    }
    let inside = root.join(place.strip_prefix("..").ok()?);
    inside.exists().then_some(inside)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn walk(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    let fail = |error: std::io::Error| DatasetError::one(folder, error.to_string());
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(fail)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(fail)?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            walk(&entry, pictures)?;
        } else if is_picture(&entry) {
            pictures.push(entry);
        }
    }
    Ok(())
}

/// A text file that names one picture a line, relative to the folder that it lies in.
fn listed(list: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    let text = std::fs::read_to_string(list).map_err(|error| {
        DatasetError::one(list, format!("{error}; a split is a folder or a list of pictures"))
    })?;
    let folder = list.parent().unwrap_or(Path::new(""));
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let path = folder.join(line.trim());
        if !path.is_file() {
            let message = format!("line {}: there is no picture {}", index + 1, path.display());
            return Err(DatasetError::one(list, message));
        }
        pictures.push(path);
    }
    Ok(())
}

/// Where the labels of a picture lie: in `labels/` for `images/` (the last one in the path), else
/// beside the picture.
pub(super) fn label_file(picture: &Path) -> PathBuf {
    let parts: Vec<Component> = picture.components().collect();
    let images = parts.iter().rposition(|part| part.as_os_str() == "images");
    let path: PathBuf = parts
        .iter()
        .enumerate()
        .map(|(index, part)| if Some(index) == images { "labels".as_ref() } else { part.as_os_str() })
        .collect();
    path.with_extension("txt")
}
