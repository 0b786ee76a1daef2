//! Numbered slots, each with a model and its record, and `current.onnx`.
//!
//! `current.onnx` is a symbolic link to a slot's file, so that a switch is one rename: whoever opens it
//! finds a whole model, the old one or the new.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::files::PASSING;

use super::sample::milliseconds;
use super::{StoreError, blobs, durable, sealed};

/// Slots that are kept besides the base, the current one and the one before it.
const KEEP: usize = 10;

/// What is known of a model when it is put into a slot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Its class names.
    pub classes: Vec<String>,
    /// sha256 of the model that it was trained from; none for the base.
    pub base: Option<String>,
    /// The model before it on the hold-out.
    pub before: Option<Value>,
    /// It itself on the hold-out.
    pub after: Option<Value>,
    /// What it was trained on, in words.
    pub trained_on: Option<String>,
    /// What the gate said.
    pub reason: Option<String>,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number; 0 is the base.
    pub slot: u32,
    /// Of the model's file.
    pub sha256: String,
    /// When it was filled, milliseconds since 1970.
    pub created_ms: u64,
    /// The slot that was current before this one became so.
    pub replaced: Option<u32>,
    /// What is known of the model.
    #[serde(flatten)]
    pub record: SlotRecord,
}

/// The slots of a device.
#[derive(Debug)]
pub struct Models {
    dir: PathBuf,
}

impl Models {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        durable::sweep(dir)?;
        let models = Models::new(dir);
        // What is told from here on must survive a power cut, also where a process was killed before it had
        // brought it to the disk.
        models.numbers()?.into_iter().try_for_each(|slot| durable::sync_dir(&models.folder(slot)))?;
        durable::sync_dir(dir)?;
        Ok(models)
    }

    /// The slots as they lie there.
    pub(super) fn new(dir: &Path) -> Self {
        Models { dir: dir.to_owned() }
    }

    /// The file that always holds the current model.
    pub fn current_path(&self) -> PathBuf {
        self.dir.join("current.onnx")
    }

    /// A slot's model file.
    pub fn model_path(&self, slot: u32) -> PathBuf {
        self.folder(slot).join("model.onnx")
    }

    /// The current slot; none before the first [`Models::promote`].
    ///
    /// # Errors
    /// When the slot can't be read.
    pub fn current(&self) -> Result<Option<Slot>, StoreError> {
        let path = self.current_path();
        let target = match fs::read_link(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(path)(error)),
        };
        let number = target.parent().and_then(|folder| folder.to_str()?.parse().ok());
        let slot = number
            .ok_or_else(|| StoreError::Damaged(format!("{} -> {}", path.display(), target.display())))?;
        self.read(slot).map(Some)
    }

    /// Every slot, in order.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn list(&self) -> Result<Vec<Slot>, StoreError> {
        self.numbers()?.into_iter().map(|slot| self.read(slot)).collect()
    }

    /// Puts a model into the next slot and makes it current. A power cut leaves the old model current
    /// or the new one, never none.
    ///
    /// # Errors
    /// When the disk fails; the old model stays current then.
    pub fn promote(&self, model: &[u8], record: SlotRecord) -> Result<Slot, StoreError> {
        let replaced = self.current()?.map(|slot| slot.slot);
        let number = self.numbers()?.last().map_or(0, |last| last + 1);
        let slot = Slot {
            slot: number,
            sha256: sha256(model),
            created_ms: milliseconds(SystemTime::now()),
            replaced,
            record,
        };
        let staging = tempfile::Builder::new()
            .prefix(PASSING)
            .tempdir_in(&self.dir)
            .map_err(StoreError::io(&self.dir))?;
        durable::write(&staging.path().join("model.onnx"), model)?;
        write_record(staging.path(), &slot)?;
        let folder = self.folder(number);
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(staging.path(), open).map_err(StoreError::io(staging.path()))?;
        fs::rename(staging.keep(), &folder).map_err(StoreError::io(&folder))?;
        durable::sync_dir(&self.dir)?;
        self.switch(number)?;
        if let Err(error) = self.prune(&slot) {
            // The switch is done; old slots that stay cost room and nothing else.
            tracing::warn!("old slots stay: {error}");
        }
        Ok(slot)
    }

    /// Makes a slot current that is there already.
    ///
    /// # Errors
    /// When there is no such slot or the disk fails.
    pub fn activate(&self, number: u32) -> Result<Slot, StoreError> {
        let mut slot = self.read(number)?;
        let current = self.current()?.map(|slot| slot.slot);
        if current != Some(number) {
            slot.replaced = current;
            write_record(&self.folder(number), &slot)?;
            self.switch(number)?;
        }
        Ok(slot)
    }

    /// Makes the slot current that was so before the current one.
    ///
    /// # Errors
    /// When there was none, or the disk fails.
    pub fn rollback(&self) -> Result<Slot, StoreError> {
        let current = self.current()?.ok_or(StoreError::NoModel)?;
        let slot = self.read(current.replaced.ok_or(StoreError::NothingBefore(current.slot))?)?;
        self.switch(slot.slot)?;
        Ok(slot)
    }

    fn switch(&self, slot: u32) -> Result<(), StoreError> {
        let staging = tempfile::Builder::new()
            .prefix(PASSING)
            .tempdir_in(&self.dir)
            .map_err(StoreError::io(&self.dir))?;
        let link = staging.path().join("link");
        symlink(Path::new(&name(slot)).join("model.onnx"), &link).map_err(StoreError::io(&link))?;
        let current = self.current_path();
        fs::rename(&link, &current).map_err(StoreError::io(&current))?;
        durable::sync_dir(&self.dir)
    }

    /// Removes the oldest slots that nobody goes back to.
    fn prune(&self, current: &Slot) -> Result<(), StoreError> {
        let old: Vec<u32> = self
            .numbers()?
            .into_iter()
            .filter(|&slot| slot != 0 && slot != current.slot && Some(slot) != current.replaced)
            .collect();
        for &slot in &old[..old.len().saturating_sub(KEEP)] {
            // Renamed first, so that what a kill leaves of it is swept and not taken for a slot.
            let (folder, gone) = (self.folder(slot), self.dir.join(format!("{}old-{}", PASSING, name(slot))));
            fs::rename(&folder, &gone).map_err(StoreError::io(folder))?;
            fs::remove_dir_all(&gone).map_err(StoreError::io(gone))?;
        }
        Ok(())
    }

    pub(super) fn numbers(&self) -> Result<Vec<u32>, StoreError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io(&self.dir))? {
            let entry = entry.map_err(StoreError::io(&self.dir))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn read(&self, slot: u32) -> Result<Slot, StoreError> {
        let path = self.folder(slot).join("slot.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::NoSlot { slot, slots: self.numbers()? });
            }
            Err(error) => return Err(StoreError::io(path)(error)),
        };
        sealed::read(&bytes).map_err(|reason| StoreError::Damaged(format!("{}: {reason}", path.display())))
    }

    fn folder(&self, slot: u32) -> PathBuf {
        self.dir.join(name(slot))
    }
}

/// Of a model's file.
pub(super) fn sha256(model: &[u8]) -> String {
    blobs::hex(&Sha256::digest(model))
}

fn name(slot: u32) -> String {
    format!("{slot:04}")
}

fn write_record(folder: &Path, slot: &Slot) -> Result<(), StoreError> {
    durable::write(&folder.join("slot.json"), &sealed::write(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> (tempfile::TempDir, Models) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let models = Models::open(dir.path()).expect("models");
        (dir, models)
    }

    fn content(models: &Models) -> Vec<u8> {
        fs::read(models.current_path()).expect("a current model")
    }

    #[test]
    fn promotion_and_rollback_switch_the_current_file() {
        let (_dir, models) = models();
        assert_eq!(models.current().expect("readable"), None);
        for model in [b"base", b"one!", b"two!"] {
            models.promote(model, SlotRecord::default()).expect("promoted");
            assert_eq!(content(&models), model);
        }
        // Whoever may enter the state directory may read the models in it.
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&models.current_path()), 0o644);
        assert_eq!(mode(models.model_path(2).parent().expect("a folder")), 0o755);
        assert_eq!(models.rollback().expect("rolled back").slot, 1);
        assert_eq!(content(&models), b"one!");
        assert_eq!(models.activate(2).expect("there").slot, 2);
        assert_eq!(models.rollback().expect("rolled back").slot, 1);
        assert_eq!(models.rollback().expect("rolled back").slot, 0);
        assert!(matches!(models.rollback(), Err(StoreError::NothingBefore(0))));
        assert!(matches!(models.activate(9), Err(StoreError::NoSlot { slot: 9, .. })));
        assert_eq!(content(&models), b"base");
    }

    #[test]
    fn what_a_cut_promotion_left_is_swept_and_the_old_model_stays() {
        let (dir, models) = models();
        models.promote(b"base", SlotRecord::default()).expect("promoted");
        // Cut while staging; cut between the slot's rename and the switch.
        fs::create_dir(dir.path().join(".new-half")).expect("a folder");
        fs::write(dir.path().join(".new-half/model.onnx"), b"ha").expect("a file");
        let slot =
            Slot { slot: 1, replaced: Some(0), ..models.current().expect("readable").expect("a slot") };
        fs::create_dir(dir.path().join("0001")).expect("a folder");
        fs::write(dir.path().join("0001/model.onnx"), b"whole").expect("a file");
        write_record(&dir.path().join("0001"), &slot).expect("a record");
        let models = Models::open(dir.path()).expect("models");
        assert!(!dir.path().join(".new-half").exists());
        assert_eq!(content(&models), b"base");
        let next = models.promote(b"next", SlotRecord::default()).expect("promoted");
        assert_eq!((next.slot, next.replaced), (2, Some(0)));
        assert_eq!(content(&models), b"next");
    }

    #[test]
    fn old_slots_go_but_never_the_base_the_current_or_the_one_before() {
        let (_dir, models) = models();
        for model in 0..20u8 {
            models.promote(&[model], SlotRecord::default()).expect("promoted");
        }
        let numbers = models.numbers().expect("readable");
        assert_eq!(numbers.len(), KEEP + 3);
        assert!([0, 18, 19].iter().all(|slot| numbers.contains(slot)));
    }
}
