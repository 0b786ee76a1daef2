//! `graftd import` and `graftd export`: labelled pictures from other programs and for them, while no daemon
//! runs.

use std::path::PathBuf;

use serde_json::json;

use crate::dataset::{Collection, Format};

use super::failure::Failure;
use super::run::DeviceArgs;
use super::{print, progress};

/// Arguments of `graftd import`.
#[derive(clap::Args)]
pub(super) struct ImportArgs {
    /// A YOLO folder's data.yaml, or a COCO file (.json).
    data: PathBuf,
    /// Where the pictures of a COCO file lie, if not beside it.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `graftd import`.
pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let device = args.device.device()?;
    let collection = Collection::read(&args.data, args.images.as_deref())?;
    let store = device.open_store()?;
    let bar = progress::pictures(collection.entries.len());
    let imported = store.samples().import(collection, device.holdout_share, || bar.inc(1))?;
    bar.finish_and_clear();
    if args.json {
        print::json(&imported)?;
    } else {
        let classes = match imported.new_classes.as_slice() {
            [] => String::new(),
            new => format!("; new classes: {}", new.join(", ")),
        };
        print::line(&format!(
            "{} pictures added, {} labelled, {} as they were, {} kept as a person had labelled them{classes}",
            imported.added, imported.labelled, imported.unchanged, imported.kept
        ))?;
        for fault in &imported.faults {
            eprintln!("{fault}");
        }
    }
    match imported.faults.len() {
        0 => Ok(()),
        faults => Err(Failure::input(format!(
            "{}: {faults} faults; what has them was left out, the rest went in",
            args.data.display()
        ))),
    }
}

/// Arguments of `graftd export`.
#[derive(clap::Args)]
pub(super) struct ExportArgs {
    /// A new or empty folder.
    folder: PathBuf,
    /// How other programs are to read it: yolo (images/, labels/ and data.yaml) or coco (images/, train.json and
    /// val.json).
    #[arg(long, default_value = "yolo")]
    format: Format,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `graftd export`.
pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let store = args.device.device()?.open_store()?;
    let samples = store.samples();
    let counts = samples.counts();
    let labelled = counts.labelled + counts.holdout;
    if labelled == 0 {
        return Err(Failure::Nothing("no sample has labels yet; there is nothing to export".into()));
    }
    let bar = progress::pictures(labelled as usize);
    let items = samples.iter().filter_map(|sample| {
        let item = sample.map_err(Failure::from).and_then(|sample| Ok(samples.give_out(sample)?)).transpose();
        bar.inc(item.is_some().into());
        item
    });
    let classes = samples.classes()?;
    let pictures = args.format.write(&args.folder, &classes, items)?;
    bar.finish_and_clear();
    if args.json {
        return print::json(&json!({"pictures": pictures, "folder": args.folder}));
    }
    print::line(&format!("{pictures} pictures in {}", args.folder.display()))
}
