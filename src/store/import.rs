//! Takes data sets of other programs into the store, and gives its samples out.

use std::collections::HashMap;
use std::fs;

use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dataset::{Collection, Entry, Fault, Item, Split, Told};
use crate::label::{LabelBox, Provenance};
use crate::picture::{self, Picture};

use super::classes::names_of;
use super::sample::{Interest, Labels, NewLabels, NewSample, Sample, SampleId};
use super::{Samples, StoreError};

/// A picture's file may be so large, bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Coordinates that are nearer to each other than this are the same, in shares of the picture.
const SAME: f32 = 1e-6;

/// What became of a data set.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Imported {
    /// Pictures that were not in the store yet.
    pub added: u64,
    /// Pictures that were there and are labelled now, or otherwise than before.
    pub labelled: u64,
    /// Pictures that were there with the same labels.
    pub unchanged: u64,
    /// Pictures whose labels a person had given before and differ: those stay.
    pub kept: u64,
    /// Classes that the store did not have.
    pub new_classes: Vec<String>,
    /// What could not be read.
    pub faults: Vec<Fault>,
}

impl Samples {
    /// Takes a data set in: what can be read goes in, the rest is listed. Done twice it changes nothing.
    /// Its validation part becomes hold-out; where it has no parts, `share` of it does. `progress` is called
    /// after each picture.
    ///
    /// # Errors
    /// When there is no room or the disk fails; what went in before stays.
    pub fn import(
        &self,
        collection: Collection,
        share: f64,
        mut progress: impl FnMut(),
    ) -> Result<Imported, StoreError> {
        let Collection { classes: names, entries, faults } = collection;
        let mut imported = Imported { faults, ..Imported::default() };
        let mut known_names = self.class_names()?;
        // A class that has been renamed since is the same class.
        let names: Vec<String> = names.iter().map(|name| known_names.today(name).to_owned()).collect();
        for name in &names {
            if !known_names.classes.contains(name) {
                known_names.classes.push(name.clone());
                imported.new_classes.push(name.clone());
            }
        }
        if !imported.new_classes.is_empty() {
            self.set_class_names(&known_names)?;
        }
        let classes = &known_names.classes;
        let mut known: HashMap<String, SampleId> = HashMap::new();
        for sample in self.iter() {
            let sample = sample?;
            known.insert(sample.frame, sample.id);
        }
        let number = |name: &String| {
            let today = known_names.today(name);
            classes.iter().position(|known| known == today).map(|index| index as u32)
        };
        let numbers: Vec<u32> = names.iter().filter_map(number).collect();
        for entry in entries {
            let labels = labels_of(&entry, &numbers, &number);
            match self.take_in(entry, labels, &mut known, share, &mut imported) {
                Ok(()) => {}
                Err(Refused::Entry(fault)) => imported.faults.push(fault),
                Err(Refused::Store(error)) => return Err(error),
            }
            progress();
        }
        Ok(imported)
    }

    fn take_in(
        &self,
        entry: Entry,
        labels: NewLabels,
        known: &mut HashMap<String, SampleId>,
        share: f64,
        imported: &mut Imported,
    ) -> Result<(), Refused> {
        let fault =
            |message: String| Refused::Entry(Fault { path: entry.picture.clone(), line: None, message });
        let size = fs::metadata(&entry.picture).map_err(|error| fault(error.to_string()))?.len();
        if size > MAX_FILE {
            return Err(fault(format!("{} MB are too large for a frame", size >> 20)));
        }
        let bytes = fs::read(&entry.picture).map_err(|error| fault(error.to_string()))?;
        let frame = Samples::frame_name(&bytes);
        if let Some(&id) = known.get(&frame) {
            let sample = self.get(id)?;
            match sample.labels.as_ref() {
                Some(old) if is_same(old, &labels) => imported.unchanged += 1,
                Some(old) if old.provenance == Provenance::Human => imported.kept += 1,
                Some(old) if old.provenance.is_truth() && !labels.provenance.is_truth() => imported.kept += 1,
                Some(_) => {
                    // It stays in the part that it is in.
                    self.label(id, NewLabels { holdout: None, ..labels }, share)?;
                    imported.labelled += 1;
                }
                None => {
                    self.label(id, labels, share)?;
                    imported.labelled += 1;
                }
            }
            return Ok(());
        }
        if picture::whole(&bytes).is_err() {
            return Err(fault("the file ends in the middle of the picture; copy it again".into()));
        }
        let picture = Picture::decode(&bytes).map_err(|error| fault(error.to_string()))?;
        let (width, height) = (picture.width(), picture.height());
        if let Some(told) = entry.size.filter(|&told| told != (width, height)) {
            return Err(fault(format!(
                "it is {width}×{height}, and its labels are for {}×{}",
                told.0, told.1
            )));
        }
        let name = entry.picture.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let taken = entry.told.taken_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
        let new = NewSample {
            width,
            height,
            taken: taken.unwrap_or_else(SystemTime::now),
            source: entry.told.source.unwrap_or(name),
            why: entry.told.why.unwrap_or_else(|| "imported".into()),
            interest: Interest::Asked,
            found: Vec::new(),
        };
        let sample = self.add(&bytes, new)?;
        known.insert(frame, sample.id);
        self.label(sample.id, labels, share)?;
        imported.added += 1;
        Ok(())
    }

    /// A labelled sample as a data set has it; none for one without labels that count as truth.
    ///
    /// # Errors
    /// When its frame can't be read.
    pub fn give_out(&self, sample: Sample) -> Result<Option<Item>, StoreError> {
        let path = self.frame_path(&sample);
        let Some(labels) = sample.labels.filter(|labels| labels.provenance.is_truth()) else {
            return Ok(None);
        };
        let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
        let extension = sample.frame.rsplit('.').next().unwrap_or("jpg");
        let covers = labels
            .covers
            .map(|numbers| Ok::<_, StoreError>(names_of(&numbers, &self.classes()?)))
            .transpose()?;
        Ok(Some(Item {
            name: format!("{}.{extension}", sample.id),
            bytes,
            size: (sample.width, sample.height),
            boxes: labels.boxes,
            holdout: labels.holdout,
            told: Told {
                provenance: Some(labels.provenance),
                covers,
                holdout: Some(labels.holdout),
                taken_ms: Some(sample.taken_ms),
                source: Some(sample.source),
                why: Some(sample.why),
            },
        }))
    }
}

/// Why a picture did not go in.
enum Refused {
    /// For a reason of its own; the others go on.
    Entry(Fault),
    /// The store takes nothing more.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Store(error)
    }
}

/// An entry's labels in the store's classes. `numbers` are those of the collection's classes.
fn labels_of(entry: &Entry, numbers: &[u32], number: &impl Fn(&String) -> Option<u32>) -> NewLabels {
    let boxes =
        entry.boxes.iter().map(|label| LabelBox { class: numbers[label.class as usize], ..*label }).collect();
    let covers = entry.told.covers.as_ref().map(|covers| covers.iter().filter_map(number).collect());
    NewLabels {
        boxes,
        covers,
        provenance: entry.told.provenance.unwrap_or(Provenance::Import),
        holdout: entry.split.map(|split| split != Split::Train).or(entry.told.holdout),
    }
}

fn is_same(old: &Labels, new: &NewLabels) -> bool {
    let close = |a: &LabelBox, b: &LabelBox| {
        let pairs = [(a.cx, b.cx), (a.cy, b.cy), (a.w, b.w), (a.h, b.h)];
        a.class == b.class && pairs.iter().all(|(a, b)| (a - b).abs() <= SAME)
    };
    let mut covers = new.covers.clone();
    covers.iter_mut().for_each(|covers| covers.sort_unstable());
    old.provenance == new.provenance
        && old.covers == covers
        && old.boxes.len() == new.boxes.len()
        && old.boxes.iter().all(|a| new.boxes.iter().any(|b| close(a, b)))
}
