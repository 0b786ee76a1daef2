//! `graftd runs`: the runs that have ended, and what they have brought.

use std::path::PathBuf;

use crate::files;
use crate::store::{EndedRun, ended_runs};

use super::failure::Failure;
use super::run::DeviceArgs;
use super::{curve, print, when};

/// Arguments of `graftd runs`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Write the curve of mAP over runs as a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let device = args.device.device()?;
    // The file may be read while a daemon runs; over the API it may be read by whoever may use that.
    let runs: Vec<EndedRun> = match device.daemon()? {
        Some(daemon) => daemon.get("/runs")?,
        None => ended_runs(&device.state_dir)?,
    };
    if let Some(path) = &args.svg {
        let failed = |error| Failure::failed(format!("{}: {error}", path.display()));
        files::publish(path, curve::svg(&runs).as_bytes()).map_err(failed)?;
    }
    if args.json {
        return runs.iter().try_for_each(print::json);
    }
    if runs.is_empty() {
        return print::line("no run has ended yet");
    }
    print::lines(&table(&runs))?;
    print::lines(&curve::braille(&runs))
}

fn table(runs: &[EndedRun]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<21} {:<9} {:<16} {:>7} {:>8} {:>12} {:>4}  why",
        "ended", "outcome", "mAP50-95", "samples", "hold-out", "took", "slot"
    )];
    lines.extend(runs.iter().map(|run| {
        let map = match (run.before, run.after) {
            (Some(before), Some(after)) => format!("{:.4} → {:.4}", before.map50_95, after.map50_95),
            _ => "-".into(),
        };
        let number = |value: Option<usize>| value.map_or("-".into(), |value| value.to_string());
        format!(
            "{:<21} {:<9} {map:<16} {:>7} {:>8} {:>12} {:>4}  {}",
            when::utc(run.time),
            run.event.name(),
            number(run.samples),
            number(run.holdout),
            run.seconds.map_or("-".into(), when::duration),
            run.slot.map_or("-".into(), |slot| slot.to_string()),
            run.reason
        )
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{RunEnd, Scores};

    #[test]
    fn a_run_is_a_row_with_what_is_known() {
        let known = EndedRun {
            time: 1_764_000_000.0,
            run: "019a".into(),
            event: RunEnd::Finished,
            reason: "rose".into(),
            before: Some(Scores { map50: 0.1, map50_95: 0.049 }),
            after: Some(Scores { map50: 0.3, map50_95: 0.131 }),
            samples: Some(30),
            holdout: Some(6),
            epochs: Some(40),
            seconds: Some(55.6),
            slot: Some(1),
        };
        let unknown = EndedRun {
            event: RunEnd::Failed,
            reason: "cancelled".into(),
            before: None,
            after: None,
            samples: None,
            holdout: None,
            epochs: None,
            seconds: None,
            slot: None,
            ..known.clone()
        };
        let expected = "\
ended                 outcome   mAP50-95         samples hold-out         took slot  why
2025-11-24 16:00 UTC  finished  0.0490 → 0.1310       30        6         56 s    1  rose
2025-11-24 16:00 UTC  failed    -                      -        -            -    -  cancelled";
        assert_eq!(table(&[known, unknown]).join("\n"), expected);
    }
}
