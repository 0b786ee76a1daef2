//! `graftd config`: what is wrong with a configuration, and what holds.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::{self, ConfigError, Fault, Findings, Loaded, Origin};

use super::failure::{Failure, one_line};
use super::print;
use super::run::DeviceArgs;

/// Arguments of `graftd config`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Name all that is wrong, with file, line and what to do. Nothing is started.
    Check {
        /// The configuration, instead of --config.
        file: Option<PathBuf>,
    },
    /// Show every key's value and where it comes from, passwords left out.
    Show,
    /// Print docs/configuration.md.
    #[command(hide = true)]
    Page,
}

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    ok: bool,
    errors: Vec<Value>,
    warnings: Vec<Value>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let file = args.device.config();
    match &args.what {
        What::Check { file: named } => {
            let file = named.as_deref().unwrap_or(file);
            check(file, args.device.loaded(Some(file)), args.json)
        }
        What::Show => show(file, &args.device.in_force(Some(file))?, args.json),
        What::Page => print::line(config::page().trim_end()),
    }
}

fn check(file: &Path, loaded: Result<Loaded, ConfigError>, json: bool) -> Result<(), Failure> {
    let found = match loaded {
        Ok(loaded) => config::check_machine(&loaded),
        Err(ConfigError::Faults(errors)) => Findings { errors, warnings: Vec::new() },
        Err(error) => return Err(error.into()),
    };
    if json {
        let objects = |faults: &[Fault]| faults.iter().map(object).collect();
        print::json(&Report {
            file: file.to_owned(),
            ok: found.errors.is_empty(),
            errors: objects(&found.errors),
            warnings: objects(&found.warnings),
        })?;
    }
    for warning in &found.warnings {
        eprintln!("warning: {}", one_line(&warning.to_string()));
    }
    match &found.errors[..] {
        [] if json => Ok(()),
        [] => print::line(&format!("{}: fine", file.display())),
        errors => Err(Failure::faults(errors)),
    }
}

/// A fault with its place.
fn object(fault: &Fault) -> Value {
    let mut object = place(&fault.place);
    object.insert("key".into(), json!(fault.key));
    object.insert("message".into(), json!(fault.message));
    object.into()
}

/// Where something stands.
fn place(origin: &Origin) -> Map<String, Value> {
    let fields = match origin {
        Origin::Default => json!({"from": "default"}),
        Origin::Set => json!({"from": "set"}),
        Origin::File { path, at } => json!({
            "from": "file",
            "file": path,
            "line": at.map(|(line, _)| line),
            "column": at.map(|(_, column)| column),
        }),
        Origin::Variable(name) => json!({"from": "environment", "variable": name}),
        Origin::Option(name) => json!({"from": "command line", "option": name}),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn show(file: &Path, loaded: &Loaded, json: bool) -> Result<(), Failure> {
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    if json {
        let keys: Map<String, Value> = loaded
            .values()
            .into_iter()
            .map(|(key, value, origin)| {
                let mut object = place(origin);
                object.insert("value".into(), value);
                object.insert("live".into(), key.live.into());
                (key.name.to_owned(), object.into())
            })
            .collect();
        return print::json(&json!({"file": file, "keys": keys}));
    }
    for (key, value, origin) in loaded.values() {
        let said = match value {
            Value::Null => format!("# {} is not set", key.name),
            value => format!("{} = {}", key.name, config::as_toml(&value)),
        };
        print::line(&format!("{said:<50} # {origin}"))?;
    }
    Ok(())
}
