//! `graftd init`: looks at this machine and writes a commented configuration for it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::{Broker, Chosen, Config, DEFAULT_PATH, template};
use crate::files;
use crate::onnx::Model;
use crate::yolo::export::{Export, ExportError};

use super::failure::Failure;
use super::machine::Machine;
use super::print;

/// Arguments of `graftd init`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration to write.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// The ONNX export to start from.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Write over a configuration that is there.
    #[arg(long)]
    force: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = &args.config;
    // Said before looking round; what comes in between is caught when it is written.
    if !args.force && path.symlink_metadata().is_ok() {
        return Err(there_already(path));
    }
    let mut machine = Machine::look();
    if let Some(base) = &args.base {
        readable(base).map_err(|error| Failure::input(format!("--base {}: {error}", base.display())))?;
        let base = std::path::absolute(base).map_err(|error| Failure::input(format!("--base: {error}")))?;
        machine.base = Some(base);
    }
    write(path, template(&chosen(&machine)).as_bytes(), args.force)?;
    for line in said(&machine) {
        eprintln!("{line}");
    }
    if args.json {
        let mut report = serde_json::to_value(&machine).map_err(|error| Failure::Failed(error.into()))?;
        report["config"] = json!(path);
        return print::json(&report);
    }
    print::line(&format!("wrote {}", path.display()))?;
    eprintln!("next: graftd config check {0}, then graftd run --config {0}", path.display());
    Ok(())
}

fn readable(base: &Path) -> Result<Export, ExportError> {
    Export::new(Model::read(base)?)
}

fn there_already(path: &Path) -> Failure {
    let path = path.display();
    Failure::input(format!(
        "{path} is there already and was left alone; --force writes over it, --config names another, and \
         `graftd config check {path}` tells whether it is right"
    ))
}

fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let folder = files::folder_of(path);
    let fail =
        |error| Failure::input(format!("{}: {error}; name another place with --config", path.display()));
    // One folder, as /etc/graftd: more than one that is missing is a slip.
    if !folder.is_dir() {
        fs::create_dir(folder).map_err(fail)?;
    }
    let write = if force { files::publish } else { files::publish_new };
    write(path, bytes).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists if !force => there_already(path),
        _ => fail(error),
    })
}

/// What the file says that is no default.
fn chosen(machine: &Machine) -> Chosen {
    let mut chosen = Chosen::default();
    chosen.notes.push(format!(
        "Written by `graftd init` of version {} on a machine with {} cores.",
        env!("CARGO_PKG_VERSION"),
        machine.cores
    ));
    let mut set = |key, value: Value, why: &str| {
        chosen.values.insert(key, (value, why.to_owned()));
    };
    set("device", json!(machine.device), "The name of this machine. No two devices may have the same.");
    if let Some(base) = &machine.base {
        set("model.base", json!(base), "Found on this machine.");
    }
    if let Some(folder) = machine.state_dir.as_ref().filter(|folder| **folder != Config::default().state_dir)
    {
        set("state_dir", json!(folder), "Where the user who wrote this may write.");
    }
    if let [best, others @ ..] = &machine.cameras[..] {
        let others: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
        let others = if others.is_empty() { String::new() } else { format!(" Also: {}.", others.join(", ")) };
        set("camera.source", json!(best), &format!("Found on this machine.{others}"));
    }
    if machine.broker {
        set("mqtt.broker", json!(Broker::default()), "Something listens there.");
    }
    chosen
}

/// The same for people.
fn said(machine: &Machine) -> Vec<String> {
    let Machine { device, cameras, library, broker, cores, base, state_dir } = machine;
    let shown = |path: &Option<PathBuf>, none: &str| {
        path.as_ref().map_or_else(|| none.to_owned(), |path| path.display().to_string())
    };
    let camera = match &cameras[..] {
        [] => "none found; set camera.source".to_owned(),
        [one] => one.display().to_string(),
        [best, others @ ..] => format!("{}, the first of {}", best.display(), 1 + others.len()),
    };
    let default = Broker::default();
    let broker = if *broker {
        format!("something listens at {default}")
    } else {
        format!("nothing listens at {default}; set mqtt.broker")
    };
    let none = "not found; tract is taken, which is slower (graftd-fetch-onnxruntime, or runtime.library)";
    vec![
        format!("device        {device}"),
        format!("cores         {cores}"),
        format!("camera        {camera}"),
        format!("ONNX Runtime  {}", shown(library, none)),
        format!("broker        {broker}"),
        format!("base          {}", shown(base, "not found; set model.base, or name one with --base")),
        format!("state         {}", shown(state_dir, "no folder that this user may write to; set state_dir")),
    ]
}
