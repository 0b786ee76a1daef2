//! What a run was begun with, on the disk beside its checkpoint.
//!
//! A run that goes on undisturbed learns from what was labelled when it began. One that is taken up after a restart
//! must too: with the labels that came meanwhile it would be another run, and would start from its beginning.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files;

use super::classes::ClassChanges;
use super::set::TrainingSet;
use super::summed::{self, Magic};

const NAME: &str = "run.set";
const MAGIC: &Magic = b"graftst1";

/// The samples and classes of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// What it learns from and is measured on.
    pub set: TrainingSet,
    /// What it may do to the model's classes.
    pub classes: ClassChanges,
}

impl Begun {
    /// Writes it into the folder of a run's cache, durably, until
    /// [`forget_checkpoint`](super::forget_checkpoint) is called.
    ///
    /// # Errors
    /// When the disk fails, or a picture's path is not UTF-8.
    pub fn remember(&self, cache: &Path) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        files::make_dir(cache)?;
        summed::write(&cache.join(NAME), MAGIC, &body)
    }

    /// What the run that uses this cache was begun with; none where nothing was written, or not whole. A sample whose
    /// picture is gone is left out; where nothing stays to learn from or to measure on (the whole state lies elsewhere
    /// now), nothing is found.
    pub fn find(cache: &Path) -> Option<Begun> {
        let body = summed::read(&cache.join(NAME), MAGIC).ok()??;
        let mut begun: Begun = postcard::from_bytes(&body).ok()?;
        for examples in [&mut begun.set.train, &mut begun.set.holdout] {
            examples.retain(|example| example.picture.exists());
        }
        let nothing_stays = begun.set.train.is_empty() || begun.set.holdout.is_empty();
        (!nothing_stays).then_some(begun)
    }
}

/// Takes it away.
pub(super) fn forget(cache: &Path) -> io::Result<()> {
    summed::remove(&cache.join(NAME))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::dataset::Example;
    use crate::label::LabelBox;

    use super::*;

    #[test]
    fn it_is_found_whole_or_not_at_all_and_without_what_was_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let example = |name: &str| {
            let picture = folder.path().join(name);
            fs::write(&picture, "a picture").expect("a file");
            let labels = vec![LabelBox { class: 1, cx: 0.5, cy: 0.5, w: 0.25, h: 0.125 }];
            Example { picture, labels, covers: Some(vec!["weed".into()]) }
        };
        let mut begun = Begun {
            set: TrainingSet {
                classes: vec!["crop".into(), "weed".into()],
                train: vec![example("a.jpg"), example("b.jpg")],
                holdout: vec![example("c.jpg")],
            },
            classes: ClassChanges {
                grow: true,
                rename: vec![("old".into(), "crop".into())],
                ..Default::default()
            },
        };
        let cache = folder.path().join("features");
        assert_eq!(Begun::find(&cache), None);
        begun.remember(&cache).expect("written");
        assert_eq!(Begun::find(&cache).as_ref(), Some(&begun));

        fs::remove_file(&begun.set.train[0].picture).expect("deleted");
        begun.set.train.remove(0);
        assert_eq!(Begun::find(&cache).as_ref(), Some(&begun));

        let path = cache.join(NAME);
        let whole = fs::read(&path).expect("a file");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&path, flipped).expect("written");
            assert_eq!(Begun::find(&cache), None, "byte {at}");
        }
        fs::write(&path, &whole).expect("written");
        fs::remove_file(&begun.set.holdout[0].picture).expect("deleted");
        assert_eq!(Begun::find(&cache), None);
        forget(&cache).expect("taken away");
        forget(&cache).expect("nothing to take away");
        assert!(!cache.join(NAME).exists());
    }
}
