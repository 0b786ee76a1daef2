//! One record of the memory as a file: what is on a view, and its features in 8 bits.
//!
//! `graftdm1`, the header's length, the header (postcard), the features, and the crc32 of all that.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::label::LabelBox;

const MAGIC: &[u8; 8] = b"graftdm1";

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// sha256 of the picture's file.
    pub sample: [u8; 32],
    /// Identifies the view among all that this backbone has seen.
    pub key: [u8; 32],
    /// The run that the sample came with, counted from 1.
    pub run: u64,
    /// The classes that the picture was labelled for.
    pub classes: Vec<String>,
    /// Its boxes, normalised by the input's sides; they count in `classes`.
    pub boxes: Vec<LabelBox>,
}

/// A record's file as bytes.
pub(super) fn encode(record: &Record, features: &[u8]) -> Vec<u8> {
    let header = postcard::to_stdvec(record).expect("plain values can be written");
    let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + header.len() + features.len());
    bytes.extend(MAGIC);
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(header);
    bytes.extend(features);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Bytes of the file beside its features.
pub(super) fn overhead(record: &Record) -> u64 {
    encode(record, &[]).len() as u64
}

/// A record and its features, of which there must be `n_features` bytes; or what is wrong with it.
pub(super) fn decode(bytes: &[u8], n_features: usize) -> Result<(Record, &[u8]), &'static str> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err("its checksum is wrong");
    }
    let rest = body.strip_prefix(MAGIC).ok_or("it is no record of this version")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, features) = rest.split_at_checked(length).ok_or("it is too short")?;
    let record: Record = postcard::from_bytes(header).map_err(|_| "its header can't be read")?;
    if record.boxes.iter().any(|label| label.class as usize >= record.classes.len()) {
        return Err("a box is of no class");
    }
    if features.len() != n_features {
        return Err("its features have another shape");
    }
    Ok((record, features))
}

/// The file's name: the key says it all.
pub(super) fn file_name(key: &[u8; 32]) -> String {
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.{ENDING}")
}

/// Whether a file is a record, by its name.
pub(super) fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

const ENDING: &str = "rec";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        Record {
            sample: [1; 32],
            key: [2; 32],
            run: 3,
            classes: vec!["hen".into(), "fox".into()],
            boxes: vec![LabelBox { class: 1, cx: 0.5, cy: 0.25, w: 0.1, h: 0.2 }],
        }
    }

    #[test]
    fn a_record_comes_back() {
        let bytes = encode(&record(), &[9, 8, 7]);
        assert_eq!(decode(&bytes, 3), Ok((record(), &[9, 8, 7][..])));
        assert_eq!(overhead(&record()), bytes.len() as u64 - 3);
        assert!(decode(&bytes, 4).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_noticed(at in 0_usize..100, bit in 0_u8..8, cut in 0_usize..100) {
            let bytes = encode(&record(), &[5; 20]);
            let mut flipped = bytes.clone();
            let place = at % bytes.len();
            flipped[place] ^= 1 << bit;
            prop_assert!(decode(&flipped, 20).is_err());
            prop_assert!(decode(&bytes[..cut % bytes.len()], 20).is_err());
        }
    }
}
