//! The command line: one file per subcommand.
//!
//! Words for people go to stderr, results to stdout; with `--json` stdout holds one JSON object, or
//! JSON lines for long work. Exit codes: 0 done, 1 failed, 2 bad usage, configuration or input,
//! 3 nothing to do.

mod afar;
mod config;
mod curve;
mod demo;
mod detect;
mod doctor;
mod eval;
mod exchange;
mod failure;
mod init;
mod inspect;
mod log;
mod machine;
mod model_args;
mod models;
mod page;
mod print;
mod progress;
mod run;
mod runs;
mod samples;
mod status;
mod train;
mod watch;
mod when;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Fine-tunes the head of an ONNX-exported YOLO on the device itself.
#[derive(Parser)]
#[command(name = "graftd", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more about what goes on (on stderr); RUST_LOG says it in detail.
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Watch the whole loop on bundled pictures: detect, label, train, promote.
    Demo(demo::Args),
    /// Look at this machine and write a commented configuration.
    Init(init::Args),
    /// Look at this machine and say what is fine and what to do about the rest.
    Doctor(doctor::Args),
    /// Check the configuration, or show what holds and why.
    Config(config::Args),
    /// Run the daemon.
    Run(run::DeviceArgs),
    /// Show what goes on on a device, on this machine or behind a broker.
    Status(status::Args),
    /// Follow what a device tells, on this machine or behind a broker.
    Watch(watch::Args),
    /// Show the runs that have ended, and the curve of what they have brought.
    Runs(runs::Args),
    /// Take labelled pictures into the store: a YOLO folder or a COCO file.
    Import(exchange::ImportArgs),
    /// Write the labelled samples as a YOLO folder or COCO files.
    Export(exchange::ExportArgs),
    /// Show, label, delete, verify and rebuild the kept frames.
    Samples(samples::Args),
    /// Show, promote and roll back models.
    Models(models::Args),
    /// Tell what an ONNX file is and what of it can be trained.
    Inspect(inspect::Args),
    /// Measure a model on a labelled data set.
    Eval(eval::Args),
    /// Find objects on pictures.
    Detect(detect::Args),
    /// Fine-tune a model's head on a data set, without a daemon.
    Train(Box<train::Args>),
}

/// The command line as clap knows it, which man pages and completions are made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match (&cli.command, cli.verbose) {
        (_, true) => "graftd=debug,info",
        // An operator reads the daemon's log; everybody else reads the answer.
        (Command::Run(_), false) => "graftd=info,warn",
        // rumqttd calls every client that leaves an error.
        _ => "graftd=warn,rumqttd=off,error",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    log::start(filter);
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Import(args) => exchange::import(&args),
        Command::Export(args) => exchange::export(&args),
        Command::Samples(args) => samples::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Detect(args) => detect::run(&args),
        Command::Train(args) => train::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
