//! `graftd models`: the slots of a device whose daemon does not run.

use clap::Subcommand;
use serde::Serialize;

use crate::store::Slot;

use super::failure::Failure;
use super::print;
use super::run::DeviceArgs;

/// Arguments of `graftd models`.
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
    /// Show every slot.
    List,
    /// Make a slot current.
    Promote {
        /// Its number.
        slot: u32,
    },
    /// Make the slot current that was so before.
    Rollback,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    slot: &'a Slot,
    current: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.device.device()?.open_store()?;
    let models = store.models();
    match args.what {
        What::List => {
            let current = models.current()?.map(|slot| slot.slot);
            for slot in &models.list()? {
                show(args, slot, Some(slot.slot) == current)?;
            }
            Ok(())
        }
        What::Promote { slot } => show(args, &models.activate(slot)?, true),
        What::Rollback => show(args, &models.rollback()?, true),
    }
}

fn show(args: &Args, slot: &Slot, current: bool) -> Result<(), Failure> {
    if args.json {
        return print::json(&Listed { slot, current });
    }
    let map = |value: &Option<serde_json::Value>| {
        let figure = value.as_ref().and_then(|value| value["mAP50"].as_f64());
        figure.map_or("-".into(), |figure| format!("{figure:.3}"))
    };
    print::line(&format!(
        "{} {:04}  mAP50 {} -> {}  {}  sha256 {}…",
        if current { "*" } else { " " },
        slot.slot,
        map(&slot.record.before),
        map(&slot.record.after),
        slot.record.trained_on.as_deref().unwrap_or("the base"),
        &slot.sha256[..12],
    ))
}
