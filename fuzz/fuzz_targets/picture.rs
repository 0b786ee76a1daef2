//! Bytes that say they are a picture, as a camera or an import brings them.
#![no_main]

use graftd::picture::Picture;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Large ones are allowed and slow; what is asked here is whether damage is borne.
    if Picture::size_of(bytes).is_ok_and(|(width, height)| u64::from(width) * u64::from(height) < 1 << 20) {
        if let Ok(picture) = Picture::decode(bytes) {
            assert_eq!(picture.rgb().len(), picture.width() as usize * picture.height() as usize * 3);
        }
    }
});
