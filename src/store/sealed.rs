//! JSON that people can read and that tells when a bit of it has flipped.
//!
//! An object with a field `crc32` at its end: of the object without it, written without spaces and with its
//! fields in the order of their names.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const FIELD: &str = "crc32";

/// A record as such JSON.
pub(super) fn write(record: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_string_pretty(record).expect("plain records can be written");
    let value = serde_json::from_str(&text).expect("what was written can be read");
    let end = text.rfind("\n}").expect("records are objects with fields");
    text.truncate(end);
    text += &format!(",\n  \"{FIELD}\": {}\n}}\n", checksum(&value));
    text.into_bytes()
}

/// The record in such JSON, or what is wrong with it. What was written before there were checksums has none
/// and is taken as it is.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let told = value.as_object_mut().ok_or("it is no object")?.remove(FIELD);
    if told.is_some_and(|told| told.as_u64() != Some(checksum(&value).into())) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn checksum(value: &Value) -> u32 {
    crc32fast::hash(&serde_json::to_vec(&Sorted(value)).expect("a value can be written"))
}

/// Writes objects in the order of their names, whatever order their map has.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let sorted: BTreeMap<&String, Sorted> =
                    fields.iter().map(|(name, value)| (name, Sorted(value))).collect();
                serializer.collect_map(sorted)
            }
            Value::Array(values) => serializer.collect_seq(values.iter().map(Sorted)),
            plain => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Record {
        name: String,
        numbers: Vec<f32>,
    }

    #[test]
    fn a_flipped_bit_is_seen_or_changes_nothing() {
        let record = Record { name: "crown".into(), numbers: vec![0.1, 1.0 / 3.0, 1e-7] };
        let bytes = write(&record);
        assert_eq!(read::<Record>(&bytes).expect("whole"), record);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A blank that became another blank means the same.
            if let Ok(read) = read::<Record>(&flipped) {
                assert_eq!(read, record, "bit {bit}");
            }
        }
    }

    #[test]
    fn what_has_no_checksum_is_read() {
        let record: Record = read(br#"{"name": "a", "numbers": []}"#).expect("whole");
        assert_eq!(record.name, "a");
    }
}
