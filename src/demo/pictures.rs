//! Before and after, side by side.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dataset::Example;
use crate::detect::Detector;
use crate::picture::{Picture, TRUTH, class_colour};
use crate::runtime::{self, SessionOptions};
use crate::yolo::nms::Keep;

use super::{DemoError, DemoOptions};

/// Pixels between and above the two.
const MARGIN: u32 = 8;
const CAPTION: u32 = 28;

/// One picture per example: the base's boxes on the left, the new model's on the right, the truth as
/// thin white boxes on both.
pub(super) fn before_after(
    options: &DemoOptions,
    model: &Path,
    examples: &[Example],
) -> Result<Vec<PathBuf>, DemoError> {
    let folder = options.out.join("before-after");
    fs::create_dir_all(&folder).map_err(|source| DemoError::Io { path: folder.clone(), source })?;
    let runtime = runtime::open(&options.runtime.backbone()).map_err(crate::detect::DetectError::from)?;
    let open = |path: &Path| Detector::open(path, None, &*runtime, &SessionOptions::default());
    let mut detectors = [("before", open(&options.share.base())?), ("after", open(model)?)];
    let mut written = Vec::new();
    for example in examples {
        let picture = Picture::open(&example.picture)?;
        let (width, height) = (picture.width(), picture.height());
        let mut sheet = Picture::filled(2 * width + MARGIN, height + CAPTION, [24; 3]);
        for ((caption, detector), x) in detectors.iter_mut().zip([0, width + MARGIN]) {
            let found = detector.detect(&picture, &Keep::to_use())?;
            let mut half = picture.clone();
            for label in &example.labels {
                half.draw_box(label.to_pixels(width, height), 1, TRUTH);
            }
            for detection in &found {
                half.draw_box(detection.corners(), 2, class_colour(detection.class));
            }
            let text = format!("{caption}: {} boxes", found.len());
            sheet.draw_text((i64::from(x) + 4, 6), &text, 2, [255; 3], [24; 3]);
            sheet.paste(&half, x, CAPTION);
        }
        let path = folder.join(example.picture.file_name().unwrap_or_default()).with_extension("jpg");
        sheet.save(&path)?;
        written.push(path);
    }
    Ok(written)
}
