//! What lies in the database, and the copies beside frames.
#![no_main]

use graftd::store::Sample;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Half of the time with a checksum that fits, or nothing behind it would ever be reached.
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let sealed = [&[first % 4][..], &crc32(rest).to_le_bytes(), rest].concat();
    for bytes in [bytes, &sealed] {
        if let Some(sample) = Sample::from_record(bytes) {
            // What was read can be written, and is the same then.
            assert_eq!(Sample::from_copy(&sample.to_copy()).is_ok(), is_plain(&sample));
        }
    }
    let _ = Sample::from_copy(bytes);
});

/// JSON has no NaN.
fn is_plain(sample: &Sample) -> bool {
    let boxes = sample.labels.iter().flat_map(|labels| labels.boxes.iter().copied());
    let found = sample.found.iter().map(|found| found.label);
    let numbers = boxes.chain(found).flat_map(|label| [label.cx, label.cy, label.w, label.h]);
    numbers.chain(sample.found.iter().map(|found| found.score)).all(f32::is_finite)
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
