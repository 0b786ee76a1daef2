//! `graftd train`: one-shot fine-tuning, for scripts and comparisons.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::dataset::{DataSet, Split};
use crate::files;
use crate::train::{
    ClassChanges, Control, Distill, Folders, Outcome, Rate, ScopeChoice, TrainOptions, TrainingSet, Turns,
    fine_tune, forget_checkpoint,
};
use crate::yolo::metrics::Evaluation;

use super::failure::Failure;
use super::model_args::RuntimeArgs;
use super::print;
use super::progress::RunProgress;

/// Arguments of `graftd train`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model to start from, an ONNX export.
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The data set's data.yaml: learns from train, measures on val. Where it has covers: [NAME, …], its
    /// pictures are labelled for these classes alone.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the fine-tuned model goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What is trained: last, cls, head, or auto, which chooses by labels, memory and time.
    #[arg(long, default_value_t = TrainOptions::default().scope)]
    scope: ScopeChoice,
    /// Passes over the pictures.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().epochs)]
    epochs: u32,
    /// Side of the input, where the model leaves it free.
    #[arg(long, value_name = "N")]
    imgsz: Option<usize>,
    /// Pictures per step.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().batch)]
    batch: usize,
    /// The same seed gives the same model.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().seed)]
    seed: u64,
    /// Peak learning rate, or auto, which tries some.
    #[arg(long, default_value_t = TrainOptions::default().lr)]
    lr: Rate,
    /// Learning rate of the layers before the last ones, as a factor of --lr.
    #[arg(long, value_name = "FACTOR", default_value_t = TrainOptions::default().lr_before_last)]
    lr_before_last: f64,
    /// Whether the last layers learn alone at first.
    #[arg(long, value_name = "BOOL", default_value_t = TrainOptions::default().last_alone,
          action = clap::ArgAction::Set)]
    last_alone: bool,
    /// Give a class of the model another name; its labels may have either. May be given several times.
    #[arg(long, value_name = "OLD=NEW", value_parser = renamed)]
    rename: Vec<(String, String)>,
    /// Take a class out of the model. May be given several times.
    #[arg(long, value_name = "NAME")]
    drop: Vec<String>,
    /// Confirm a new class whose name is much like one that the model has. May be given several times.
    #[arg(long, value_name = "NAME")]
    new_class: Vec<String>,
    /// Variations of each picture; 1 takes the plain picture alone.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().views)]
    views: u32,
    /// Share of the variations that are mosaics of four pictures, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = TrainOptions::default().mosaic)]
    mosaic: f64,
    /// Which way up variations may be turned: none, mirror (left to right), or all, for cameras that
    /// look straight down.
    #[arg(long, default_value_t = TrainOptions::default().turns)]
    turns: Turns,
    /// Stop after this many epochs without getting better; 0 never does.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().patience)]
    patience: u32,
    /// Stop in good order after this long.
    #[arg(long, value_name = "N")]
    max_minutes: Option<f64>,
    /// Keep samples of this run here, if it is promoted, and see those of earlier runs again.
    #[arg(long, value_name = "DIR")]
    memory: Option<PathBuf>,
    /// Disk that --memory may take, MB.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().memory_mb)]
    memory_mb: u64,
    /// Share of each batch that --memory fills.
    #[arg(long, value_name = "SHARE", default_value_t = TrainOptions::default().replay)]
    replay: f64,
    /// Classes that the labels don't cover (those that covers in data.yaml leaves out; without it, those
    /// that no training box has): auto lets the base teach them, off takes them for background.
    #[arg(long, default_value_t = TrainOptions::default().distill)]
    distill: Distill,
    /// Memory that the run may hold, MB; scope auto takes a smaller one then.
    #[arg(long, value_name = "N")]
    max_memory_mb: Option<u64>,
    /// How sure the gate must be that the model is better and not only lucky, from 0 (its figure need
    /// only be higher) to below 1.
    #[arg(long, value_name = "SHARE", default_value_t = TrainOptions::default().gate_confidence)]
    gate_confidence: f64,
    /// Keep the features of pictures here, for the next run; without it they are thrown away. A run that
    /// was killed goes on where it stood when it is started again with the same arguments.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Disk that features may take, MB; when a run wants more it takes fewer views, then fewer pictures.
    #[arg(long, value_name = "N", default_value_t = TrainOptions::default().cache_mb)]
    cache_mb: u64,
    /// Write the model even when it is not better than the base.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Print JSON lines: what goes on, and the outcome last.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let options = TrainOptions {
        scope: args.scope,
        epochs: args.epochs,
        imgsz: args.imgsz,
        batch: args.batch,
        seed: args.seed,
        lr: args.lr,
        lr_before_last: args.lr_before_last,
        last_alone: args.last_alone,
        classes: ClassChanges {
            grow: true,
            confirmed: args.new_class.clone(),
            rename: args.rename.clone(),
            drop: args.drop.clone(),
        },
        views: args.views,
        mosaic: args.mosaic,
        turns: args.turns,
        patience: args.patience,
        gate_confidence: args.gate_confidence,
        max_minutes: args.max_minutes,
        memory_mb: args.memory_mb,
        replay: args.replay,
        distill: args.distill,
        max_memory_mb: args.max_memory_mb,
        cache_mb: args.cache_mb,
        threads: args.runtime.threads,
        ..TrainOptions::default()
    };
    let data = DataSet::open(&args.data)?;
    let set = TrainingSet {
        train: data.learnable(&args.data)?.to_vec(),
        holdout: data.measurable(Split::Val, &args.data)?.to_vec(),
        classes: data.classes,
    };
    check_out(&args.out)?;
    let runtime = args.runtime.open()?;
    let passing =
        tempfile::tempdir().map_err(|error| Failure::failed(format!("temporary folder: {error}")))?;
    let cache = args.cache.as_deref().unwrap_or(passing.path());
    let folders = Folders { cache, memory: args.memory.as_deref() };
    let control = Control::cancelled_by(interrupted()?);

    let mut progress = RunProgress::new();
    let mut broken = None;
    let mut on_event = |event| {
        progress.tell(&event);
        if args.json && broken.is_none() {
            broken = print::json(&event).err();
        }
    };
    let outcome = fine_tune(&args.base, &set, &options, runtime.as_ref(), folders, &mut on_event, &control)?;
    let write = outcome.verdict.promoted || args.force;
    if write {
        files::publish(&args.out, &outcome.model)
            .map_err(|error| Failure::failed(format!("{}: {error}", args.out.display())))?;
    }
    forget(cache);
    print::outcome(broken, || match args.json {
        true => print::json(&outcome),
        false => print::lines(&lines(&outcome)),
    })?;
    if outcome.verdict.promoted {
        eprintln!("{} is written: a drop-in for {}", args.out.display(), args.base.display());
        return Ok(());
    }
    let what = if write { "it is written all the same" } else { "nothing is written (--force writes it)" };
    Err(Failure::Nothing(format!("not promoted: {}; {what}", outcome.verdict.reason)))
}

/// The run has come to its end, and nothing of it need be taken up again.
fn forget(cache: &Path) {
    if let Err(error) = forget_checkpoint(cache) {
        tracing::warn!("the checkpoint in {} can't be deleted: {error}", cache.display());
    }
}

/// `OLD=NEW`.
fn renamed(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.trim().is_empty() => Ok((old.into(), new.into())),
        _ => Err("write it as OLD=NEW, such as weed=dandelion".into()),
    }
}

/// Before the work begins: can the outcome be written at its end?
fn check_out(out: &Path) -> Result<(), Failure> {
    let folder = files::folder_of(out);
    if out.is_dir() {
        return Err(Failure::input(format!("{}: is a folder; name a file for the model", out.display())));
    }
    tempfile::Builder::new().prefix(files::PASSING).tempfile_in(folder).map(drop).map_err(|error| {
        Failure::input(format!("{}: can't be written to ({error}); name another --out", folder.display()))
    })
}

/// A flag that Ctrl-C and SIGTERM set; a second Ctrl-C ends the process at once.
pub(super) fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|error| Failure::failed(format!("signals: {error}")))?;
    }
    Ok(flag)
}

/// The outcome as a table.
fn lines(outcome: &Outcome) -> Vec<String> {
    let memory = outcome.peak_rss_mb.map_or(String::new(), |mb| format!(", {mb:.0} MB at most"));
    let mut lines = table(&outcome.before, &outcome.after);
    lines.push(format!(
        "  {} epochs in {:.1} s ({:.1} CPU seconds{memory})",
        outcome.epochs, outcome.seconds, outcome.cpu_seconds
    ));
    lines
}

/// Before and after on the hold-out.
pub(super) fn table(before: &Evaluation, after: &Evaluation) -> Vec<String> {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let row = |name: &str, before: Option<f64>, after: Option<f64>| {
        format!("  {name:<10} {:>7} {:>7}", figure(before), figure(after))
    };
    vec![
        format!("  {:<10} {:>7} {:>7}", "hold-out", "before", "after"),
        row("mAP50", before.map50, after.map50),
        row("mAP50-95", before.map50_95, after.map50_95),
        row("precision", before.precision, after.precision),
        row("recall", before.recall, after.recall),
    ]
}
