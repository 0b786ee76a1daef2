//! How a record lies in sled: a version, a checksum, postcard.
//!
//! sled loses track of flipped bits silently; the checksum does not. postcard names no fields, so bytes of
//! one version can't be read as another's: a record whose fields change gets a new version, and says how
//! bytes of the old ones are read.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// What lies in an envelope.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The version that is written.
    const VERSION: u8 = 1;

    /// Reads what a version before [`Record::VERSION`] wrote; none when it is no such record, or there was
    /// no such version.
    fn read_older(_version: u8, _body: &[u8]) -> Option<Self> {
        None
    }
}

/// Class names.
impl Record for Vec<String> {}

/// A record as bytes: version, crc32 of the rest (little endian), postcard.
pub(super) fn seal<T: Record>(record: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(record).expect("plain records can be written");
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.push(T::VERSION);
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The record in the bytes, if they are whole. `name` goes into the error.
pub(super) fn open<T: Record>(name: impl Fn() -> String, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = || StoreError::Damaged(name());
    let (head, body) = bytes.split_first_chunk::<5>().ok_or_else(damaged)?;
    let [version, crc @ ..] = *head;
    if crc32fast::hash(body) != u32::from_le_bytes(crc) {
        return Err(damaged());
    }
    let record =
        if version == T::VERSION { postcard::from_bytes(body).ok() } else { T::read_older(version, body) };
    record.ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plain = (String, u64, Vec<f32>);

    impl Record for Plain {}

    #[test]
    fn a_flipped_bit_is_seen() {
        let sealed = seal(&("record".to_owned(), 7u64, vec![1.5f32, -2.0]));
        assert_eq!(open::<Plain>(String::new, &sealed).expect("whole").1, 7);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Plain>(String::new, &flipped).is_err(), "bit {bit}");
        }
        assert!(open::<Plain>(String::new, &sealed[..3]).is_err());
    }
}
