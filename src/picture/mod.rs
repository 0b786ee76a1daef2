//! A picture in memory: 8-bit RGB, decoded from JPEG or PNG.

mod draw;

pub use draw::{Colour, TRUTH, class_colour};

use std::path::{Path, PathBuf};

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

impl Picture {
    /// A picture of this size from interleaved RGB bytes (`3 * width * height` of them).
    ///
    /// # Panics
    /// When the number of bytes does not fit the size.
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Self {
        assert_eq!(rgb.len(), width as usize * height as usize * 3, "bytes of a {width}x{height} picture");
        Picture { width, height, rgb }
    }

    /// Decodes JPEG or PNG bytes.
    ///
    /// # Errors
    /// [`PictureError::Decode`] when the bytes are neither, are damaged, or the picture is empty.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let decoded = image::load_from_memory(bytes)
            .map_err(|error| PictureError::Decode { reason: error.to_string() })?
            .into_rgb8();
        let (width, height) = decoded.dimensions();
        if width == 0 || height == 0 {
            return Err(PictureError::Decode { reason: format!("its size is {width}x{height}") });
        }
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

    /// Width and height in pixels, from the file's header alone.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn size_of(bytes: &[u8]) -> Result<(u32, u32), PictureError> {
        let decode = |reason: String| PictureError::Decode { reason };
        let reader = image::ImageReader::new(std::io::Cursor::new(bytes));
        let reader = reader.with_guessed_format().map_err(|error| decode(error.to_string()))?;
        let (width, height) = reader.into_dimensions().map_err(|error| decode(error.to_string()))?;
        if width == 0 || height == 0 {
            return Err(decode(format!("its size is {width}x{height}")));
        }
        Ok((width, height))
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
