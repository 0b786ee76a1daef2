//! `graftd samples`: the kept frames of a device whose daemon does not run.

use std::path::Path;
use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::label::Provenance;
use crate::mqtt::{ClassRef, LabelArguments, LabelledBox};
use crate::store::{self, NewLabels, Sample, SampleId, Samples, Store};

use super::failure::Failure;
use super::print;
use super::run::DeviceArgs;

/// Arguments of `graftd samples`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Show the samples, oldest first.
    List {
        /// Only these.
        #[arg(long, value_enum)]
        only: Option<Only>,
    },
    /// Show all that is known of a sample.
    Show {
        /// Its id.
        sample: SampleId,
    },
    /// Say what is on a frame; the last word counts.
    #[command(group = clap::ArgGroup::new("said").required(true).args(["boxes", "nothing"]))]
    Label {
        /// Its id.
        sample: SampleId,
        /// An object: its class (name or number), centre and size in shares of the frame. Once for each.
        #[arg(long = "box", value_name = "CLASS,CX,CY,W,H")]
        boxes: Vec<BoxArgument>,
        /// There is nothing on it.
        #[arg(long)]
        nothing: bool,
        /// The classes that were looked for, if not all.
        #[arg(long, value_delimiter = ',', value_name = "CLASS")]
        covers: Option<Vec<ClassRef>>,
        /// Whether it is measured on rather than learnt from.
        #[arg(long)]
        holdout: Option<bool>,
    },
    /// Forget samples and their frames.
    Delete {
        /// Their ids.
        #[arg(required = true)]
        samples: Vec<SampleId>,
    },
    /// Read every file and record, and name what is not as it was written. Changes nothing.
    Verify,
    /// Make the database anew from what lies beside it; the old one is moved aside.
    Rebuild,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    /// Those that nobody has labelled.
    Unlabelled,
    /// Those to learn from.
    Learn,
    /// Those to measure on.
    Holdout,
}

impl Only {
    fn takes(self, sample: &Sample) -> bool {
        let truth = sample.labels.as_ref().filter(|labels| labels.provenance.is_truth());
        match self {
            Only::Unlabelled => truth.is_none(),
            Only::Learn => truth.is_some_and(|labels| !labels.holdout),
            Only::Holdout => truth.is_some_and(|labels| labels.holdout),
        }
    }
}

/// `CLASS,CX,CY,W,H`. The class comes first and may have commas in its name.
#[derive(Clone)]
struct BoxArgument(LabelledBox);

impl FromStr for BoxArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.rsplitn(5, ',').collect();
        let [h, w, cy, cx, class] = parts[..] else {
            return Err("a box is CLASS,CX,CY,W,H, as in weed,0.5,0.25,0.1,0.2".into());
        };
        let number = |text: &str| text.trim().parse::<f32>().map_err(|_| format!("{text:?} is no number"));
        let class = class.parse().unwrap_or_else(|never| match never {});
        Ok(BoxArgument(LabelledBox { class, cx: number(cx)?, cy: number(cy)?, w: number(w)?, h: number(h)? }))
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    sample: &'a Sample,
    /// Where its frame lies.
    path: std::path::PathBuf,
}

#[derive(Serialize)]
struct Deleted {
    deleted: usize,
}

#[derive(Serialize)]
struct Rebuilt {
    samples: u64,
    labelled: u64,
    holdout: u64,
    /// Where the old database lies.
    aside: std::path::PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let device = args.device.device()?;
    match &args.what {
        What::Verify => return verify(args, &device.state_dir),
        What::Rebuild => return rebuild(args, &device),
        _ => {}
    }
    let store = device.open_store()?;
    let samples = store.samples();
    match &args.what {
        What::List { only } => {
            for sample in samples.iter() {
                let sample = sample?;
                if only.is_none_or(|only| only.takes(&sample)) {
                    show(args, samples, &sample)?;
                }
            }
            Ok(())
        }
        What::Show { sample } => {
            let sample = samples.get(*sample)?;
            if args.json {
                return show(args, samples, &sample);
            }
            let path = samples.frame_path(&sample);
            let text = serde_json::to_string_pretty(&Listed { sample: &sample, path });
            print::line(&text.map_err(|error| Failure::Failed(error.into()))?)
        }
        What::Label { sample, boxes, covers, holdout, .. } => {
            let said = LabelArguments {
                sample: sample.to_string(),
                boxes: boxes.iter().map(|argument| argument.0.clone()).collect(),
                covers: covers.clone(),
                holdout: *holdout,
            };
            let sample = label(&store, *sample, &said, device.holdout_share)?;
            show(args, samples, &sample)
        }
        What::Delete { samples: ids } => {
            // All are looked for first: a wrong one deletes none.
            ids.iter().try_for_each(|id| samples.get(*id).map(|_| ()))?;
            ids.iter().try_for_each(|id| samples.delete(*id))?;
            let deleted = ids.len();
            if args.json {
                print::json(&Deleted { deleted })
            } else {
                print::line(&format!("{deleted} deleted"))
            }
        }
        What::Verify | What::Rebuild => unreachable!("done above, without an open store"),
    }
}

fn label(store: &Store, id: SampleId, said: &LabelArguments, share: f64) -> Result<Sample, Failure> {
    let classes = store.samples().classes()?;
    let (boxes, covers) = said.resolve(&classes).map_err(Failure::input)?;
    let new = NewLabels { boxes, covers, provenance: Provenance::Human, holdout: said.holdout };
    Ok(store.samples().label(id, new, share)?)
}

fn show(args: &Args, samples: &Samples, sample: &Sample) -> Result<(), Failure> {
    if args.json {
        return print::json(&Listed { sample, path: samples.frame_path(sample) });
    }
    let labels = match &sample.labels {
        None => "no labels".into(),
        Some(labels) => {
            let part = match (labels.provenance.is_truth(), labels.holdout) {
                (false, _) => "proposed by a model",
                (true, true) => "hold-out",
                (true, false) => "to learn from",
            };
            format!("{} boxes, {part}", labels.boxes.len())
        }
    };
    print::line(&format!("{}  {}  {labels}  {}", sample.id, sample.source, sample.why))
}

fn verify(args: &Args, dir: &Path) -> Result<(), Failure> {
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} frames read") {
        progress.set_style(style);
    }
    let report = store::verify(dir, |frames| progress.set_position(frames))?;
    progress.finish_and_clear();
    if args.json {
        print::json(&report)?;
    } else {
        for fault in &report.faults {
            print::line(&format!("{}: {}", fault.path.display(), fault.message))?;
        }
        let megabytes = report.bytes as f64 / 1e6;
        print::line(&format!(
            "{} samples, {} frames ({megabytes:.1} MB) and {} models looked at: {}",
            report.samples,
            report.frames,
            report.models,
            match report.faults.len() {
                0 => "all as they were written".into(),
                1 => "1 fault".into(),
                faults => format!("{faults} faults"),
            }
        ))?;
    }
    match report.faults.len() {
        0 => Ok(()),
        faults => Err(Failure::failed(format!("{} has {faults} faults", dir.display()))),
    }
}

fn rebuild(args: &Args, device: &super::run::Device) -> Result<(), Failure> {
    let aside = store::rebuild(&device.state_dir)?;
    // Opening compares everything.
    let counts = device.open_store()?.samples().counts();
    let rebuilt =
        Rebuilt { samples: counts.samples, labelled: counts.labelled, holdout: counts.holdout, aside };
    if args.json {
        return print::json(&rebuilt);
    }
    print::line(&format!(
        "{} samples, {} labelled and {} of the hold-out; the old database lies in {}",
        rebuilt.samples,
        rebuilt.labelled,
        rebuilt.holdout,
        rebuilt.aside.display()
    ))
}
