//! The names of the classes that labels count in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::samples::Samples;
use super::{StoreError, durable, envelope, sealed};

pub(super) const CLASSES: &str = "classes";

/// The class names beside the database, for the day when it is lost.
#[derive(Serialize, Deserialize)]
struct ClassFile {
    classes: Vec<String>,
}

impl Samples {
    /// The class names that labels count in; empty before [`Samples::set_classes`].
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn classes(&self) -> Result<Vec<String>, StoreError> {
        let told = self.db.read(|trees| match trees.meta.get(CLASSES)? {
            Some(bytes) => envelope::open(|| "of the classes".into(), &bytes).map(Some),
            None => Ok(None),
        });
        // The file beside the database is read where that can't tell, and not each time.
        match told {
            Ok(Some(classes)) => Ok(classes),
            Ok(None) => Ok(self.classes_beside().unwrap_or_default()),
            Err(error @ StoreError::Damaged(_)) => self.classes_beside().ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Sets the class names that labels count in.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_classes(&self, classes: &[String]) -> Result<(), StoreError> {
        let file = ClassFile { classes: classes.to_vec() };
        self.db.insist(|| {
            durable::write(&self.classes_path(), &sealed::write(&file))?;
            self.db.write(|trees| {
                trees.meta.insert(CLASSES, envelope::seal(&file.classes))?;
                Ok(())
            })
        })
    }

    fn classes_beside(&self) -> Option<Vec<String>> {
        let bytes = std::fs::read(self.classes_path()).ok()?;
        match sealed::read::<ClassFile>(&bytes) {
            Ok(file) => Some(file.classes),
            Err(error) => {
                tracing::error!("{}: {error}", self.classes_path().display());
                None
            }
        }
    }

    fn classes_path(&self) -> PathBuf {
        self.db.dir().join("classes.json")
    }
}

/// The names of classes that labels cover.
pub(super) fn names_of(numbers: &[u32], classes: &[String]) -> Vec<String> {
    numbers.iter().filter_map(|&number| classes.get(number as usize).cloned()).collect()
}
