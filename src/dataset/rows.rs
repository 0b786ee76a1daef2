//! Reads the rows of a label file.

use std::io::ErrorKind;
use std::path::Path;

use crate::label::LabelBox;

use super::Fault;
use super::description::Description;

/// The boxes in a label file, or its faults. A file that is not there holds none.
pub(super) fn read(path: &Path, description: &Description) -> Result<Vec<LabelBox>, Vec<Fault>> {
    let fault = |(line, message)| Fault { path: path.to_owned(), line, message };
    match std::fs::read(path) {
        Ok(bytes) => parse(&bytes, description.classes.len(), |label| covered(label, description))
            .map_err(|faults| faults.into_iter().map(fault).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(vec![fault((None, error.to_string()))]),
    }
}

/// A line from 1, where there is one, and what is wrong with it.
type RowFault = (Option<usize>, String);

/// The boxes in the bytes of a label file, of so many classes.
///
/// # Errors
/// For each row that is wrong its line, from 1, and what is wrong with it.
pub fn parse_rows(bytes: &[u8], classes: usize) -> Result<Vec<LabelBox>, Vec<RowFault>> {
    parse(bytes, classes, Ok)
}

fn parse(
    bytes: &[u8],
    classes: usize,
    check: impl Fn(LabelBox) -> Result<LabelBox, String>,
) -> Result<Vec<LabelBox>, Vec<RowFault>> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(vec![(None, "not a text file; it should hold rows of class cx cy w h".into())]);
    };
    let mut labels: Vec<LabelBox> = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match row(line, classes).and_then(&check) {
            // The same box twice would count twice.
            Ok(label) if labels.contains(&label) => {}
            Ok(label) => labels.push(label),
            Err(message) => faults.push((Some(index + 1), message)),
        }
    }
    if faults.is_empty() { Ok(labels) } else { Err(faults) }
}

/// The label, provided that its class was labelled for.
fn covered(label: LabelBox, description: &Description) -> Result<LabelBox, String> {
    let name = &description.classes[label.class as usize];
    match &description.covers {
        Some(covers) if !covers.contains(name) => Err(format!(
            "class {} is {name:?}, which covers in data.yaml does not name; add it there when all of its \
             objects are labelled, or remove the row",
            label.class
        )),
        _ => Ok(label),
    }
}

/// One row: `class cx cy w h`. What of the box lies outside the picture is cut off.
fn row(line: &str, n_classes: usize) -> Result<LabelBox, String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    if columns.len() != 5 {
        let hint = match columns.len() {
            7.. if columns.len() % 2 == 1 => "; polygons are segmentation labels: convert them to boxes",
            _ => "",
        };
        return Err(format!("{} columns, where a row has 5: class cx cy w h{hint}", columns.len()));
    }
    let number = |text: &str| -> Result<f64, String> {
        let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
        if value.is_finite() { Ok(value) } else { Err(format!("{text} is no usable number")) }
    };
    let class = number(columns[0])?;
    if class < 0.0 || class.fract() != 0.0 || class >= n_classes as f64 {
        return Err(format!("class {} is out of range: data.yaml names {n_classes}, from 0", columns[0]));
    }
    let mut values = [0.0; 4];
    for (value, text) in values.iter_mut().zip(&columns[1..]) {
        *value = number(text)?;
        if !(0.0..=1.0).contains(value) {
            return Err(format!(
                "{text} is outside 0 to 1; centres and sides are given in sides of the picture, not in pixels"
            ));
        }
    }
    let [cx, cy, w, h] = values;
    let [left, right] = [cx - w / 2.0, cx + w / 2.0].map(|x| x.clamp(0.0, 1.0));
    let [top, bottom] = [cy - h / 2.0, cy + h / 2.0].map(|y| y.clamp(0.0, 1.0));
    if right - left <= 0.0 || bottom - top <= 0.0 {
        return Err(format!("the box is empty ({w} wide, {h} high); remove the row or draw it again"));
    }
    Ok(LabelBox {
        class: class as u32,
        cx: ((left + right) / 2.0) as f32,
        cy: ((top + bottom) / 2.0) as f32,
        w: (right - left) as f32,
        h: (bottom - top) as f32,
    })
}
