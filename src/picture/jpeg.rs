//! Whether a JPEG has its end, and where.

/// The file or the connection ended before the picture did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a JPEG of {0} bytes without an end")]
pub struct CutShort(usize);

/// The bytes up to the end marker. What is no JPEG is given back as it is, for the decoder to judge.
///
/// # Errors
/// When a JPEG has no end: a decoder would fill it up with grey, in which a model finds things.
pub fn whole(bytes: &[u8]) -> Result<&[u8], CutShort> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Ok(bytes);
    }
    end(bytes).map(|end| &bytes[..end]).ok_or(CutShort(bytes.len()))
}

/// Where the end marker ends. Drivers hand out whole buffers, with what an older frame left behind it.
/// Entropy-coded data never holds `FF D9`, but a thumbnail in front has an end of its own: the last one that
/// closes what was opened counts. Segments are gone over by their lengths (ITU-T T.81, B.1.1).
fn end(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // A marker, perhaps after bytes that fill up.
        while *bytes.get(at)? != 0xff {
            at += 1;
        }
        while *bytes.get(at)? == 0xff {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        match marker {
            0xd9 => return Some(at),
            // Stuffing, restart markers and others that stand alone.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = bytes.get(at..at + 2)?;
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::picture::Picture;

    #[test]
    fn what_stands_behind_the_end_is_cut_off_and_a_thumbnail_is_not_the_end() {
        let mut noise = 1u32;
        let rgb = (0..64 * 48 * 3).map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        });
        let jpeg = Picture::from_rgb(64, 48, rgb.collect()).to_jpeg(90).expect("encoded");
        // A thumbnail in an application segment.
        let length = (jpeg.len() as u16 + 2).to_be_bytes();
        let noted = [&jpeg[..2], &[0xff, 0xe1], &length, &jpeg, &jpeg[2..]].concat();
        for whole in [jpeg, noted] {
            let padded = [&whole[..], &[0, 7, 0xff, 0xd9, 0xff, 0xd8, 9]].concat();
            assert_eq!(super::whole(&padded), Ok(&whole[..]));
            assert_eq!(super::whole(&whole), Ok(&whole[..]));
            for cut in [2, 3, 200, whole.len() / 2, whole.len() - 1] {
                assert!(super::whole(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
            }
        }
        assert_eq!(super::whole(b"no picture"), Ok(&b"no picture"[..]));
    }
}
