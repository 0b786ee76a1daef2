//! Thumbnails of pictures, kept beside the features: to compare ten thousand pictures again must not mean to
//! decode them again.
//!
//! One file of equal records: the sha256 of the picture's file, its thumbnail, a checksum of both. It holds those of
//! the last run's pictures; what is damaged in it is made again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::files;
use crate::picture::{Picture, PictureError, Thumbnail};

use super::TrainError;
use super::control::Control;
use super::features::Sample;

const HASH: usize = 32;
const RECORD: usize = HASH + Thumbnail::BYTES + 4;

/// Raised when pictures come to have other thumbnails: it is mixed into the checksums.
const VERSION: u32 = 1;

/// Pictures that are decoded between two looks at whether the run is to go on.
const GROUP: usize = 64;

/// Thumbnails by the sha256 of the picture's file.
pub(super) struct Thumbnails {
    path: PathBuf,
    known: HashMap<[u8; HASH], Thumbnail>,
}

impl Thumbnails {
    /// Those that lie in a cache's folder. What can't be read is not there.
    pub fn open(root: &Path) -> Self {
        let path = root.join("thumbnails");
        let bytes = std::fs::read(&path).unwrap_or_default();
        let (records, _) = bytes.as_chunks::<RECORD>();
        Thumbnails { path, known: records.iter().filter_map(read).collect() }
    }

    /// Makes those that are missing, and keeps these alone.
    ///
    /// # Errors
    /// When a picture does not decode, or the run is cancelled.
    pub fn make(&mut self, wanted: &[&Sample], control: &Control) -> Result<(), TrainError> {
        let missing: Vec<&&Sample> =
            wanted.iter().filter(|sample| !self.known.contains_key(&sample.hash)).collect();
        for group in missing.chunks(GROUP) {
            control.go_on()?;
            let made: Vec<_> = group
                .par_iter()
                .map(|sample| Ok((sample.hash, Thumbnail::of(&Picture::open(&sample.example.picture)?))))
                .collect::<Result<_, PictureError>>()?;
            self.known.extend(made);
        }
        if !missing.is_empty() {
            self.save(wanted);
        }
        Ok(())
    }

    /// The thumbnail of a picture that was wanted.
    ///
    /// # Panics
    /// When it was not.
    pub fn get(&self, hash: &[u8; HASH]) -> &Thumbnail {
        &self.known[hash]
    }

    fn save(&self, wanted: &[&Sample]) {
        let records: Vec<u8> =
            wanted.iter().flat_map(|sample| write(&sample.hash, self.get(&sample.hash))).collect();
        let folder = files::folder_of(&self.path);
        let saved = files::make_dir(folder).and_then(|()| files::place(&self.path, &records));
        // The next run makes them again; this one has them.
        if let Err(error) = saved {
            tracing::warn!("thumbnails are not kept: {}: {error}", self.path.display());
        }
    }
}

fn write(hash: &[u8; HASH], thumbnail: &Thumbnail) -> Vec<u8> {
    let mut record = [&hash[..], thumbnail.bytes()].concat();
    record.extend((crc32fast::hash(&record) ^ VERSION).to_le_bytes());
    record
}

fn read(record: &[u8; RECORD]) -> Option<([u8; HASH], Thumbnail)> {
    let (content, checksum) = record.split_last_chunk::<4>()?;
    let is_whole = (crc32fast::hash(content) ^ VERSION).to_le_bytes() == *checksum;
    let (hash, thumbnail) = content.split_first_chunk()?;
    is_whole.then_some((*hash, Thumbnail::from_bytes(thumbnail.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Example;

    #[test]
    fn what_was_made_is_not_made_again_and_what_is_damaged_is() {
        let root = tempfile::tempdir().unwrap();
        let cache = root.path().join("cache");
        let examples: Vec<Example> = (0..3_u8)
            .map(|number| {
                let picture = root.path().join(format!("{number}.png"));
                Picture::filled(40, 30, [60 * number; 3]).save(&picture).unwrap();
                Example { picture, labels: Vec::new(), covers: None }
            })
            .collect();
        let samples = Sample::look_at(&examples).unwrap();
        let all: Vec<&Sample> = samples.iter().collect();
        let mut thumbnails = Thumbnails::open(&cache);
        thumbnails.make(&all, &Control::new()).unwrap();
        assert_eq!(thumbnails.get(&samples[2].hash).bytes(), &[120; Thumbnail::BYTES]);

        // Without the pictures nothing could be made.
        examples.iter().for_each(|example| std::fs::remove_file(&example.picture).unwrap());
        let mut thumbnails = Thumbnails::open(&cache);
        thumbnails.make(&all, &Control::new()).unwrap();
        assert_eq!(thumbnails.get(&samples[1].hash).bytes(), &[60; Thumbnail::BYTES]);

        let path = cache.join("thumbnails");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[RECORD + 700] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let mut thumbnails = Thumbnails::open(&cache);
        thumbnails.make(&all[..1], &Control::new()).unwrap();
        assert!(thumbnails.make(&all[1..2], &Control::new()).is_err());
        let control = Control::new();
        control.cancel();
        assert!(matches!(thumbnails.make(&all, &control), Err(TrainError::Cancelled)));
    }
}
