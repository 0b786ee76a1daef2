//! What somebody who wrote a key that there is not may have meant.

use super::keys::{KEYS, Key, TABLES};

/// What is nearest to a name that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// This key.
    Key(&'static Key),
    /// A key in this table.
    Table(&'static str),
    /// Nobody knows; the table that was written is one.
    NoneOf(&'static str),
    /// Nobody knows, and there is no such table.
    Nothing,
}

/// What `name`, with its tables, may mean.
pub(super) fn meant(name: &str) -> Meant {
    let name = name.to_lowercase().replace('-', "_");
    let (table, last) = name.rsplit_once('.').unwrap_or(("", &name));
    let known = TABLES.iter().map(|(table, _)| *table).find(|known| *known == table);
    let here = known.and_then(|table| nearest(last, keys_of(table)));
    // The same name in another table is more than a similar one in this.
    let same = KEYS.iter().find(|key| key.parted().1 == last);
    if let Some(key) = here.filter(|key| key.parted().1 == last).or(same) {
        return Meant::Key(key);
    }
    let tables = TABLES.iter().map(|(table, _)| *table).filter(|table| !table.is_empty());
    if known.is_none() {
        let table = nearest_of(table, tables, |table| table);
        return match table.map(|table| (table, nearest(last, keys_of(table)))) {
            Some((_, Some(key))) => Meant::Key(key),
            Some((table, None)) => Meant::Table(table),
            None => Meant::Nothing,
        };
    }
    if let Some(key) = here.or_else(|| nearest(last, KEYS.iter())) {
        return Meant::Key(key);
    }
    known.map_or(Meant::Nothing, Meant::NoneOf)
}

/// The table that is meant by a name of none.
pub(super) fn meant_table(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    nearest_of(&name, TABLES.iter().map(|(table, _)| *table).filter(|table| !table.is_empty()), |table| table)
}

/// The keys of a table.
pub(super) fn keys_of(table: &'static str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.parted().0 == table && key.instead.is_none())
}

fn nearest(word: &str, keys: impl Iterator<Item = &'static Key>) -> Option<&'static Key> {
    nearest_of(word, keys, |key| key.parted().1)
}

/// The nearest, if it is near: a slip of the finger or two away, or the same beginning.
fn nearest_of<T: Copy>(
    word: &str,
    candidates: impl Iterator<Item = T>,
    name: impl Fn(T) -> &'static str,
) -> Option<T> {
    let near = candidates.filter_map(|candidate| {
        let known = name(candidate);
        let slips = strsim::osa_distance(word, known);
        let alike = strsim::jaro_winkler(word, known);
        let few = slips <= 1 + word.chars().count().min(known.chars().count()) / 5;
        (few || alike > 0.87).then_some((candidate, alike - slips as f64))
    });
    near.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(candidate, _)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_told() {
        for (written, key) in [
            ("camera.fsp", "camera.fps"),
            ("train.epoch", "train.epochs"),
            ("mqtt.brokre", "mqtt.broker"),
            ("store.max-mb", "store.max_mb"),
            ("store.max_mbytes", "store.max_mb"),
            ("camera.FPS", "camera.fps"),
            ("stat_dir", "state_dir"),
            ("camra.fps", "camera.fps"),
            ("cam.sorce", "camera.source"),
            // In another table.
            ("camera.epochs", "train.epochs"),
            ("mqtt.state_dir", "state_dir"),
            ("fps", "camera.fps"),
            ("camera.epoch", "train.epochs"),
        ] {
            let Meant::Key(found) = meant(written) else { panic!("{written}: {:?}", meant(written)) };
            assert_eq!(found.name, key, "{written}");
        }
    }

    #[test]
    fn what_is_far_from_all_is_no_guess() {
        assert_eq!(meant("camera.zoological"), Meant::NoneOf("camera"));
        assert_eq!(meant("zoo.keeper"), Meant::Nothing);
        assert_eq!(meant("camrea.zoological"), Meant::Table("camera"));
        assert_eq!(meant_table("trian"), Some("train"));
        assert_eq!(meant_table("zoo"), None);
    }
}
