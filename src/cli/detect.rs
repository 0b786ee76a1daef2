//! `graftd detect`: find objects on pictures.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::detect::Detector;
use crate::picture::{Picture, class_colour};
use crate::yolo::detection::Detection;
use crate::yolo::nms::Keep;

use super::failure::Failure;
use super::model_args::RuntimeArgs;
use super::print;

/// Arguments of `graftd detect`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model, an ONNX file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Pictures, JPEG or PNG.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Write pictures with the boxes drawn into this folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Show boxes that are surer than this.
    #[arg(long, default_value_t = 0.25)]
    conf: f32,
    /// Of boxes that overlap by more than this, show the surest.
    #[arg(long, default_value_t = 0.7)]
    iou: f32,
    /// Side of the input, where the model leaves it free.
    #[arg(long, value_name = "N")]
    imgsz: Option<usize>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Print one JSON object per picture.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    image: &'a Path,
    boxes: Vec<FoundBox<'a>>,
}

#[derive(Serialize)]
struct FoundBox<'a> {
    class: &'a str,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Place {
    score: f32,
    x1: f32,
    y1: f32,
    x2: f32,
    y2: f32,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    for (name, value) in [("conf", args.conf), ("iou", args.iou)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(Failure::input(format!("--{name} is {value}, but it must be from 0 to 1")));
        }
    }
    let runtime = args.runtime.open()?;
    let mut detector = Detector::open(&args.model, args.imgsz, runtime.as_ref(), &args.runtime.session())?;
    let keep = Keep { confidence: args.conf, iou: args.iou, ..Keep::to_use() };
    if let Some(folder) = &args.save {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::input(format!("{}: {error}", folder.display())))?;
    }
    for path in &args.images {
        let picture = Picture::open(path).map_err(|error| Failure::Input(error.into()))?;
        let boxes = detector.detect(&picture, &keep)?;
        report(args, path, &boxes, detector.classes())?;
        if let Some(folder) = &args.save {
            let mut drawn = picture;
            draw(&mut drawn, &boxes, detector.classes());
            let name = path.file_name().unwrap_or(path.as_os_str());
            drawn.save(&folder.join(name)).map_err(|error| Failure::Failed(error.into()))?;
        }
    }
    Ok(())
}

fn report(args: &Args, image: &Path, boxes: &[Detection], classes: &[String]) -> Result<(), Failure> {
    let found: Vec<FoundBox> = boxes
        .iter()
        .map(|&Detection { x1, y1, x2, y2, score, class }| FoundBox {
            class: &classes[class as usize],
            place: Place { score, x1, y1, x2, y2 },
        })
        .collect();
    if args.json {
        return print::json(&Found { image, boxes: found });
    }
    print::line(&format!("{}: {} boxes", image.display(), found.len()))?;
    for FoundBox { class, place: Place { score, x1, y1, x2, y2 } } in &found {
        print::line(&format!("  {class} {score:.2}  {x1:.0} {y1:.0} {x2:.0} {y2:.0}"))?;
    }
    Ok(())
}

/// Boxes with class and score; line and letters grow with the picture.
pub(super) fn draw(picture: &mut Picture, boxes: &[Detection], classes: &[String]) {
    let scale = (picture.width().max(picture.height()) / 800).max(1);
    for detection in boxes.iter().rev() {
        let colour = class_colour(detection.class);
        picture.draw_box(detection.corners(), 2 * scale, colour);
        let text = format!("{} {:.2}", classes[detection.class as usize], detection.score);
        let (x, y) = (detection.x1 as i64, detection.y1 as i64 - 8 * i64::from(scale));
        picture.draw_text((x, y.max(0)), &text, scale, [0; 3], colour);
    }
}
