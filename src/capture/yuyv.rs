//! YUYV, what most USB cameras give uncompressed.

use crate::picture::Picture;

/// Two pixels in four bytes, Y0 U Y1 V, to RGB. ITU-R BT.601, limited range, in integers of 1/256:
/// R = 1.164 (Y − 16) + 1.596 (V − 128), G = 1.164 (Y − 16) − 0.392 (U − 128) − 0.813 (V − 128),
/// B = 1.164 (Y − 16) + 2.017 (U − 128). Bytes that are missing are black: a frame cut short is looked at
/// as far as it goes.
///
/// Source: the kernel's documentation of V4L2 colorspaces, "Detailed Colorspace Descriptions".
pub(super) fn to_picture(bytes: &[u8], width: u32, height: u32) -> Picture {
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for pair in bytes.chunks_exact(4).take(width as usize / 2 * height as usize) {
        let [y0, u, y1, v] = [pair[0], pair[1], pair[2], pair[3]].map(i32::from);
        let (u, v) = (u - 128, v - 128);
        let (red, green, blue) = (409 * v, -100 * u - 208 * v, 516 * u);
        for y in [y0, y1] {
            let y = 298 * (y - 16) + 128;
            rgb.extend([y + red, y + green, y + blue].map(|value| (value >> 8).clamp(0, 255) as u8));
        }
    }
    rgb.resize(width as usize * height as usize * 3, 0);
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
    fn a_frame_cut_short_is_filled_up() {
        let picture = to_picture(&[235; 10], 4, 2);
        assert_eq!(picture.rgb().len(), 24);
        assert_eq!(picture.rgb()[12..], [0; 12]);
    }
}
