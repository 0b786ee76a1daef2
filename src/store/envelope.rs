//! How a record lies in sled: a version, a checksum, postcard.
//!
//! sled loses track of flipped bits silently; the checksum does not.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

const VERSION: u8 = 1;

/// A record as bytes: version, crc32 of the rest (little endian), postcard.
pub(super) fn seal(record: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_stdvec(record).expect("plain records can be written");
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.push(VERSION);
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The record in the bytes, if they are whole. `name` goes into the error.
pub(super) fn open<T: DeserializeOwned>(name: impl Fn() -> String, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = || StoreError::Damaged(name());
    let (head, body) = bytes.split_first_chunk::<5>().ok_or_else(damaged)?;
    let [version, crc @ ..] = *head;
    if version != VERSION || crc32fast::hash(body) != u32::from_le_bytes(crc) {
        return Err(damaged());
    }
    postcard::from_bytes(body).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_seen() {
        let sealed = seal(&("record".to_owned(), 7u64, vec![1.5f32, -2.0]));
        type Record = (String, u64, Vec<f32>);
        assert_eq!(open::<Record>(String::new, &sealed).expect("whole").1, 7);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Record>(String::new, &flipped).is_err(), "bit {bit}");
        }
        assert!(open::<Record>(String::new, &sealed[..3]).is_err());
    }
}
