//! The replay memory: features of earlier runs' samples, kept within a budget of bytes.
//!
//! A model that only ever sees new samples forgets the old ones. Features of a frozen backbone are all
//! that its head needs to see them again (Pellegrini et al., "Latent replay for real-time continual
//! learning", arXiv 1912.01100), so the memory holds those, in 8 bits ([`quantise`]), with the boxes by
//! class *name* and the classes that the picture was labelled for. What stays is decided in
//! `balance.rs`.
//!
//! One file per record, written whole and renamed, so a power cut tears none; a damaged one is reported
//! and removed. Features of one backbone and input size are of no use to another, so each has a folder
//! of its own; the budget spans them all, and records of other backbones go first.

mod balance;
mod record;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::files;

use super::cache::{FREE_FLOOR, folder_name, hash};
use super::quantise;
use balance::{Item, choose};

pub use record::Record;

/// A memory that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("replay memory {}: {source}; {}", path.display(), hint(source))]
pub struct MemoryError {
    path: PathBuf,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::WouldBlock => "wait for it, or name another folder",
        io::ErrorKind::StorageFull => "make room, or give it a smaller budget (memory_mb)",
        io::ErrorKind::InvalidData => "run again: what is damaged is left out then",
        _ => "see that the folder can be written to, or name another",
    }
}

/// An open memory for one backbone and input size.
pub struct Memory {
    root: PathBuf,
    folder: PathBuf,
    /// Channels and values of each feature.
    shapes: Vec<(usize, usize)>,
    budget: u64,
    /// In the order of their keys.
    records: Vec<Record>,
    /// Held as long as the memory is open.
    _lock: File,
}

/// What [`Memory::admit`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Records that came in.
    pub entered: usize,
    /// Records that were there and went.
    pub left: usize,
}

impl Memory {
    /// Opens or makes the memory in `root` for features of these `shapes` (`[1, C, …]` each), made by
    /// the backbone of this hash from an input of this height and width. All of it may take `budget`
    /// bytes. Records that are damaged are removed, with a warning.
    ///
    /// # Errors
    /// [`MemoryError`] when the folder can't be used, or is in use.
    pub fn open(
        root: &Path,
        backbone_hash: &[u8],
        size: (usize, usize),
        shapes: &[Vec<usize>],
        budget: u64,
    ) -> Result<Self, MemoryError> {
        let folder = root.join(folder_name(backbone_hash, size));
        let fail = |source| MemoryError { path: folder.clone(), source };
        files::make_dir(&folder).map_err(fail)?;
        // One lock for all folders, since the budget spans them.
        let lock = File::options().append(true).create(true).open(root.join("lock")).map_err(fail)?;
        files::lock_for_run(&lock).map_err(fail)?;
        let shapes = shapes.iter().map(|shape| (shape[1], shape.iter().product())).collect();
        let mut memory = Memory {
            root: root.to_owned(),
            folder: folder.clone(),
            shapes,
            budget,
            records: Vec::new(),
            _lock: lock,
        };
        memory.load().map_err(fail)?;
        let others: u64 = memory.other_folders().map_err(fail)?.iter().map(|other| other.size).sum();
        if others > 0 {
            tracing::warn!(
                "replay memory {}: {} MB in it are features of another backbone or input size, which this \
                 run can't use; they go when their room is needed",
                root.display(),
                others.div_ceil(1 << 20)
            );
        }
        Ok(memory)
    }

    /// Reads every record once: what fails later has failed since.
    fn load(&mut self) -> io::Result<()> {
        files::sweep(&self.folder)?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if record::is_record(&path) {
                paths.push(path);
            }
        }
        // The order of a folder is the file system's, and a seed must mean the same everywhere.
        paths.sort();
        let n_features = self.encoded_len();
        let read = |path: &PathBuf| -> io::Result<Result<Record, &'static str>> {
            let bytes = fs::read(path)?;
            let found = record::decode(&bytes, n_features).map(|(record, _)| record);
            Ok(found.and_then(|record| match path.ends_with(record::file_name(&record.key)) {
                true => Ok(record),
                false => Err("it has another's name"),
            }))
        };
        for (path, found) in paths.iter().zip(paths.par_iter().map(read).collect::<Vec<_>>()) {
            match found? {
                Ok(record) => self.records.push(record),
                Err(reason) => {
                    tracing::warn!("replay memory: {} is damaged and removed: {reason}", path.display());
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    /// What is in it, in the order of their keys.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Bytes that this backbone's records take.
    pub fn size(&self) -> u64 {
        self.records.iter().map(|record| self.size_of(record)).sum()
    }

    /// Draws `count` of the `usable` records (indices), each once as long as there are as many.
    pub fn sample(usable: &[usize], count: usize, random: &mut impl Rng) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count && !usable.is_empty() {
            let mut rest = usable.to_vec();
            let (chosen, _) = rest.partial_shuffle(random, count - drawn.len());
            drawn.extend_from_slice(chosen);
        }
        drawn
    }

    /// Reads the features of a record into `targets`, one slice per feature.
    ///
    /// # Errors
    /// When the file can't be read, or was damaged since the memory was opened.
    ///
    /// # Panics
    /// When `targets` don't have the memory's shapes.
    pub fn read(&self, record: usize, targets: &mut [&mut [f32]]) -> Result<(), MemoryError> {
        let path = self.folder.join(record::file_name(&self.records[record].key));
        let fail = |source| MemoryError { path: path.clone(), source };
        let bytes = fs::read(&path).map_err(fail)?;
        let (_, mut features) = record::decode(&bytes, self.encoded_len())
            .map_err(|reason| fail(io::Error::new(io::ErrorKind::InvalidData, reason)))?;
        assert_eq!(targets.len(), self.shapes.len(), "one target per feature");
        for (target, &(channels, values)) in targets.iter_mut().zip(&self.shapes) {
            assert_eq!(target.len(), values, "a target holds its feature");
            features = quantise::decode(features, channels, target);
        }
        Ok(())
    }

    /// Offers the samples of a run. Which of them enter and what goes for them is decided by balance
    /// (`balance.rs`); `features` fills in those of a candidate, by index, one slice per feature. A
    /// sample that was there already takes the place of what was kept of it, since its boxes may have
    /// been corrected, and counts as of the run that it first came with; others as of the next run,
    /// whatever the candidates' `run` says.
    ///
    /// # Errors
    /// When something can't be written; the memory on the disk is whole then, though less balanced.
    pub fn admit(
        &mut self,
        candidates: Vec<Record>,
        seed: u64,
        mut features: impl FnMut(usize, &mut [&mut [f32]]),
    ) -> Result<Admission, MemoryError> {
        let next = self.records.iter().map(|record| record.run).max().unwrap_or(0) + 1;
        let mut first_runs: HashMap<[u8; 32], u64> = HashMap::new();
        for record in &self.records {
            let run = first_runs.entry(record.sample).or_insert(record.run);
            *run = record.run.min(*run);
        }
        // The same view twice would be one file, and one that is there already need not be written again.
        let mut seen: HashSet<[u8; 32]> = HashSet::new();
        let same = |old: &Record, new: &Record| {
            (old.key, old.sample, &old.classes, &old.boxes) == (new.key, new.sample, &new.classes, &new.boxes)
        };
        let known = |new: &Record| {
            let place = self.records.binary_search_by_key(&new.key, |old| old.key);
            place.is_ok_and(|place| same(&self.records[place], new))
        };
        let offered: HashSet<[u8; 32]> = candidates.iter().map(|record| record.sample).collect();
        let unchanged: HashSet<[u8; 32]> =
            candidates.iter().filter(|record| known(record)).map(|record| record.key).collect();
        let numbered: Vec<(usize, Record)> = candidates
            .into_iter()
            .enumerate()
            .filter(|(_, record)| seen.insert(record.key) && !unchanged.contains(&record.key))
            .collect();

        let sources: Vec<(usize, Record)> = numbered
            .into_iter()
            .map(|(number, mut record)| {
                record.run = first_runs.get(&record.sample).copied().unwrap_or(next);
                (number, record)
            })
            .collect();
        let stays = |record: &&Record| unchanged.contains(&record.key) || !offered.contains(&record.sample);
        let staying = self.records.iter().filter(stays);
        let items: Vec<Item> = sources
            .iter()
            .map(|(_, record)| record)
            .chain(staying.clone())
            .map(|record| self.item(record, seed))
            .collect();
        let chosen = choose(&items, self.budget);
        let (enter, stay) = chosen.split_at(sources.len());
        let total: u64 =
            items.iter().zip(&chosen).filter(|(_, stays)| **stays).map(|(item, _)| item.size).sum();

        let kept: HashSet<[u8; 32]> =
            staying.zip(stay).filter(|(_, stays)| **stays).map(|(record, _)| record.key).collect();
        let fail = |source| MemoryError { path: self.folder.clone(), source };
        self.make_room(total).map_err(fail)?;
        for record in self.records.iter().filter(|record| !kept.contains(&record.key)) {
            fs::remove_file(self.folder.join(record::file_name(&record.key))).map_err(fail)?;
        }
        let left = self.records.len() - kept.len();
        self.records.retain(|record| kept.contains(&record.key));

        let mut buffers: Vec<Vec<f32>> = self.shapes.iter().map(|&(_, values)| vec![0.0; values]).collect();
        let mut entered = 0;
        for ((number, record), _) in sources.into_iter().zip(enter).filter(|(_, enters)| **enters) {
            let mut targets: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            features(number, &mut targets);
            let mut bytes = Vec::with_capacity(self.encoded_len());
            let encoded = buffers
                .iter()
                .zip(&self.shapes)
                .try_for_each(|(values, &(channels, _))| quantise::encode(values, channels, &mut bytes));
            if let Err(reason) = encoded {
                tracing::warn!("replay memory: a sample is left out: {reason}");
                continue;
            }
            let bytes = record::encode(&record, &bytes);
            let written = self.write(&record.key, &bytes);
            written.map_err(|source| MemoryError { path: self.folder.clone(), source })?;
            let place = self.records.partition_point(|other| other.key < record.key);
            self.records.insert(place, record);
            entered += 1;
        }
        files::sync_dir(&self.folder).map_err(|source| MemoryError { path: self.folder.clone(), source })?;
        Ok(Admission { entered, left })
    }

    /// Bytes of a record's features.
    fn encoded_len(&self) -> usize {
        self.shapes.iter().map(|&(channels, values)| quantise::encoded_len(channels, values)).sum()
    }

    /// Bytes of a record's file.
    fn size_of(&self, record: &Record) -> u64 {
        self.encoded_len() as u64 + record::overhead(record)
    }

    fn item(&self, record: &Record, seed: u64) -> Item {
        let mut classes: Vec<u32> = record.boxes.iter().map(|label| label.class).collect();
        classes.sort_unstable();
        classes.dedup();
        Item {
            classes: classes.into_iter().map(|class| record.classes[class as usize].clone()).collect(),
            run: record.run,
            sample: record.sample,
            tie: hash(&[&seed.to_le_bytes(), &record.key]),
            size: self.size_of(record),
        }
    }

    /// Written beside, synced and renamed: there is the whole record or none.
    fn write(&self, key: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        if let Some(free) = files::free_space(&self.folder).filter(|&f| f < bytes.len() as u64 + FREE_FLOOR) {
            let reason = format!("{} MB are free, of which {} MB must stay so", free >> 20, FREE_FLOOR >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        files::place(&self.folder.join(record::file_name(key)), bytes)
    }

    /// Removes other backbones' records, the folder that was written to least recently first, until
    /// `wanted` bytes of this one's fit into the budget beside what is left of them.
    fn make_room(&self, wanted: u64) -> io::Result<()> {
        let mut others = self.other_folders()?;
        others.sort_by_key(|other| other.modified);
        let mut total: u64 = wanted + others.iter().map(|other| other.size).sum::<u64>();
        for other in others {
            if total <= self.budget {
                break;
            }
            tracing::warn!(
                "replay memory: {} ({} MB of features of another backbone or input size) makes room",
                other.path.display(),
                other.size.div_ceil(1 << 20)
            );
            for record in other.records {
                fs::remove_file(record)?;
            }
            // Whatever else lies there is somebody's.
            let _ = fs::remove_dir(&other.path);
            total -= other.size;
        }
        Ok(())
    }

    fn other_folders(&self) -> io::Result<Vec<OtherFolder>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            if !path.is_dir() || path == self.folder {
                continue;
            }
            let modified = path.metadata()?.modified()?;
            let mut other = OtherFolder { path, modified, size: 0, records: Vec::new() };
            for entry in fs::read_dir(&other.path)? {
                let entry = entry?;
                if record::is_record(&entry.path()) {
                    other.size += entry.metadata()?.len();
                    other.records.push(entry.path());
                }
            }
            others.push(other);
        }
        others.retain(|other| other.size > 0);
        Ok(others)
    }
}

/// Records of another backbone or input size.
struct OtherFolder {
    path: PathBuf,
    modified: SystemTime,
    size: u64,
    records: Vec<PathBuf>,
}
