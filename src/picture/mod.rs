//! A picture in memory: 8-bit RGB, decoded from JPEG or PNG.

mod draw;
mod jpeg;
mod thumbnail;

pub use draw::{Colour, TRUTH, class_colour};
pub use jpeg::{CutShort, whole};
pub use thumbnail::{ALIKE, Levelled, Thumbnail};

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};

/// Interleaved 8-bit RGB, row by row from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

/// Why a picture could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no JPEG or PNG, or a damaged one.
    #[error("not a picture that can be decoded ({reason}); graftd reads JPEG and PNG")]
    Decode {
        /// What the decoder said.
        reason: String,
    },
    /// The same, with the file that held the bytes.
    #[error("{}: not a picture that can be decoded ({reason}); graftd reads JPEG and PNG", path.display())]
    DecodeFile {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
}

impl PictureError {
    /// The same, with the file that held the bytes.
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            PictureError::Decode { reason } => PictureError::DecodeFile { path: path.to_owned(), reason },
            other => other,
        }
    }
}

/// Pixels of the largest picture that is read: a header of some bytes may claim any size.
pub const LARGEST: u64 = 100_000_000;

fn refuse(error: impl std::fmt::Display) -> PictureError {
    PictureError::Decode { reason: error.to_string() }
}

/// Reads the header: what decodes the rest, how to turn it, and width and height once it is turned.
fn open(bytes: &[u8]) -> Result<(impl ImageDecoder, Orientation, (u32, u32)), PictureError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(refuse)?;
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    let orientation = decoder.orientation().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > LARGEST {
        return Err(refuse(format!("its size is {width}x{height}")));
    }
    let lies = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    Ok((decoder, orientation, if lies { (height, width) } else { (width, height) }))
}

impl Picture {
    /// A picture of this size from interleaved RGB bytes (`3 * width * height` of them).
    ///
    /// # Panics
    /// When the number of bytes does not fit the size.
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Self {
        assert_eq!(rgb.len(), width as usize * height as usize * 3, "bytes of a {width}x{height} picture");
        Picture { width, height, rgb }
    }

    /// Decodes JPEG or PNG bytes, upright: phones store a picture as the sensor lay and note how to turn
    /// it, and whoever labels sees it turned.
    ///
    /// # Errors
    /// [`PictureError::Decode`] when the bytes are neither, are damaged, or the picture is empty or
    /// larger than [`LARGEST`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let (decoder, orientation, _) = open(bytes)?;
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(refuse)?;
        decoded.apply_orientation(orientation);
        let decoded = decoded.into_rgb8();
        let (width, height) = decoded.dimensions();
        Ok(Picture { width, height, rgb: decoded.into_raw() })
    }

    /// Reads and decodes a file.
    ///
    /// # Errors
    /// As [`Picture::decode`], with the file named; [`PictureError::Io`] when it can't be read.
    pub fn open(path: &Path) -> Result<Self, PictureError> {
        let bytes =
            std::fs::read(path).map_err(|source| PictureError::Io { path: path.to_owned(), source })?;
        Picture::decode(&bytes).map_err(|error| error.in_file(path))
    }

    /// Width and height in pixels of the picture upright, from the file's header alone.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn size_of(bytes: &[u8]) -> Result<(u32, u32), PictureError> {
        open(bytes).map(|(.., size)| size)
    }

    /// Encodes as JPEG of this quality (1 to 100).
    ///
    /// # Errors
    /// [`PictureError::Decode`] when the encoder refuses the size (a side above 65,535).
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, PictureError> {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode(&self.rgb, self.width, self.height, image::ExtendedColorType::Rgb8)
            .map_err(|error| PictureError::Decode { reason: error.to_string() })?;
        Ok(bytes)
    }

    /// The same picture with sides of at most so many pixels (at least 1); smaller ones stay as they are.
    pub fn within(&self, side: u32) -> Picture {
        let longer = self.width.max(self.height);
        if longer <= side {
            return self.clone();
        }
        let scaled = |length: u32| {
            let exact = u64::from(length) * u64::from(side) / u64::from(longer);
            u32::try_from(exact).map_or(side, |length| length.max(1))
        };
        let view = image::ImageBuffer::<image::Rgb<u8>, &[u8]>::from_raw(self.width, self.height, &self.rgb)
            .expect("the bytes fit the size");
        let (width, height) = (scaled(self.width), scaled(self.height));
        Picture { width, height, rgb: image::imageops::thumbnail(&view, width, height).into_raw() }
    }

    /// Writes a JPEG or PNG, as the name's ending says.
    ///
    /// # Errors
    /// [`PictureError::Io`] when the file can't be written, [`PictureError::Decode`] when the encoder
    /// refuses.
    pub fn save(&self, path: &Path) -> Result<(), PictureError> {
        let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        let bytes = if is_png { self.to_png()? } else { self.to_jpeg(92)? };
        std::fs::write(path, bytes).map_err(|source| PictureError::Io { path: path.to_owned(), source })
    }

    fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let mut bytes = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        image::ImageEncoder::write_image(
            encoder,
            &self.rgb,
            self.width,
            self.height,
            image::ExtendedColorType::Rgb8,
        )
        .map_err(|error| PictureError::Decode { reason: error.to_string() })?;
        Ok(bytes)
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes: R, G, B, R, G, B, … row by row.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The bytes, to draw into.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG whose note says how to turn it: an EXIF block of one entry (tag 0x0112) behind the first
    /// marker. Layout: Exif 2.32, section 4.5.
    fn noted(picture: &Picture, orientation: u8) -> Vec<u8> {
        let jpeg = picture.to_jpeg(95).unwrap();
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let length = (exif.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn a_phones_picture_stands_upright() {
        let mut picture = Picture::filled(32, 16, [20; 3]);
        picture.draw_box([0.0, 0.0, 16.0, 16.0], 16, [220; 3]);
        // Left half bright; turned by a quarter clockwise the upper half is.
        let bytes = noted(&picture, 6);
        let upright = Picture::decode(&bytes).unwrap();
        assert_eq!((upright.width(), upright.height()), (16, 32));
        assert_eq!(Picture::size_of(&bytes).unwrap(), (16, 32));
        assert!(upright.rgb()[..3 * 16].iter().all(|&value| value > 180));
        assert!(upright.rgb()[3 * 16 * 31..].iter().all(|&value| value < 60));
        assert_eq!(Picture::size_of(&noted(&picture, 1)).unwrap(), (32, 16));
    }

    #[test]
    fn a_picture_is_made_smaller_and_keeps_its_shape() {
        let mut picture = Picture::filled(640, 480, [20; 3]);
        picture.draw_box([0.0, 0.0, 320.0, 480.0], 320, [220; 3]);
        let small = picture.within(320);
        assert_eq!((small.width(), small.height()), (320, 240));
        assert!(small.rgb()[..3 * 150].iter().all(|&value| value > 180));
        assert!(small.rgb()[3 * 170..3 * 320].iter().all(|&value| value < 60));
        assert_eq!(small.within(320), small);
        let line = Picture::filled(2000, 1, [7; 3]).within(100);
        assert_eq!((line.width(), line.height(), line.rgb().len()), (100, 1, 300));
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused() {
        // A PNG's width and height lie behind its signature and the head of its first chunk.
        let mut png = Picture::filled(4, 4, [9; 3]).to_png().unwrap();
        png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let crc = crc32fast::hash(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&crc);
        let error = Picture::decode(&png).unwrap_err().to_string();
        assert!(error.contains("65536x65536"), "{error}");
        assert!(Picture::size_of(&png).is_err());
    }
}
