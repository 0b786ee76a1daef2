//! What kept frames looked like, found again after a restart.

use crate::detect::Detector;
use crate::select::{KeptLook, Selector};
use crate::store::{Looks, SampleId, Store};

use super::names::Names;

/// Tells the selector what was kept before; the file that goes on from there, if the disk gives one.
pub(super) fn open(
    store: &Store,
    detector: &Detector,
    names: &Names,
    selector: &mut Selector,
) -> Option<Looks> {
    let path = store.features_dir().join("looks");
    match Looks::open(&path, detector.features_key()) {
        Ok((looks, before)) => {
            for (id, bytes) in before {
                // A sample that is gone, or can't be read, need not keep its like away.
                let Ok(sample) = store.samples().get(id) else { continue };
                if let Some(look) = KeptLook::from_bytes(&bytes) {
                    let found = sample.found.iter().filter_map(|found| names.of_model(found.label.class));
                    let mut classes: Vec<u32> = found.collect();
                    classes.sort_unstable();
                    classes.dedup();
                    selector.remember(look, &classes);
                }
            }
            Some(looks)
        }
        Err(error) => {
            tracing::warn!("what kept frames look like is not remembered: {}: {error}", path.display());
            None
        }
    }
}

/// Remembers a kept frame. One that can't be is kept all the same.
pub(super) fn remember(looks: &mut Option<Looks>, id: SampleId, seen: &KeptLook) {
    let Some(file) = looks else { return };
    if let Err(error) = file.push(id, &seen.to_bytes()) {
        tracing::warn!("what sample {id} looks like is not remembered: {error}; nor are those after it");
        *looks = None;
    }
}
