//! `graftd samples`: the kept frames of a device. What looks at them and what labels them goes through the
//! daemon where one runs; what deletes and mends does not.

use std::path::Path;
use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::label::Provenance;
use crate::mqtt::{ClassRef, LabelArguments, LabelledBox};
use crate::store::{self, NewLabels, Sample, SampleId, SampleState, Samples, Store};
use crate::web::{Client, ListedSample};

use super::failure::Failure;
use super::print;
use super::run::{Access, Device, DeviceArgs, held};

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
    fn state(self) -> SampleState {
        match self {
            Only::Unlabelled => SampleState::Unlabelled,
            Only::Learn => SampleState::Learn,
            Only::Holdout => SampleState::Holdout,
        }
    }

    /// As the API calls it.
    fn name(self) -> &'static str {
        match self {
            Only::Unlabelled => "unlabelled",
            Only::Learn => "labelled",
            Only::Holdout => "holdout",
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

/// Samples that are asked of the daemon at a time.
const PAGE: usize = 500;

/// A page of them.
#[derive(Deserialize)]
struct Page {
    samples: Vec<ListedSample>,
    /// The last, where there are more.
    after: Option<SampleId>,
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
        What::List { only } => list(args, &device, *only),
        What::Show { sample } => {
            let listed = match device.access()? {
                Access::Daemon(daemon) => daemon.get(&format!("/samples/{sample}"))?,
                Access::Store(store) => listed(store.samples(), store.samples().get(*sample)?),
            };
            if args.json {
                return show(args, &listed);
            }
            let text = serde_json::to_string_pretty(&listed);
            print::line(&text.map_err(|error| Failure::Failed(error.into()))?)
        }
        What::Label { sample, boxes, covers, holdout, .. } => {
            let said = LabelArguments {
                sample: sample.to_string(),
                boxes: boxes.iter().map(|argument| argument.0.clone()).collect(),
                covers: covers.clone(),
                holdout: *holdout,
            };
            let listed = match device.access()? {
                Access::Daemon(daemon) => label_by_daemon(&daemon, &said)?,
                Access::Store(store) => {
                    let sample = label(&store, *sample, &said, device.holdout_share)?;
                    listed(store.samples(), sample)
                }
            };
            show(args, &listed)
        }
        What::Delete { samples: ids } => {
            let store = device.open_store()?;
            let samples = store.samples();
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
        What::Verify => verify(args, &device.state_dir),
        What::Rebuild => rebuild(args, &device),
    }
}

fn list(args: &Args, device: &Device, only: Option<Only>) -> Result<(), Failure> {
    match device.access()? {
        Access::Daemon(daemon) => {
            let mut after = String::new();
            loop {
                let state = only.map(|only| format!("&state={}", only.name())).unwrap_or_default();
                let page: Page = daemon.get(&format!("/samples?limit={PAGE}{state}{after}"))?;
                page.samples.iter().try_for_each(|sample| show(args, sample))?;
                match page.after {
                    Some(last) => after = format!("&after={last}"),
                    None => return Ok(()),
                }
            }
        }
        Access::Store(store) => {
            let samples = store.samples();
            for sample in samples.iter() {
                let sample = sample?;
                if only.is_none_or(|only| only.state() == SampleState::of(&sample)) {
                    show(args, &listed(samples, sample))?;
                }
            }
            Ok(())
        }
    }
}

fn listed(samples: &Samples, sample: Sample) -> ListedSample {
    ListedSample { path: samples.frame_path(&sample), sample }
}

fn label_by_daemon(daemon: &Client, said: &LabelArguments) -> Result<ListedSample, Failure> {
    daemon.command("label", &serde_json::to_value(said).expect("plain arguments can be written"))?;
    Ok(daemon.get(&format!("/samples/{}", said.sample))?)
}

fn label(store: &Store, id: SampleId, said: &LabelArguments, share: f64) -> Result<Sample, Failure> {
    let classes = store.samples().classes()?;
    let (boxes, covers) = said.resolve(&classes).map_err(Failure::input)?;
    let new = NewLabels { boxes, covers, provenance: Provenance::Human, holdout: said.holdout };
    Ok(store.samples().label(id, new, share)?)
}

fn show(args: &Args, listed: &ListedSample) -> Result<(), Failure> {
    if args.json {
        return print::json(listed);
    }
    let sample = &listed.sample;
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
    let report = store::verify(dir, |frames| progress.set_position(frames)).map_err(held)?;
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

fn rebuild(args: &Args, device: &Device) -> Result<(), Failure> {
    let aside = store::rebuild(&device.state_dir).map_err(held)?;
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
