//! `graftd demo`: the whole loop on bundled pictures.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::config::{Broker, RuntimeConfig};
use crate::demo::{self, DemoOptions, DemoOutcome, Share, Told};
use crate::yolo::metrics::Evaluation;

use super::failure::Failure;
use super::model_args::RuntimeArgs;
use super::print;
use super::progress::RunProgress;
use super::train::{interrupted, table};

/// Arguments of `graftd demo`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A broker to use, such as mqtt://127.0.0.1:1883; without it one runs inside the process.
    #[arg(long, value_name = "URL")]
    broker: Option<Broker>,
    /// Where the new model and the pictures go.
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// Passes over the pictures.
    #[arg(long, value_name = "N", default_value_t = 40)]
    epochs: u32,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Print JSON lines: what goes on, and the outcome last.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let choice = args.runtime.choice();
    let options = DemoOptions {
        share: Share::find().map_err(Failure::input)?,
        broker: args.broker.clone(),
        out: args.out.clone(),
        runtime: RuntimeConfig {
            library: choice.library,
            backbone: choice.kind,
            training: choice.kind,
            threads: args.runtime.threads,
        },
        epochs: args.epochs,
    };
    let mut progress = RunProgress::new();
    let mut broken = None;
    let mut tell = |told: &Told| {
        match told {
            Told::Online => eprintln!("the daemon is online; the folder camera plays"),
            Told::Labelled { done, total } => progress.labels(*done, *total),
            Told::Run(event) => progress.tell(event),
            // The end says it.
            Told::Ended { .. } | Told::Failed { .. } | Told::NoBroker(_) => {}
        }
        if let (true, None, Told::Run(event)) = (args.json, &broken, told) {
            broken = print::json(event).err();
        }
    };
    let outcome = demo::run(&options, &mut tell, &*interrupted()?)?;
    print::outcome(broken, || match args.json {
        true => print::json(&object(&outcome)),
        false => print::lines(&lines(&outcome)),
    })?;
    if outcome.run.promoted {
        Ok(())
    } else {
        Err(Failure::failed(format!("not better: {}", outcome.reason)))
    }
}

/// What `graftd train --json` ends with, and where things lie.
fn object(outcome: &DemoOutcome) -> Value {
    let mut object = match serde_json::to_value(&outcome.run) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    };
    let stages: Map<String, Value> =
        outcome.stages.iter().map(|&(name, seconds)| (name.replace(' ', "_"), json!(seconds))).collect();
    object.insert("reason".into(), json!(outcome.reason));
    object.insert("peak_rss_mb".into(), json!(outcome.peak_rss_mb));
    object.insert("model".into(), json!(outcome.model));
    object.insert("pictures".into(), json!(outcome.pictures));
    object.insert("stages".into(), Value::Object(stages));
    Value::Object(object)
}

fn lines(outcome: &DemoOutcome) -> Vec<String> {
    let (before, after): (&Evaluation, &Evaluation) = (&outcome.run.before, &outcome.run.after);
    let mut lines = vec![String::new()];
    lines.extend(table(before, after));
    lines.push(String::new());
    let total: f64 = outcome.stages.iter().map(|(_, seconds)| seconds).sum();
    for (name, seconds) in outcome.stages.iter().chain([&("together", total)]) {
        lines.push(format!("  {name:<30} {seconds:>6.1} s"));
    }
    if let Some(mb) = outcome.peak_rss_mb {
        lines.push(format!("  {:<30} {mb:>6.0} MB", "memory at most"));
    }
    lines.push(String::new());
    lines.push(format!("  the drop-in model: {}", outcome.model.display()));
    if let Some(folder) = outcome.pictures.first().and_then(|path| path.parent()) {
        lines.push(format!("  before and after:  {}", folder.display()));
    }
    lines
}
