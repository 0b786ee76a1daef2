//! `graftd eval`: measure a model on a labelled data set.

use std::path::PathBuf;

use crate::dataset::{DataSet, Split};
use crate::detect::Detector;
use crate::train::renumber;
use crate::yolo::metrics::Evaluation;

use super::failure::Failure;
use super::model_args::RuntimeArgs;
use super::{print, progress};

/// Arguments of `graftd eval`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model, an ONNX file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The data set's data.yaml.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Which part of it: train, val or test.
    #[arg(long, default_value = "val")]
    split: Split,
    /// Side of the input, where the model leaves it free.
    #[arg(long, value_name = "N")]
    imgsz: Option<usize>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let set = DataSet::open(&args.data)?;
    let mut examples = set.measurable(args.split, &args.data)?.to_vec();
    let runtime = args.runtime.open()?;
    let mut detector = Detector::open(&args.model, args.imgsz, runtime.as_ref(), &args.runtime.session())?;
    renumber(&mut examples, &set.classes, detector.classes()).map_err(Failure::input)?;
    let bar = progress::pictures(examples.len());
    let evaluation = detector.evaluate(&examples, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if args.json {
        return print::json(&evaluation);
    }
    print::lines(&lines(&evaluation))
}

fn lines(evaluation: &Evaluation) -> Vec<String> {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let mut lines = vec![
        format!("{} pictures, {} boxes", evaluation.images, evaluation.boxes),
        format!(
            "mAP50 {}   mAP50-95 {}   precision {}   recall {}",
            figure(evaluation.map50),
            figure(evaluation.map50_95),
            figure(evaluation.precision),
            figure(evaluation.recall)
        ),
    ];
    if evaluation.per_class.len() > 1 {
        lines.extend(evaluation.per_class.iter().map(|class| {
            format!(
                "  {:<20} AP50 {:.3}   AP50-95 {:.3}   {} boxes",
                class.class, class.ap50, class.ap50_95, class.boxes
            )
        }));
    }
    lines
}
