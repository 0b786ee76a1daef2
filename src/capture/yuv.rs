//! Brightness and two colour differences, as cameras give pixels and video holds them, to RGB.

use crate::picture::Picture;

/// What a colour adds to red, green and blue. ITU-R BT.601, limited range, in integers of 1/256:
/// R = 1.164 (Y − 16) + 1.596 (V − 128), G = 1.164 (Y − 16) − 0.392 (U − 128) − 0.813 (V − 128),
/// B = 1.164 (Y − 16) + 2.017 (U − 128).
///
/// Source: the kernel's documentation of V4L2 colorspaces, "Detailed Colorspace Descriptions".
fn colour(u: u8, v: u8) -> [i32; 3] {
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    [409 * v, -100 * u - 208 * v, 516 * u]
}

fn pixel(y: u8, colour: [i32; 3]) -> [u8; 3] {
    let y = 298 * (i32::from(y) - 16) + 128;
    colour.map(|add| ((y + add) >> 8).clamp(0, 255) as u8)
}

/// YUYV, what most USB cameras give uncompressed: two pixels in four bytes, Y0 U Y1 V. Bytes that are missing
/// are black.
pub(super) fn to_picture(bytes: &[u8], width: u32, height: u32) -> Picture {
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for pair in bytes.chunks_exact(4).take(width as usize / 2 * height as usize) {
        let colour = colour(pair[1], pair[3]);
        rgb.extend(pixel(pair[0], colour));
        rgb.extend(pixel(pair[2], colour));
    }
    rgb.resize(width as usize * height as usize * 3, 0);
    Picture::from_rgb(width, height, rgb)
}

/// I420, what video decodes to: a plane of brightness, and two of colour with one value for two by two pixels.
/// `strides` are bytes from row to row, of the first plane and of the others.
#[cfg(any(feature = "rtsp", test))]
pub(super) fn planes_to_picture(
    [y, u, v]: [&[u8]; 3],
    strides: [usize; 2],
    width: u32,
    height: u32,
) -> Picture {
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for row in 0..height as usize {
        let y = &y[row * strides[0]..][..width as usize];
        let [u, v] = [u, v].map(|plane| &plane[row / 2 * strides[1]..][..(width as usize).div_ceil(2)]);
        for (pair, (&u, &v)) in y.chunks(2).zip(u.iter().zip(v)) {
            let colour = colour(u, v);
            pair.iter().for_each(|&y| rgb.extend(pixel(y, colour)));
        }
    }
    Picture::from_rgb(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_the_formula() {
        for (y, u, v) in (0..=255).step_by(15).flat_map(|y| {
            (0..=255).step_by(17).flat_map(move |u| (0..=255).step_by(51).map(move |v| (y, u, v)))
        }) {
            let found = to_picture(&[y as u8, u as u8, y as u8, v as u8], 2, 1);
            let (y, u, v) = (f64::from(y) - 16.0, f64::from(u) - 128.0, f64::from(v) - 128.0);
            let wanted = [1.164 * y + 1.596 * v, 1.164 * y - 0.392 * u - 0.813 * v, 1.164 * y + 2.017 * u];
            for (found, wanted) in found.rgb()[..3].iter().zip(wanted) {
                assert!((f64::from(*found) - wanted.clamp(0.0, 255.0)).abs() <= 1.5, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn planes_and_pairs_are_the_same_picture() {
        // Three rows of five pixels, with room at the end of each row.
        let (y, u, v) = ([50u8, 80, 110, 140, 170, 9, 9], [60u8, 120, 180, 9], [200u8, 130, 70, 9]);
        let picture = planes_to_picture([&y.repeat(3), &u.repeat(2), &v.repeat(2)], [7, 4], 5, 3);
        let pairs = [50, 60, 80, 200, 110, 120, 140, 130, 170, 180, 0, 70];
        let row = &to_picture(&pairs, 6, 1).rgb()[..15].to_vec();
        assert_eq!(picture.rgb(), row.repeat(3));
    }

    #[test]
    fn a_frame_cut_short_is_filled_up() {
        let picture = to_picture(&[235; 10], 4, 2);
        assert_eq!(picture.rgb().len(), 24);
        assert_eq!(picture.rgb()[12..], [0; 12]);
    }
}
