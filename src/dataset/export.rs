//! Writes a YOLO folder.

use std::fmt::Write as _;
use std::path::Path;

use crate::label::LabelBox;

use super::DatasetError;

/// One picture to write: its split (`train` or `val`), name, bytes as they are, and boxes.
type Item = (&'static str, String, Vec<u8>, Vec<LabelBox>);

/// Writes `folder/images/SPLIT/NAME`, `folder/labels/SPLIT/….txt` and `folder/data.yaml`; gives the
/// number of pictures. Examples come one at a time, so that a large store need not fit in memory. A YOLO folder
/// can't say of a picture which classes it was labelled for.
///
/// # Errors
/// [`DatasetError::Write`], and whatever an example's source says.
pub fn write_yolo<E: From<DatasetError>>(
    folder: &Path,
    classes: &[String],
    examples: impl Iterator<Item = Result<Item, E>>,
) -> Result<usize, E> {
    let mut count = 0;
    for split in ["train", "val"] {
        for kind in ["images", "labels"] {
            make_folder(&folder.join(kind).join(split))?;
        }
    }
    for example in examples {
        let (split, name, bytes, labels) = example?;
        write(&folder.join("images").join(split).join(&name), &bytes)?;
        let mut rows = String::new();
        for LabelBox { class, cx, cy, w, h } in labels {
            // Writing into a string can't fail.
            let _ = writeln!(rows, "{class} {cx:.6} {cy:.6} {w:.6} {h:.6}");
        }
        let path = folder.join("labels").join(split).join(&name).with_extension("txt");
        write(&path, rows.as_bytes())?;
        count += 1;
    }
    let names: String =
        classes.iter().enumerate().map(|(index, name)| format!("  {index}: {name:?}\n")).collect();
    let text = format!("path: .\ntrain: images/train\nval: images/val\nnames:\n{names}");
    write(&folder.join("data.yaml"), text.as_bytes())?;
    Ok(count)
}

fn make_folder(path: &Path) -> Result<(), DatasetError> {
    std::fs::create_dir_all(path).map_err(|source| DatasetError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    std::fs::write(path, bytes).map_err(|source| DatasetError::Write { path: path.to_owned(), source })
}
