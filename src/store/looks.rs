//! What kept frames looked like to the model, so that after a restart the device still knows what is new.
//!
//! Derived data in one file that is appended to: whatever is lost of it costs a few frames that are kept twice. So
//! nothing is synced, and what can't be read is not there. The file begins with the key of the model's features:
//! those of another backbone can't be compared.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::files;

use super::sample::SampleId;

const KEY: usize = 32;

/// So many are remembered; twice as many may lie in the file before it is written anew.
const MOST: usize = 512;

/// No look is larger, bytes.
const LARGEST: usize = 1 << 20;

/// A look and the sample that it is of.
pub type SampleLook = (SampleId, Vec<u8>);

/// The file of looks, open.
#[derive(Debug)]
pub struct Looks {
    path: PathBuf,
    key: [u8; KEY],
    file: File,
    records: usize,
}

impl Looks {
    /// Opens or makes the file, and gives the latest looks that it holds, oldest first, each with its sample.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(path: &Path, key: &[u8; KEY]) -> io::Result<(Self, Vec<SampleLook>)> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (mut looks, whole) = match bytes.strip_prefix(key) {
            Some(rest) => read_all(rest),
            None => (Vec::new(), false),
        };
        if !whole || looks.len() > MOST {
            looks.drain(..looks.len().saturating_sub(MOST));
            files::make_dir(files::folder_of(path))?;
            let records = looks.iter().flat_map(|(id, look)| record(*id, look));
            files::place(path, &key.iter().copied().chain(records).collect::<Vec<u8>>())?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        Ok((Looks { path: path.to_owned(), key: *key, file, records: looks.len() }, looks))
    }

    /// Remembers what a kept sample looks like.
    ///
    /// # Errors
    /// When the disk fails; the look may be lost then, and no other.
    pub fn push(&mut self, id: SampleId, look: &[u8]) -> io::Result<()> {
        if self.records >= 2 * MOST {
            *self = Looks::open(&self.path, &self.key)?.0;
        }
        self.file.write_all(&record(id, look))?;
        self.records += 1;
        Ok(())
    }
}

/// Length, id, look, checksum of these.
fn record(id: SampleId, look: &[u8]) -> Vec<u8> {
    let mut record = (look.len() as u32).to_le_bytes().to_vec();
    record.extend(id.0.as_bytes());
    record.extend(look);
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record
}

/// All records up to the first that is not whole, and whether there is none such.
fn read_all(mut bytes: &[u8]) -> (Vec<SampleLook>, bool) {
    let mut looks = Vec::new();
    while let Some((id, look, rest)) = read(bytes) {
        looks.push((id, look.to_vec()));
        bytes = rest;
    }
    (looks, bytes.is_empty())
}

fn read(bytes: &[u8]) -> Option<(SampleId, &[u8], &[u8])> {
    let (length, behind) = bytes.split_first_chunk::<4>()?;
    let length = Some(u32::from_le_bytes(*length) as usize).filter(|&length| length <= LARGEST)?;
    let (id, behind) = behind.split_first_chunk::<16>()?;
    let (look, behind) = behind.split_at_checked(length)?;
    let (checksum, rest) = behind.split_first_chunk::<4>()?;
    let is_whole = crc32fast::hash(&bytes[..4 + 16 + length]).to_le_bytes() == *checksum;
    is_whole.then(|| (SampleId(Uuid::from_bytes(*id)), look, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<SampleId> {
        let mut last = None;
        (0..count)
            .map(|_| {
                last = Some(SampleId::after(last));
                last.unwrap()
            })
            .collect()
    }

    #[test]
    fn looks_are_there_after_a_restart_and_a_torn_or_flipped_end_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features/looks");
        let ids = ids(3);
        let (mut looks, before) = Looks::open(&path, &[7; KEY]).unwrap();
        assert!(before.is_empty());
        for (number, &id) in ids.iter().enumerate() {
            looks.push(id, &[number as u8; 5]).unwrap();
        }
        let all: Vec<(SampleId, Vec<u8>)> =
            ids.iter().enumerate().map(|(number, &id)| (id, vec![number as u8; 5])).collect();
        assert_eq!(Looks::open(&path, &[7; KEY]).unwrap().1, all);

        let whole = std::fs::read(&path).unwrap();
        for cut in 1..29 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut looks, left) = Looks::open(&path, &[7; KEY]).unwrap();
            assert_eq!(left, all[..2], "{cut}");
            looks.push(ids[2], &[2; 5]).unwrap();
            assert_eq!(Looks::open(&path, &[7; KEY]).unwrap().1, all, "{cut}");
        }
        let mut flipped = whole.clone();
        flipped[whole.len() - 12] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert_eq!(Looks::open(&path, &[7; KEY]).unwrap().1, all[..2]);
    }

    #[test]
    fn looks_of_another_backbone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("looks");
        Looks::open(&path, &[1; KEY]).unwrap().0.push(ids(1)[0], b"seen").unwrap();
        assert!(Looks::open(&path, &[2; KEY]).unwrap().1.is_empty());
        assert!(Looks::open(&path, &[1; KEY]).unwrap().1.is_empty());
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("looks");
        let (mut looks, _) = Looks::open(&path, &[1; KEY]).unwrap();
        let ids = ids(3000);
        for &id in &ids {
            looks.push(id, b"look").unwrap();
        }
        let length = path.metadata().unwrap().len() as usize;
        assert!(length <= KEY + 2 * MOST * 28, "{length}");
        let left = Looks::open(&path, &[1; KEY]).unwrap().1;
        assert_eq!(left.len(), MOST);
        assert!(left.iter().map(|(id, _)| id).eq(&ids[3000 - MOST..]));
    }
}
