//! `graftd status`: what goes on on a device, on this machine or behind a broker.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::mqtt::{Afar, ModelReport};
use crate::store::{Store, StoreError};
use crate::web::Client;

use super::afar::AfarArgs;
use super::failure::Failure;
use super::page::View;
use super::print;
use super::run::DeviceArgs;

/// What a device has retained is there at once, or not at all.
const RETAINED_WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `graftd status`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    afar: AfarArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let view = match args.afar.listen(&["status", "state", "model"])? {
        Some(afar) => retained(afar, args.afar.name())?,
        None => here(args)?,
    };
    if args.json {
        return print::json(&view.to_json());
    }
    print::lines(&view.page())
}

/// What the broker has of the device.
fn retained(mut afar: Afar, device: &str) -> Result<View, Failure> {
    let deadline = Instant::now() + RETAINED_WITHIN;
    let (mut status, mut state, mut model) = (None, None, None);
    while status.is_none() || state.is_none() || model.is_none() {
        let Some(heard) = afar.next(deadline)? else { break };
        let place = match heard.topic.as_str() {
            "status" => &mut status,
            "state" => &mut state,
            "model" => &mut model,
            _ => continue,
        };
        *place = Some(heard.payload);
    }
    let value = |payload: Option<Vec<u8>>| -> Value {
        payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
    };
    if status.is_none() && state.is_none() {
        return Err(Failure::failed(format!(
            "the broker knows nothing of a device {device:?}; look at its name and mqtt.root, and whether this \
             user may read its topics"
        )));
    }
    let absent = (status.as_deref() != Some(b"online")).then_some("offline");
    Ok(View { device: device.into(), absent, state: value(state), model: value(model) })
}

/// What the daemon on this machine says, or else its store.
fn here(args: &Args) -> Result<View, Failure> {
    let device = args.device.device()?;
    let name = device.name.clone();
    if let Some(daemon) = device.daemon()? {
        return Ok(told(&daemon, name)?);
    }
    let store = match Store::open_within(&device.state_dir, &device.limits) {
        // It has just started, or just not ended.
        Err(error @ StoreError::Locked { .. }) => {
            return Err(Failure::failed(format!("{error}; it does not answer, its log says more")));
        }
        store => store?,
    };
    from_store(&store, name)
}

fn told(daemon: &Client, device: String) -> Result<View, crate::web::ClientError> {
    Ok(View { device, absent: None, state: daemon.get("/state")?, model: daemon.get("/model")? })
}

fn from_store(store: &Store, device: String) -> Result<View, Failure> {
    let counts = store.samples().counts();
    let model = store.models().current()?.map(|slot| ModelReport::from(&slot));
    let state = json!({
        "slot": model.as_ref().map(|model| model.slot),
        "samples": counts.samples,
        "labelled": counts.labelled,
        "holdout": counts.holdout,
        "frames_mb": counts.bytes >> 20,
        "disk_free_mb": store.free_space().map(|bytes| bytes >> 20),
        "outbox": store.outbox().len(),
        "set_aside": store.outbox().aside(),
    });
    let model = serde_json::to_value(model).expect("reports can be written");
    Ok(View { device, absent: Some("the daemon does not run"), state, model })
}
