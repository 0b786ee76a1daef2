//! `graftd models`: the slots of a device. A daemon that runs does it itself, and detects with the new model
//! at once.

use clap::Subcommand;
use serde_json::json;

use crate::store::{Models, StoreError};
use crate::web::{Client, ListedSlot};

use super::failure::Failure;
use super::print;
use super::run::{Access, DeviceArgs};

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

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let slots = match args.device.device()?.access()? {
        Access::Daemon(daemon) => by_daemon(&args.what, &daemon)?,
        Access::Store(store) => in_store(&args.what, store.models())?,
    };
    slots.iter().try_for_each(|slot| show(args, slot))
}

fn by_daemon(what: &What, daemon: &Client) -> Result<Vec<ListedSlot>, Failure> {
    let slots = || daemon.get::<Vec<ListedSlot>>("/models");
    match what {
        What::List => return Ok(slots()?),
        What::Promote { slot } => daemon.command("promote", &json!({"slot": slot}))?,
        What::Rollback => {
            if let Some(base) = slots()?.iter().find(|slot| slot.current && slot.slot.replaced.is_none()) {
                return Err(StoreError::NothingBefore(base.slot.slot).into());
            }
            daemon.command("rollback", &json!({}))?
        }
    };
    Ok(slots()?.into_iter().filter(|slot| slot.current).collect())
}

fn in_store(what: &What, models: &Models) -> Result<Vec<ListedSlot>, Failure> {
    let slot = match what {
        What::List => return Ok(ListedSlot::all(models)?),
        What::Promote { slot } => models.activate(*slot)?,
        What::Rollback => models.rollback()?,
    };
    Ok(vec![ListedSlot { slot, current: true }])
}

fn show(args: &Args, listed: &ListedSlot) -> Result<(), Failure> {
    if args.json {
        return print::json(listed);
    }
    let map = |value: &Option<serde_json::Value>| {
        let figure = value.as_ref().and_then(|value| value["mAP50"].as_f64());
        figure.map_or("-".into(), |figure| format!("{figure:.3}"))
    };
    let ListedSlot { slot, current } = listed;
    print::line(&format!(
        "{} {:04}  mAP50 {} -> {}  {}  sha256 {}…",
        if *current { "*" } else { " " },
        slot.slot,
        map(&slot.record.before),
        map(&slot.record.after),
        slot.record.trained_on.as_deref().unwrap_or("the base"),
        slot.sha256.get(..12).unwrap_or(&slot.sha256),
    ))
}
