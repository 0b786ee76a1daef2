//! A label file.
#![no_main]

use graftd::dataset::parse_rows;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for label in parse_rows(bytes, 3).unwrap_or_default() {
        assert!(label.class < 3);
        let corners = label.to_pixels(1, 1);
        assert!(corners.iter().all(|value| (-1e-6..=1.0 + 1e-6).contains(value)), "{label:?}");
        assert!(label.w >= 0.0 && label.h >= 0.0, "{label:?}");
    }
});
