//! `graftd doctor`: looks at this machine, and says of each thing that it is fine or what to do.

mod account;
mod board;
mod camera;
mod clock;
mod heat;
mod room;
mod root;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::config::{self, Config, ConfigError};
use crate::detect::Detector;
use crate::picture::Picture;
use crate::runtime::{self, Runtime, RuntimeChoice, RuntimeError, RuntimeKind, SessionOptions};

use account::Account;
use board::Board;
use root::Root;

use super::failure::{Failure, one_line};
use super::machine::reach;
use super::print;
use super::run::DeviceArgs;

/// Arguments of `graftd doctor`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Whom the daemon runs as, to whose permissions it comes; the user graftd when root asks and there is one.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where /proc, /sys, /dev, /run and /etc are looked for.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Fine,
    /// graftd works, and not as well as it could.
    Warn,
    /// graftd does not work.
    Bad,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// How it is and, where that is not well, what to do.
    words: String,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, words: impl Into<String>) -> Self {
        Finding { what, verdict, words: one_line(&words.into()) }
    }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    board: Board,
    findings: Vec<Finding>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let root = Root::new(&args.root);
    let account = Account::choose(args.user.as_deref(), &root).map_err(Failure::input)?;
    let board = Board::look(&root);
    let mut findings = vec![Finding::new("board", Verdict::Fine, board.words())];
    let config = configuration(args, &mut findings)?;
    engine(&config, &board, &mut findings);
    findings.extend(camera::look(&root, config.camera.source().as_ref(), &account));
    findings.push(clock::look(&root, SystemTime::now()));
    findings.push(heat::look(&root, config.train.schedule.max_celsius));
    findings.extend(room::memory(&root));
    findings.push(room::disk(&config.state_dir, &config.store));
    findings.push(broker(&config));
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    if args.json {
        print::json(&Report { ok: bad == 0, board, findings })?;
    } else {
        print::lines(&findings.iter().map(line).collect::<Vec<_>>())?;
    }
    match bad {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing keeps graftd from working here")),
        bad => Err(Failure::failed(format!("{bad} things keep graftd from working here"))),
    }
}

fn line(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Fine => "fine",
        Verdict::Warn => "warn",
        Verdict::Bad => "BAD",
    };
    format!("{mark:<6}{:<9}{}", finding.what, finding.words)
}

/// The configuration, or the defaults where there is none or a wrong one.
fn configuration(args: &Args, findings: &mut Vec<Finding>) -> Result<Config, Failure> {
    const WHAT: &str = "config";
    let file = args.device.config();
    match args.device.loaded(Some(file)) {
        Ok(loaded) => {
            let found = config::check_machine(&loaded);
            let before = findings.len();
            let verdicts = [(Verdict::Bad, found.errors), (Verdict::Warn, found.warnings)];
            for (verdict, faults) in verdicts {
                // What it says of camera and library is looked at more closely by the others.
                let others = faults.iter().filter(|fault| !is_of_others(fault.key.as_deref()));
                findings.extend(others.map(|fault| Finding::new(WHAT, verdict, fault.to_string())));
            }
            if findings.len() == before {
                findings.push(Finding::new(WHAT, Verdict::Fine, file.display().to_string()));
            }
            return Ok(loaded.config);
        }
        Err(ConfigError::Read { .. }) if !file.exists() => {
            let words = format!("{}: there is none; graftd init writes one", file.display());
            findings.push(Finding::new(WHAT, Verdict::Warn, words));
        }
        Err(ConfigError::Faults(faults)) => {
            let all = faults.iter().map(|fault| Finding::new(WHAT, Verdict::Bad, fault.to_string()));
            findings.extend(all);
        }
        Err(error) => findings.push(Finding::new(WHAT, Verdict::Bad, error.to_string())),
    }
    // Without the environment, which may be what is wrong.
    let mut config = Config::default();
    config.state_dir = args.device.state_dir().map_or(config.state_dir, Into::into);
    Ok(config)
}

fn is_of_others(key: Option<&str>) -> bool {
    matches!(key, Some("camera.source" | "runtime.library"))
}

/// The runtime, and the model on it, which tells more than a version does.
fn engine(config: &Config, board: &Board, findings: &mut Vec<Finding>) {
    const WHAT: &str = "runtime";
    let runtime = match open(&config.runtime.backbone()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let words = format!("{error}; this machine wants {}", board.package);
            return findings.push(Finding::new(WHAT, Verdict::Bad, words));
        }
    };
    findings.push(match runtime.name() {
        "tract" if config.runtime.backbone != RuntimeKind::Tract => {
            let words = format!("tract, which is slower than ONNX Runtime; install {}", board.package);
            Finding::new(WHAT, Verdict::Warn, words)
        }
        "tract" => Finding::new(WHAT, Verdict::Fine, "tract, as the configuration says"),
        _ => Finding::new(WHAT, Verdict::Fine, format!("{}, its CPU provider", runtime.describe())),
    });
    if let Some(finding) = model(config, runtime.as_ref()) {
        findings.push(finding);
    }
}

/// As [`runtime::open`], which warns of what is a finding here.
fn open(choice: &RuntimeChoice) -> Result<Box<dyn Runtime>, RuntimeError> {
    let is_nowhere = matches!(
        runtime::library(choice.library.as_deref()),
        Err(RuntimeError::NoLibrary { .. } | RuntimeError::NotBuilt(_))
    );
    match choice.kind {
        RuntimeKind::Auto if is_nowhere => {
            runtime::open(&RuntimeChoice { kind: RuntimeKind::Tract, library: None })
        }
        _ => runtime::open(choice),
    }
}

/// A frame through the model that the daemon would take; none where the configuration's finding says why not.
fn model(config: &Config, runtime: &dyn Runtime) -> Option<Finding> {
    const WHAT: &str = "model";
    let current = config.state_dir.join("models/current.onnx");
    let path = if current.exists() { current } else { config.model.base.clone() };
    if !path.exists() {
        return None;
    }
    let frame = Picture::filled(config.camera.width, config.camera.height, [114; 3]);
    let options = SessionOptions { threads: config.runtime.threads };
    let time = || {
        let mut detector = Detector::open(&path, config.model.imgsz, runtime, &options)?;
        let keep = config.detect.keep();
        // The first takes longer than all that come.
        detector.detect(&frame, &keep)?;
        let start = Instant::now();
        detector.detect(&frame, &keep)?;
        Ok::<_, crate::detect::DetectError>((detector.input(), start.elapsed()))
    };
    Some(match time() {
        Ok(((height, width), took)) => {
            let words = format!("{} at {width}×{height}: {} ms a frame", path.display(), took.as_millis());
            match took > Duration::from_secs_f64(1.0 / config.camera.fps) {
                true => {
                    let words =
                        format!("{words}, too slow for camera.fps = {}; lower that", config.camera.fps);
                    Finding::new(WHAT, Verdict::Warn, words)
                }
                false => Finding::new(WHAT, Verdict::Fine, words),
            }
        }
        Err(error) => Finding::new(WHAT, Verdict::Bad, format!("{}: {error}", path.display())),
    })
}

fn broker(config: &Config) -> Finding {
    const WHAT: &str = "broker";
    let broker = &config.mqtt.broker;
    match reach(broker) {
        Ok(()) => Finding::new(WHAT, Verdict::Fine, format!("something listens at {broker}")),
        Err(error) => {
            let words = format!(
                "{broker} can't be reached ({error}); graftd detects without it and keeps its reports: start it, or set \
                 mqtt.broker"
            );
            Finding::new(WHAT, Verdict::Warn, words)
        }
    }
}
