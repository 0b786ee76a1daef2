//! The feature cache: what the backbone made of each view, once, as float16 on disk.
//!
//! One folder per (backbone, input size) holds two flat files of slots: `features.f16`, records of equal
//! length one after another, and `keys`, the 32-byte key of each record in the same order, zeros where a
//! slot is free. Records are read through a memory map. Everything here can be made again, so a file
//! that does not fit is thrown away; keys are written after their records are on the disk, and taken
//! away before their slots are used again. One run at a time uses a cache: it holds a lock on `keys`.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::{Mmap, UncheckedAdvice};
use rustix::fs::FallocateFlags;
use sha2::{Digest, Sha256};

use crate::files;

/// Must stay free on the disk beside what runs keep there, bytes.
pub(super) const FREE_FLOOR: u64 = 256 << 20;

/// A page fault brings neighbours along, up to so many bytes on either side (Linux' `fault_around_bytes`).
const FAULT_AROUND: usize = 64 << 10;

/// Where no record is.
const FREE: FeatureKey = [0; 32];

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

/// The folder for what is of use to this backbone at this input size alone (height and width).
pub(super) fn folder_name(backbone_hash: &[u8], (height, width): (usize, usize)) -> String {
    let hash: String = backbone_hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}-{height}x{width}")
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
            "make room (this folder may be emptied between runs), or raise cache_mb"
        }
        _ => "free some space or name another folder",
    }
}

/// An open cache for one backbone and input size.
pub(super) struct FeatureCache {
    folder: PathBuf,
    /// Values in one record: all features of a view, one after another.
    record: usize,
    /// The key in each slot, oldest first; [`FREE`] where none is. A key that was appended twice names its
    /// last slot.
    slots: Vec<FeatureKey>,
    /// Free slots.
    free: Vec<usize>,
    positions: HashMap<FeatureKey, usize>,
    data: File,
    keys: File,
    map: Option<Mmap>,
    /// Records written but not yet named in `keys`.
    pending: Vec<(FeatureKey, usize)>,
}

impl FeatureCache {
    /// Opens or makes the cache in `folder` for records of `record` values.
    pub(super) fn open(folder: &Path, record: usize) -> Result<Self, CacheError> {
        let fail = |source| CacheError { path: folder.to_owned(), source };
        // The run's checkpoint lies here too, which a power cut must not take with the folder.
        files::make_dir(folder).map_err(fail)?;
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(folder.join(name)).map_err(fail)
        };
        let (data, mut keys) = (open("features.f16")?, open("keys")?);
        files::lock_for_run(&keys).map_err(fail)?;
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
        let slots = named[..n_whole].to_vec();
        let is_free = |slot: &usize| slots[*slot] == FREE;
        let mut cache = FeatureCache {
            folder: folder.to_owned(),
            record,
            free: (0..n_whole).filter(is_free).collect(),
            positions: (0..n_whole).filter(|slot| !is_free(slot)).map(|slot| (slots[slot], slot)).collect(),
            slots,
            data,
            keys,
            map: None,
            pending: Vec::new(),
        };
        cache.remap()?;
        Ok(cache)
    }

    /// How many records may lie here when features may take `budget` bytes of a disk that must not fill.
    pub(super) fn capacity(&self, budget: u64) -> usize {
        let record = self.record_bytes();
        let own = record * self.positions.len() as u64;
        let free = files::free_space(&self.folder).unwrap_or(u64::MAX);
        (budget.min((own + free).saturating_sub(FREE_FLOOR)) / record) as usize
    }

    /// Bytes of one record on the disk.
    pub(super) fn record_bytes(&self) -> u64 {
        2 * self.record as u64
    }

    /// Frees the oldest records that are not `wanted`, until all that are wanted fit into `capacity`.
    /// Gives how many went.
    pub(super) fn make_room(
        &mut self,
        wanted: &HashSet<FeatureKey>,
        capacity: usize,
    ) -> Result<usize, CacheError> {
        let missing = wanted.iter().filter(|key| !self.has(key)).count();
        let too_many = (self.positions.len() + missing).saturating_sub(capacity);
        let mut victims: Vec<usize> = (0..self.slots.len())
            .filter(|&slot| self.slots[slot] != FREE && !wanted.contains(&self.slots[slot]))
            .collect();
        victims.truncate(too_many);
        if victims.is_empty() {
            return Ok(0);
        }
        for &slot in &victims {
            self.positions.remove(&std::mem::replace(&mut self.slots[slot], FREE));
            self.keys.write_all_at(&FREE, 32 * slot as u64).map_err(|source| self.fail(source))?;
        }
        // A slot that is written again must not bear its old name after a power cut.
        self.keys.sync_data().map_err(|source| self.fail(source))?;
        for &slot in &victims {
            // Where a file system knows no holes the slot is used again all the same.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let start = self.record_bytes() * slot as u64;
            let _ = rustix::fs::fallocate(&self.data, flags, start, self.record_bytes());
        }
        self.free.extend(&victims);
        Ok(victims.len())
    }

    /// Whether the features of this view are there.
    pub(super) fn has(&self, key: &FeatureKey) -> bool {
        self.positions.contains_key(key)
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
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(FREE);
            self.slots.len() - 1
        });
        self.pending.push((key, slot));
        let at = self.record_bytes() * slot as u64;
        if let Err(source) = self.data.write_all_at(bytemuck::cast_slice(&bytes), at) {
            // What was not committed goes, so that a full disk has room again.
            let unnamed = std::mem::take(&mut self.pending);
            let named = self.slots.iter().rposition(|key| *key != FREE).map_or(0, |last| last + 1);
            self.free.extend(unnamed.iter().map(|&(_, slot)| slot));
            self.free.retain(|&slot| slot < named);
            self.slots.truncate(named);
            let whole = self.data.set_len(self.record_bytes() * named as u64);
            return Err(self.fail(whole.err().unwrap_or(source)));
        }
        Ok(())
    }

    /// Brings what was appended to the disk and makes it readable.
    pub(super) fn commit(&mut self) -> Result<(), CacheError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.data.sync_data().map_err(|source| self.fail(source))?;
        for (key, slot) in std::mem::take(&mut self.pending) {
            self.keys.write_all_at(&key, 32 * slot as u64).map_err(|source| self.fail(source))?;
            self.slots[slot] = key;
            self.positions.insert(key, slot);
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
        let first = start.saturating_sub(FAULT_AROUND);
        give_back(map, first, (start + length + FAULT_AROUND).min(map.len()) - first);
    }

    #[allow(unsafe_code, reason = "memory-mapping a file is unsafe by nature")]
    fn remap(&mut self) -> Result<(), CacheError> {
        self.map = if self.positions.is_empty() {
            None
        } else {
            // SAFETY: this run holds the lock of the cache, never shortens the file below a named record
            // while it is mapped, and writes only to slots that no key names and nobody reads.
            let map = unsafe { Mmap::map(&self.data) };
            Some(map.map_err(|source| self.fail(source))?)
        };
        Ok(())
    }

    /// Why a run can't begin: not even a handful of records fits.
    pub(super) fn too_small(&self, capacity: usize) -> CacheError {
        let reason = format!(
            "features of a view take {} MB, and there is room for {capacity} of them ({} MB of the disk must \
             stay free)",
            self.record_bytes().div_ceil(1 << 20),
            FREE_FLOOR >> 20
        );
        self.fail(io::Error::new(io::ErrorKind::StorageFull, reason))
    }

    fn fail(&self, source: io::Error) -> CacheError {
        CacheError { path: self.folder.clone(), source }
    }
}

/// Deletes caches of other backbones and sizes beside `folder`, the longest unused first, until they take
/// no more than `budget` bytes. One that a run is using stays.
pub(super) fn prune_beside(folder: &Path, budget: u64) -> io::Result<()> {
    let Some(root) = folder.parent() else { return Ok(()) };
    let mut others = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        let (Ok(keys), Ok(data)) = (path.join("keys").metadata(), path.join("features.f16").metadata())
        else {
            continue;
        };
        if path != folder {
            // Holes take no room, so blocks are counted.
            others.push((keys.modified()?, 512 * std::os::unix::fs::MetadataExt::blocks(&data), path));
        }
    }
    others.sort();
    let mut total: u64 = others.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in others {
        if total <= budget {
            break;
        }
        let keys = File::open(path.join("keys"))?;
        if keys.try_lock().is_ok() {
            std::fs::remove_dir_all(&path)?;
            total -= bytes;
            tracing::info!("features in {} go: {} MB", path.display(), bytes >> 20);
        }
    }
    Ok(())
}

/// Removes what a killed run left in the folder that the cache in `folder` lies in: a checkpoint that had
/// not come to its place. While another run works there it may be about to, and all stays.
pub(super) fn sweep_beside(folder: &Path) -> io::Result<()> {
    let Some(root) = folder.parent() else { return Ok(()) };
    // To look whether another run works is to hold its lock for a moment, so not without need.
    if !files::has_leftovers(root)? {
        return Ok(());
    }
    let is_in_use =
        |cache: &Path| File::open(cache.join("keys")).is_ok_and(|keys| files::lock_for_run(&keys).is_err());
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path != folder && is_in_use(&path) {
            return Ok(());
        }
    }
    files::sweep(root)
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
    fn the_oldest_that_nobody_wants_makes_room_and_its_slot_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<FeatureKey> = (0_u8..6).map(|i| hash(&[&[i]])).collect();
        let mut cache = FeatureCache::open(folder.path(), 2048).unwrap();
        let record = |i: usize| vec![i as f32; 2048];
        for (i, key) in keys.iter().enumerate().take(4) {
            cache.append(*key, &[&record(i)]).unwrap();
        }
        cache.commit().unwrap();
        // Records 1, 2 and 5 are wanted, three fit: 0 and 3 must go.
        let wanted = HashSet::from([keys[1], keys[2], keys[5]]);
        assert_eq!(cache.make_room(&wanted, 3).unwrap(), 2);
        cache.append(keys[5], &[&record(5)]).unwrap();
        cache.commit().unwrap();
        drop(cache);
        let length = folder.path().join("features.f16").metadata().unwrap().len();
        assert_eq!(length, 4 * 2 * 2048, "no slot was added");
        let mut cache = FeatureCache::open(folder.path(), 2048).unwrap();
        let there: Vec<bool> = keys.iter().map(|key| cache.has(key)).collect();
        assert_eq!(there, [false, true, true, false, false, true]);
        for i in [1, 2, 5] {
            let mut values = vec![0.0; 2048];
            cache.read(&keys[i], &mut [&mut values]);
            assert_eq!(values, record(i));
        }
        // What fits stays, wanted or not.
        assert_eq!(cache.make_room(&HashSet::new(), 3).unwrap(), 0);
    }

    #[test]
    fn caches_of_other_backbones_go_when_they_take_too_much() {
        let root = tempfile::tempdir().unwrap();
        let fill = |name: &str| {
            let mut cache = FeatureCache::open(&root.path().join(name), 1 << 16).unwrap();
            cache.append(hash(&[b"k"]), &[&vec![1.0; 1 << 16]]).unwrap();
            cache.commit().unwrap();
            cache
        };
        drop(fill("old"));
        let used = fill("used");
        drop(fill("own"));
        prune_beside(&root.path().join("own"), 1 << 20).unwrap();
        assert!(root.path().join("old").exists(), "there is room for it");
        prune_beside(&root.path().join("own"), 0).unwrap();
        let exists = ["old", "used", "own"].map(|name| root.path().join(name).exists());
        assert_eq!(exists, [false, true, true]);
        drop(used);
    }

    #[test]
    fn what_a_killed_run_left_goes_unless_another_run_works_beside() {
        let root = tempfile::tempdir().unwrap();
        let [left, checkpoint] = [".new-x1y2z3", "run.checkpoint"].map(|name| root.path().join(name));
        for path in [&left, &checkpoint] {
            std::fs::write(path, b"half an epoch").unwrap();
        }
        let own = root.path().join("own");
        let _own = FeatureCache::open(&own, 1).unwrap();
        let other = FeatureCache::open(&root.path().join("other"), 1).unwrap();
        sweep_beside(&own).unwrap();
        assert!(left.exists(), "the other run may have written it");
        drop(other);
        sweep_beside(&own).unwrap();
        assert!(!left.exists() && checkpoint.exists());
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
        use std::io::Write;
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
