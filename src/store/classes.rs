//! What classes are called: their names by number, and the names that they had.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sled::transaction::{ConflictableTransactionError, TransactionalTree};

use super::envelope::{self, Record};
use super::{Samples, StoreError, durable, sealed};

const CLASSES: &str = "classes";
const RENAMED: &str = "renamed";

/// Class names. As a file beside the database they are there for the day when it is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassNames {
    /// What labels count in.
    pub classes: Vec<String>,
    /// Old names, each with what the class is called today. Models from before still say them.
    #[serde(default)]
    pub renamed: Vec<(String, String)>,
}

impl Record for Vec<(String, String)> {}

impl ClassNames {
    /// What a class of this name is called today.
    pub fn today<'a>(&'a self, name: &'a str) -> &'a str {
        // A name that is in use again is no old one.
        if self.classes.iter().any(|class| class == name) {
            return name;
        }
        self.renamed.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new)
    }

    /// Gives a class another name, which none has.
    pub fn rename(&mut self, number: usize, new: &str) {
        let old = std::mem::replace(&mut self.classes[number], new.to_owned());
        self.renamed.retain(|(older, _)| *older != old);
        for (_, today) in self.renamed.iter_mut().filter(|(_, today)| *today == old) {
            new.clone_into(today);
        }
        self.renamed.push((old, new.to_owned()));
        self.renamed.retain(|(older, today)| older != today);
    }
}

impl Samples {
    /// The class names that labels count in; empty before [`Samples::set_classes`].
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn classes(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.class_names()?.classes)
    }

    /// Class names with those that they had.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn class_names(&self) -> Result<ClassNames, StoreError> {
        let told = self.db.read(|trees| {
            let Some(bytes) = trees.meta.get(CLASSES)? else { return Ok(None) };
            let classes = envelope::open(|| "of the classes".into(), &bytes)?;
            let renamed = match trees.meta.get(RENAMED)? {
                Some(bytes) => envelope::open(|| "of renamed classes".into(), &bytes)?,
                None => Vec::new(),
            };
            Ok(Some(ClassNames { classes, renamed }))
        });
        // The file beside the database is read where that can't tell, and not each time.
        match told {
            Ok(Some(names)) => Ok(names),
            Ok(None) => Ok(self.names_beside().unwrap_or_default()),
            Err(error @ StoreError::Damaged(_)) => self.names_beside().ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Sets the class names that labels count in.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_classes(&self, classes: &[String]) -> Result<(), StoreError> {
        let renamed = self.class_names()?.renamed;
        self.set_class_names(&ClassNames { classes: classes.to_vec(), renamed })
    }

    /// Sets class names with those that they had, both or neither.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_class_names(&self, names: &ClassNames) -> Result<(), StoreError> {
        self.db.insist(|| {
            durable::write(&self.names_path(), &sealed::write(names))?;
            self.put_names(names)
        })
    }

    /// Gives the database the names.
    pub(super) fn put_names(&self, names: &ClassNames) -> Result<(), StoreError> {
        self.db.write(|trees| {
            let put = |meta: &TransactionalTree| {
                meta.insert(CLASSES, envelope::seal(&names.classes))?;
                meta.insert(RENAMED, envelope::seal(&names.renamed))?;
                Ok::<(), ConflictableTransactionError<()>>(())
            };
            Ok(trees.meta.transaction(put)?)
        })
    }

    fn names_beside(&self) -> Option<ClassNames> {
        let bytes = std::fs::read(self.names_path()).ok()?;
        match sealed::read(&bytes) {
            Ok(names) => Some(names),
            Err(error) => {
                tracing::error!("{}: {error}", self.names_path().display());
                None
            }
        }
    }

    fn names_path(&self) -> PathBuf {
        self.db.dir().join("classes.json")
    }
}

/// The names of classes that labels cover.
pub(super) fn names_of(numbers: &[u32], classes: &[String]) -> Vec<String> {
    numbers.iter().filter_map(|&number| classes.get(number as usize).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_by_every_name_it_had() {
        let mut names =
            ClassNames { classes: ["weed", "crop"].map(str::to_owned).into(), renamed: Vec::new() };
        names.rename(0, "charlock");
        names.rename(0, "mustard");
        assert_eq!(
            ["weed", "charlock", "mustard", "crop", "hen"].map(|name| names.today(name).to_owned()),
            ["mustard", "mustard", "mustard", "crop", "hen"]
        );
        names.rename(0, "weed");
        assert_eq!(names.classes, ["weed", "crop"]);
        assert_eq!(["weed", "charlock", "mustard"].map(|name| names.today(name)), ["weed"; 3]);
        // A new class may have a name that another had.
        names.classes.push("mustard".into());
        assert_eq!(names.today("mustard"), "mustard");
    }
}
