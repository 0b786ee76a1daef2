//! The whole loop on bundled pictures: a daemon, a folder that plays the camera, an operator that
//! speaks MQTT alone, a run, and what came of it.

mod operator;
mod pictures;
mod share;

pub use operator::Told;
pub use share::{Share, ShareError};

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::capture::SourceSpec;
use crate::config::{
    ApiConfig, Broker, CameraConfig, Config, ModelConfig, MqttConfig, RuntimeConfig, TrainConfig,
};
use crate::daemon::{Daemon, DaemonError};
use crate::dataset::{DataSet, DatasetError, Example};
use crate::mqtt::{RunOutcome, Topics};
use crate::select::SelectOptions;
use crate::train::{Guest, TrainEvent, TrainOptions, Turns, peak_rss_mb};

use operator::{Operator, Truth};

/// What the demo is told.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The bundled files.
    pub share: Share,
    /// A broker to use; none starts one inside the process.
    pub broker: Option<Broker>,
    /// Where the model and the pictures go.
    pub out: PathBuf,
    /// What the graphs run on.
    pub runtime: RuntimeConfig,
    /// Passes over the samples.
    pub epochs: u32,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct DemoOutcome {
    /// What the run measured, as the daemon reported it.
    pub run: RunOutcome,
    /// The gate's words.
    pub reason: String,
    /// Stages and the seconds that each took.
    pub stages: Vec<(&'static str, f64)>,
    /// The most memory that the process held, MB.
    pub peak_rss_mb: Option<f64>,
    /// The drop-in.
    pub model: PathBuf,
    /// Before and after, side by side.
    pub pictures: Vec<PathBuf>,
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The bundled data set is damaged.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The daemon.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The broker inside the process does not start.
    #[error("the broker inside the process does not start: {0}; name one with --broker")]
    LocalBroker(io::Error),
    /// The broker can't be used.
    #[error("broker {broker}: {reason}")]
    Broker {
        /// Its address.
        broker: Broker,
        /// Why, and what to do.
        reason: String,
    },
    /// The daemon answered a command with `failed`.
    #[error("the daemon refused {command}: {reason}")]
    Command {
        /// Which.
        command: String,
        /// Why.
        reason: String,
    },
    /// Nothing was heard for too long.
    #[error("nothing was heard from the daemon for {0} s; run with --verbose to see why")]
    Silence(u64),
    /// A picture could not be drawn.
    #[error(transparent)]
    Draw(#[from] crate::detect::DetectError),
    /// A picture could not be written.
    #[error(transparent)]
    Picture(#[from] crate::picture::PictureError),
    /// Ctrl-C.
    #[error("interrupted; nothing is left running")]
    Interrupted,
}

/// Without a word for so long, something is wrong: an epoch on the slowest board takes a minute.
const SILENCE: Duration = Duration::from_secs(300);

/// Runs the demo. `tell` hears what the operator hears.
///
/// # Errors
/// [`DemoError`]; the daemon has ended and the temporary state is gone then.
pub fn run(
    options: &DemoOptions,
    tell: &mut dyn FnMut(&Told),
    interrupted: &AtomicBool,
) -> Result<DemoOutcome, DemoError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| DemoError::Io { path, source }
    };
    let mut stages = Stages::begin();
    fs::create_dir_all(&options.out).map_err(io(&options.out))?;
    let data = DataSet::open(&options.share.data_yaml())?;
    let scratch = tempfile::Builder::new()
        .prefix("graftd-demo-")
        .tempdir()
        .map_err(io(Path::new("the temporary folder")))?;
    let frames = scratch.path().join("frames");
    let truth = lay_out(&data, &frames).map_err(io(&frames))?;
    let broker = match &options.broker {
        Some(broker) => broker.clone(),
        None => local_broker()?,
    };
    let config = configuration(options, scratch.path(), frames, &broker);
    let topics = Topics::new(format!("graftd/{}", config.device));
    let (state_dir, client_id) = (config.state_dir.clone(), config.client_id());
    let operator = Operator::start(&broker, topics, truth).map_err(DemoError::LocalBroker)?;
    let own = config.clone();
    let daemon = Daemon::start(config, Box::new(move |remote| Ok(own.with_remote(remote, |_| None))))?;
    stages.end("start");
    let watched = watch(&operator, &daemon, tell, interrupted, &mut stages, &broker);
    daemon.stop();
    let joined = daemon.join();
    // The daemon has said its last word by now.
    let cleared = match &options.broker {
        Some(broker) => operator.clear(broker, &client_id),
        None => Ok(()),
    };
    operator.finish();
    let (run, reason) = match watched {
        Err(silence @ DemoError::Silence(_)) => {
            // Its own error says more than that nothing was heard from it.
            joined?;
            return Err(silence);
        }
        watched => watched?,
    };
    joined?;
    cleared.map_err(|reason| DemoError::Broker { broker, reason })?;

    let model = options.out.join("model.onnx");
    let current = state_dir.join("models/current.onnx");
    fs::copy(&current, &model).map_err(io(&current))?;
    let pictures = pictures::before_after(options, &model, &data.val)?;
    stages.end("pictures");
    Ok(DemoOutcome { run, reason, stages: stages.done, peak_rss_mb: peak_rss_mb(), model, pictures })
}

/// Copies all pictures into one folder; what is on each, by the picture's name.
fn lay_out(data: &DataSet, frames: &Path) -> io::Result<HashMap<String, Truth>> {
    fs::create_dir_all(frames)?;
    let mut truth = HashMap::new();
    let mut add = |example: &Example, holdout: bool| -> io::Result<()> {
        let name = example.picture.file_name().unwrap_or_default();
        fs::copy(&example.picture, frames.join(name))?;
        let labels = example.labels.clone();
        truth.insert(name.to_string_lossy().into_owned(), Truth { labels, holdout });
        Ok(())
    };
    data.train.iter().try_for_each(|example| add(example, false))?;
    data.val.iter().try_for_each(|example| add(example, true))?;
    Ok(truth)
}

#[cfg(feature = "demo-broker")]
fn local_broker() -> Result<Broker, DemoError> {
    let address = crate::mqtt::LocalBroker::start().map_err(DemoError::LocalBroker)?.address();
    Ok(Broker { host: address.ip().to_string(), port: address.port(), tls: false, user: None })
}

#[cfg(not(feature = "demo-broker"))]
fn local_broker() -> Result<Broker, DemoError> {
    Err(DemoError::LocalBroker(io::Error::other("this graftd was built without it")))
}

fn configuration(options: &DemoOptions, scratch: &Path, frames: PathBuf, broker: &Broker) -> Config {
    // The pictures look straight down: every way up is as good.
    let train = TrainOptions { epochs: options.epochs, turns: Turns::All, ..TrainOptions::default() };
    Config {
        device: format!("demo-{}", std::process::id()),
        state_dir: scratch.join("state"),
        model: ModelConfig { base: options.share.base(), imgsz: None },
        camera: CameraConfig {
            source: Some(SourceSpec::Folder(frames)),
            fps: 50.0,
            ..CameraConfig::default()
        },
        // Every picture is worth a label here.
        select: SelectOptions {
            random_share: 1.0,
            least_difference: 0.0,
            per_hour: 10_000,
            ..SelectOptions::default()
        },
        // Somebody watches and waits for it.
        train: TrainConfig {
            guest: Guest { idle: false, cpus: vec![] },
            options: train,
            ..TrainConfig::default()
        },
        mqtt: MqttConfig { broker: broker.clone(), ..MqttConfig::default() },
        // Not in the place of a daemon that runs on this machine, or is to.
        api: ApiConfig { socket: Some(scratch.join("api.sock")), ..ApiConfig::default() },
        runtime: options.runtime.clone(),
        ..Config::default()
    }
}

/// Follows the operator until the run has ended.
fn watch(
    operator: &Operator,
    daemon: &Daemon,
    tell: &mut dyn FnMut(&Told),
    interrupted: &AtomicBool,
    stages: &mut Stages,
    broker: &Broker,
) -> Result<(RunOutcome, String), DemoError> {
    let mut heard = Instant::now();
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        // Its own error is better than the operator's silence.
        if daemon.is_finished() || heard.elapsed() > SILENCE {
            return Err(DemoError::Silence(heard.elapsed().as_secs()));
        }
        let told = match operator.told.recv_timeout(Duration::from_millis(100)) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                let reason = "the operator's connection has ended".into();
                return Err(DemoError::Broker { broker: broker.clone(), reason });
            }
        };
        heard = Instant::now();
        tell(&told);
        match told {
            Told::Run(TrainEvent::Started { .. }) => stages.end("frames detected and labelled"),
            Told::Run(TrainEvent::Features { done, total }) if done == total => stages.end("features"),
            Told::Ended { outcome, reason } => {
                stages.end("training");
                return Ok((*outcome, reason));
            }
            Told::Failed { command, reason } => return Err(DemoError::Command { command, reason }),
            Told::NoBroker(reason) => return Err(DemoError::Broker { broker: broker.clone(), reason }),
            Told::Online | Told::Labelled { .. } | Told::Run(_) => {}
        }
    }
}

/// What took how long.
struct Stages {
    done: Vec<(&'static str, f64)>,
    since: Instant,
}

impl Stages {
    fn begin() -> Self {
        Stages { done: Vec::new(), since: Instant::now() }
    }

    fn end(&mut self, name: &'static str) {
        self.done.push((name, self.since.elapsed().as_secs_f64()));
        self.since = Instant::now();
    }
}
