//! Reads a `data.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::yolo::names::listed;

use super::{DatasetError, Split};

/// What a `data.yaml` says. Keys that graftd has no use for are allowed.
pub(super) struct Description {
    /// Where paths start.
    pub root: PathBuf,
    pub classes: Vec<String>,
    /// The classes that every picture was labelled for; none where it does not say.
    pub covers: Option<Vec<String>>,
    train: Vec<PathBuf>,
    val: Vec<PathBuf>,
    test: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Raw {
    path: Option<PathBuf>,
    train: Option<Places>,
    val: Option<Places>,
    test: Option<Places>,
    nc: Option<usize>,
    names: Option<Names>,
    covers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Places {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Map(BTreeMap<usize, String>),
}

impl Description {
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| DatasetError::one(path, format!("{error}; give the data set's data.yaml")))?;
        let raw: Raw = serde_yaml_ng::from_str(&text).map_err(|error| {
            DatasetError::one(path, format!("not a data.yaml ({error}); it should hold train, val and names"))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let root = raw.path.map_or_else(|| folder.to_owned(), |root| folder.join(root));
        let list = |places: Option<Places>| match places {
            None => Vec::new(),
            Some(Places::One(place)) if place.as_os_str().is_empty() => Vec::new(),
            Some(Places::One(place)) => vec![place],
            Some(Places::Many(places)) => places,
        };
        let classes = class_names(path, raw.names, raw.nc)?;
        if let Some(covers) = &raw.covers {
            check_covers(path, covers, &classes)?;
        }
        Ok(Description {
            root,
            classes,
            covers: raw.covers,
            train: list(raw.train),
            val: list(raw.val),
            test: list(raw.test),
        })
    }

    /// The folders, lists and pictures that a split names.
    pub fn places(&self, split: Split) -> &[PathBuf] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }
}

fn check_covers(path: &Path, covers: &[String], classes: &[String]) -> Result<(), DatasetError> {
    if covers.is_empty() {
        let message = "covers is empty: then no label says anything; name the classes that the pictures were \
                       labelled for, or leave covers out";
        return Err(DatasetError::one(path, message));
    }
    if let Some(unknown) = covers.iter().find(|name| !classes.contains(name)) {
        let message = format!(
            "covers has {unknown:?}, which is not among names ({}); correct it, or add it there",
            listed(classes)
        );
        return Err(DatasetError::one(path, message));
    }
    Ok(())
}

fn class_names(path: &Path, names: Option<Names>, nc: Option<usize>) -> Result<Vec<String>, DatasetError> {
    let names = match names {
        Some(Names::List(names)) => names,
        Some(Names::Map(map)) => {
            if let Some((expected, (found, _))) = map.iter().enumerate().find(|(i, (index, _))| i != *index) {
                let message =
                    format!("names jumps from class {expected} to {found}; number the classes 0, 1, 2, …");
                return Err(DatasetError::one(path, message));
            }
            map.into_values().collect()
        }
        None => {
            return Err(DatasetError::one(path, "it has no names; add the class names, as in names: [weed]"));
        }
    };
    if names.is_empty() {
        return Err(DatasetError::one(path, "names is empty; add the class names, as in names: [weed]"));
    }
    if let Some(nc) = nc.filter(|&nc| nc != names.len()) {
        let message = format!("nc is {nc}, but names has {} classes; make them agree", names.len());
        return Err(DatasetError::one(path, message));
    }
    if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return Err(DatasetError::one(
            path,
            format!("names has {:?} twice; give each class its own", twice.1),
        ));
    }
    Ok(names)
}
