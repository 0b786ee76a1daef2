//! The feature cache: what the backbone made of each view, once, as float16 on disk.
//!
//! One folder per (backbone, input size) holds two flat files: `features.f16`, records of equal
//! length one after another, and `keys`, the 32-byte key of each record in the same order. Records
//! are read through a memory map. Everything here can be made again, so a file that does not fit is
//! thrown away, and keys are written after their records are on the disk. One run at a time uses a
//! cache: it holds a lock on `keys`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::{Mmap, UncheckedAdvice};
use sha2::{Digest, Sha256};

/// Must stay free on the disk, bytes.
const FREE_FLOOR: u64 = 256 << 20;

/// Identifies a record: a hash of all that decides it.
pub(super) type FeatureKey = [u8; 32];

/// Hashes parts into a key; lengths are hashed too, so that parts can't run into each other.
pub(super) fn hash(parts: &[&[u8]]) -> FeatureKey {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A cache that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("feature cache {}: {source}; {}", path.display(), hint(source))]
pub struct CacheError {
    path: PathBuf,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::WouldBlock => "wait for it, or name another folder",
        io::ErrorKind::StorageFull => {
            "make room (this folder may be emptied between runs), or take fewer views"
        }
        _ => "free some space or name another folder",
    }
}

/// An open cache for one backbone and input size.
pub(super) struct FeatureCache {
    folder: PathBuf,
    /// Values in one record: all features of a view, one after another.
    record: usize,
    /// Records on the disk. A key that was appended twice names its last one.
    records: usize,
    positions: HashMap<FeatureKey, usize>,
    data: File,
    keys: File,
    map: Option<Mmap>,
    /// Records appended but not yet named in `keys`.
    pending: Vec<FeatureKey>,
}

impl FeatureCache {
    /// Opens or makes the cache in `folder` for records of `record` values.
    pub(super) fn open(folder: &Path, record: usize) -> Result<Self, CacheError> {
        let fail = |source| CacheError { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let open = |name: &str| {
            OpenOptions::new().read(true).append(true).create(true).open(folder.join(name)).map_err(fail)
        };
        let (data, mut keys) = (open("features.f16")?, open("keys")?);
        keys.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                fail(io::Error::new(io::ErrorKind::WouldBlock, "another run is using it"))
            }
            TryLockError::Error(error) => fail(error),
        })?;
        let mut bytes = Vec::new();
        keys.read_to_end(&mut bytes).map_err(fail)?;
        let (named, torn) = bytes.as_chunks::<32>();
        let stored = data.metadata().map_err(fail)?.len() as usize / (2 * record);
        let n_whole = named.len().min(stored);
        if !torn.is_empty() || n_whole < named.len() {
            keys.set_len(32 * n_whole as u64).map_err(fail)?;
        }
        // Records that no key names come from an interrupted pass.
        data.set_len((2 * record * n_whole) as u64).map_err(fail)?;
        let positions = named[..n_whole].iter().enumerate().map(|(i, key)| (*key, i)).collect();
        let mut cache = FeatureCache {
            folder: folder.to_owned(),
            record,
            records: n_whole,
            positions,
            data,
            keys,
            map: None,
            pending: Vec::new(),
        };
        cache.remap()?;
        Ok(cache)
    }

    /// Whether the features of this view are there.
    pub(super) fn has(&self, key: &FeatureKey) -> bool {
        self.positions.contains_key(key)
    }

    /// Whether so many more records fit on the disk, and leave room for what matters more.
    pub(super) fn check_room(&self, records: usize) -> Result<(), CacheError> {
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return Ok(()) };
        let (free, wanted) = (disk.f_bavail * disk.f_frsize, (2 * self.record * records) as u64);
        if records > 0 && free < wanted + FREE_FLOOR {
            let reason = format!(
                "features of {records} views take {} MB, and {} MB are free, of which {} MB must stay so",
                wanted >> 20,
                free >> 20,
                FREE_FLOOR >> 20
            );
            return Err(self.fail(io::Error::new(io::ErrorKind::StorageFull, reason)));
        }
        Ok(())
    }

    /// Appends a record, the features of one view. It can be read after [`FeatureCache::commit`].
    pub(super) fn append(&mut self, key: FeatureKey, features: &[&[f32]]) -> Result<(), CacheError> {
        let mut bytes: Vec<f16> = vec![f16::ZERO; self.record];
        let mut rest = bytes.as_mut_slice();
        for feature in features {
            let (head, tail) = rest.split_at_mut(feature.len());
            head.convert_from_f32_slice(feature);
            rest = tail;
        }
        assert!(rest.is_empty(), "a record of {} values was given fewer", self.record);
        let bytes = bytemuck::cast_slice(&bytes);
        if let Err(source) = self.data.write_all(bytes) {
            // What was not committed goes, so that a full disk has room again.
            let whole = self.data.set_len((2 * self.record * self.records) as u64);
            self.pending.clear();
            return Err(self.fail(whole.err().unwrap_or(source)));
        }
        self.pending.push(key);
        Ok(())
    }

    /// Brings what was appended to the disk and makes it readable.
    pub(super) fn commit(&mut self) -> Result<(), CacheError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.data.sync_data().map_err(|source| self.fail(source))?;
        let bytes: Vec<u8> = self.pending.concat();
        self.keys.write_all(&bytes).map_err(|source| self.fail(source))?;
        for key in std::mem::take(&mut self.pending) {
            self.positions.insert(key, self.records);
            self.records += 1;
        }
        self.remap()
    }

    /// Reads features into `targets`, one slice per feature, in the order of [`FeatureCache::append`].
    ///
    /// # Panics
    /// When the record is not there, or `targets` don't add up to it.
    pub(super) fn read(&self, key: &FeatureKey, targets: &mut [&mut [f32]]) {
        let map = self.map.as_ref().expect("a cache with records is mapped");
        let (start, length) = (2 * self.record * self.positions[key], 2 * self.record);
        let bytes = &map[start..start + length];
        let values: &[f16] = bytemuck::cast_slice(bytes);
        let mut rest = values;
        for target in targets {
            let (head, tail) = rest.split_at(target.len());
            head.convert_to_f32_slice(target);
            rest = tail;
        }
        assert!(rest.is_empty(), "targets hold fewer values than the record");
        give_back(map, start, length);
    }

    #[allow(unsafe_code, reason = "memory-mapping a file is unsafe by nature")]
    fn remap(&mut self) -> Result<(), CacheError> {
        self.map = if self.positions.is_empty() {
            None
        } else {
            // SAFETY: this run holds the lock of the cache, and only ever appends to the file while it
            // is mapped.
            let map = unsafe { Mmap::map(&self.data) };
            Some(map.map_err(|source| self.fail(source))?)
        };
        Ok(())
    }

    fn fail(&self, source: io::Error) -> CacheError {
        CacheError { path: self.folder.clone(), source }
    }
}

/// Pages that were read count as this process's memory, so that a run would seem to grow with its
/// samples. Given back, they stay in the kernel's cache, which has them ready for the next epoch.
#[allow(unsafe_code, reason = "advising the kernel is unsafe where it may change what a map holds")]
fn give_back(map: &Mmap, start: usize, length: usize) {
    // SAFETY: the map is read-only and of a file, so pages that are given back hold the same bytes when
    // they are next looked at.
    let advised = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
    // It is advice: a kernel that does not take it keeps the pages, and nothing else.
    let _ = advised;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_back_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<FeatureKey> = (0_u8..5).map(|i| hash(&[&[i]])).collect();
        let mut cache = FeatureCache::open(folder.path(), 6).unwrap();
        for (i, key) in keys.iter().enumerate() {
            let value = i as f32 + 0.5;
            cache.append(*key, &[&[value; 4], &[-value; 2]]).unwrap();
        }
        cache.commit().unwrap();
        drop(cache);
        let cache = FeatureCache::open(folder.path(), 6).unwrap();
        let (mut first, mut second) = ([0.0; 4], [0.0; 2]);
        cache.read(&keys[3], &mut [&mut first, &mut second]);
        assert_eq!((first, second), ([3.5; 4], [-3.5; 2]));
        assert!(!cache.has(&hash(&[b"other"])));
    }

    #[test]
    fn a_key_that_comes_twice_moves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let [twice, other, later] = [b"twice", b"other", b"later"].map(|name| hash(&[name]));
        let mut cache = FeatureCache::open(folder.path(), 1).unwrap();
        for (key, value) in [(twice, 1.0), (twice, 1.0), (other, 2.0)] {
            cache.append(key, &[&[value]]).unwrap();
        }
        cache.commit().unwrap();
        let value = |cache: &FeatureCache, key| {
            let mut value = [0.0];
            cache.read(key, &mut [&mut value]);
            value[0]
        };
        assert_eq!((value(&cache, &twice), value(&cache, &other)), (1.0, 2.0));
        drop(cache);
        let mut cache = FeatureCache::open(folder.path(), 1).unwrap();
        cache.append(later, &[&[3.0]]).unwrap();
        cache.commit().unwrap();
        let values = [&twice, &other, &later].map(|key| value(&cache, key));
        assert_eq!(values, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_second_run_on_the_same_cache_is_turned_away() {
        let folder = tempfile::tempdir().unwrap();
        let _first = FeatureCache::open(folder.path(), 1).unwrap();
        let error = FeatureCache::open(folder.path(), 1).err().unwrap().to_string();
        assert!(error.contains("another run"), "{error}");
    }

    #[test]
    fn an_interrupted_pass_leaves_whole_records_only() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, lost) = (hash(&[b"kept"]), hash(&[b"lost"]));
        let mut cache = FeatureCache::open(folder.path(), 3).unwrap();
        cache.append(kept, &[&[1.0, 2.0, 3.0]]).unwrap();
        cache.commit().unwrap();
        cache.append(lost, &[&[9.0; 3]]).unwrap();
        drop(cache);
        OpenOptions::new()
            .append(true)
            .open(folder.path().join("keys"))
            .unwrap()
            .write_all(&[1; 20])
            .unwrap();
        let mut cache = FeatureCache::open(folder.path(), 3).unwrap();
        assert!(cache.has(&kept) && !cache.has(&lost));
        cache.append(lost, &[&[4.0, 5.0, 6.0]]).unwrap();
        cache.commit().unwrap();
        let mut values = [0.0; 3];
        cache.read(&lost, &mut [&mut values]);
        assert_eq!(values, [4.0, 5.0, 6.0]);
    }
}
