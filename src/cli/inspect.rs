//! `graftd inspect`: what an export is and what of it can be trained.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::onnx::values;
use crate::onnx::{Links, Model};
use crate::yolo::cut::{self, Chooses, Cut};
use crate::yolo::export::{Export, ExportError};

use super::failure::Failure;
use super::print;

/// Arguments of `graftd inspect`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The ONNX file.
    model: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    supported: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(flatten)]
    known: Option<Known>,
}

#[derive(Serialize)]
struct Known {
    family: String,
    task: String,
    input: Input,
    classes: Vec<String>,
    opset: i64,
    head: Head,
    scopes: BTreeMap<&'static str, ScopeReport>,
}

#[derive(Serialize)]
struct Input {
    name: String,
    /// None where the axis is free.
    batch: Option<usize>,
    height: usize,
    width: usize,
    /// Whether height and width are free.
    dynamic: bool,
}

#[derive(Serialize)]
struct Head {
    levels: Vec<LevelReport>,
    reg_max: usize,
    one_to_one: bool,
    precision: &'static str,
}

#[derive(Serialize)]
struct LevelReport {
    stride: usize,
    channels: usize,
}

#[derive(Serialize)]
struct ScopeReport {
    /// Trained numbers.
    parameters: usize,
    /// Share of the head's multiplications that the scope's convolutions do.
    share: f64,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match inspect(&args.model) {
        Ok(known) => {
            let report = Report { supported: true, reason: None, known: Some(known) };
            if args.json { print::json(&report) } else { words(&report) }
        }
        Err(error) => {
            let reason = error.to_string();
            if args.json {
                print::json(&Report { supported: false, reason: Some(reason.clone()), known: None })?;
            }
            Err(Failure::input(format!("{}: {reason}", args.model.display())))
        }
    }
}

fn inspect(path: &std::path::Path) -> Result<Known, ExportError> {
    let export = Export::new(Model::read(path)?)?;
    let scopes: [(&str, Chooses); 3] =
        [("last", &cut::last), ("cls", &cut::class_branch), ("head", &cut::whole_head)];
    let scopes = scopes
        .into_iter()
        .map(|(name, chooses)| {
            let cut = Cut::new(&export, chooses, export.input.size)?;
            Ok((name, ScopeReport { parameters: cut.n_parameters(), share: share(&export, chooses) }))
        })
        .collect::<Result<_, ExportError>>()?;
    Ok(Known {
        family: export.family.clone(),
        task: "detect".into(),
        input: Input {
            name: export.input.name.clone(),
            batch: export.input.batch,
            height: export.input.size.0,
            width: export.input.size.1,
            dynamic: export.input.fixed.is_none(),
        },
        classes: export.classes.clone(),
        opset: export.model().opset(),
        head: Head {
            levels: export
                .levels
                .iter()
                .map(|level| LevelReport { stride: level.stride, channels: level.channels })
                .collect(),
            reg_max: export.reg_max,
            one_to_one: export.one_to_one,
            precision: if export.half { "float16" } else { "float32" },
        },
        scopes,
    })
}

/// Multiplications of a convolution: each weight of its kernel meets each cell of its level once.
fn share(export: &Export, chooses: Chooses) -> f64 {
    let graph = export.model().graph();
    let links = Links::new(graph);
    let (mut chosen, mut whole) = (0.0, 0.0);
    for conv in &export.convs {
        let kernel = links.constant(&graph.node[conv.node].input[1]);
        let weights: usize =
            kernel.and_then(|kernel| values::dims(kernel).ok()).map_or(0, |dims| dims.iter().product());
        let stride = export.levels[conv.level].stride as f64;
        let work = weights as f64 / (stride * stride);
        whole += work;
        if chooses(export, conv) {
            chosen += work;
        }
    }
    chosen / whole
}

fn words(report: &Report) -> Result<(), Failure> {
    let Some(known) = &report.known else { return Ok(()) };
    let Known { family, task, input, classes, opset, head, scopes } = known;
    let size = if input.dynamic { "any size, made for " } else { "" };
    let batch = input.batch.map_or("any".to_owned(), |batch| batch.to_string());
    let names = match classes.len() {
        0..=8 => classes.join(", "),
        _ => format!("{}, …", classes[..8].join(", ")),
    };
    let levels: Vec<String> = head
        .levels
        .iter()
        .map(|level| format!("stride {} with {} channels", level.stride, level.channels))
        .collect();
    print::line(&format!("{family}, task {task}: graftd can train it"))?;
    print::line(&format!(
        "  input    {}, {size}{}x{}, batch {batch}, opset {opset}, {}",
        input.name, input.height, input.width, head.precision
    ))?;
    print::line(&format!("  classes  {}: {names}", classes.len()))?;
    let sides = match head.reg_max {
        1 => "distances come out directly".to_owned(),
        bins => format!("{bins} bins per side"),
    };
    let kind = if head.one_to_one { "one-to-one (nothing is suppressed)" } else { "one-to-many" };
    print::line(&format!("  head     {kind}; {}; {sides}", levels.join(", ")))?;
    for (name, scope) in [("last", &scopes["last"]), ("cls", &scopes["cls"]), ("head", &scopes["head"])] {
        print::line(&format!(
            "  scope    {name:<4} trains {:>9} numbers, {:>3.0} % of the head's work",
            scope.parameters,
            100.0 * scope.share
        ))?;
    }
    Ok(())
}
