//! How a command ends when it does not end well: a line on stderr and an exit code.

use std::process::ExitCode;

use crate::config::{ConfigError, Fault};
use crate::daemon::DaemonError;
use crate::dataset::DatasetError;
use crate::demo::DemoError;
use crate::detect::DetectError;
use crate::runtime::RuntimeError;
use crate::store::StoreError;
use crate::train::TrainError;
use crate::web::ClientError;

/// Why a command did not do what it was asked for.
pub(super) enum Failure {
    /// The work failed: exit code 1.
    Failed(anyhow::Error),
    /// Usage, configuration or input is wrong: exit code 2.
    Input(anyhow::Error),
    /// There was nothing to do: exit code 3.
    Nothing(String),
    /// Whoever read the output has gone: no message, as is the custom.
    Silent,
}

impl Failure {
    /// Wrong input, in words.
    pub fn input(message: impl std::fmt::Display) -> Self {
        Failure::Input(anyhow::anyhow!("{message}"))
    }

    /// Faults of a configuration: the first is the error line, the others are worth seeing too.
    pub fn faults(faults: &[Fault]) -> Self {
        for fault in faults.iter().skip(1) {
            eprintln!("{}", one_line(&fault.to_string()));
        }
        Failure::input(faults.first().map_or_else(String::new, ToString::to_string))
    }

    /// Failed work, in words.
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Failure::Failed(anyhow::anyhow!("{message}"))
    }

    /// Prints the line and gives the code.
    pub fn report(self) -> ExitCode {
        let (message, code) = match self {
            Failure::Failed(error) => (words(&error), 1),
            Failure::Input(error) => (words(&error), 2),
            Failure::Nothing(message) => (message, 3),
            Failure::Silent => return ExitCode::SUCCESS,
        };
        eprintln!("graftd: {}", one_line(&message));
        ExitCode::from(code)
    }
}

/// One line, whatever a library put into its text.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error and its causes; a cause that the error's own words hold is not said twice.
fn words(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        match &error {
            DatasetError::Faults { faults } => {
                // The first is the error line; the others are worth seeing too.
                for fault in &faults[1..] {
                    eprintln!("{fault}");
                }
                Failure::Input(error.into())
            }
            DatasetError::Write { .. } => Failure::Failed(error.into()),
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Refused { .. } => Failure::Failed(error.into()),
            _ => Failure::Input(error.into()),
        }
    }
}

impl From<DetectError> for Failure {
    fn from(error: DetectError) -> Self {
        match error {
            DetectError::Runtime(error) => error.into(),
            other => Failure::Input(other.into()),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Runtime(error) => error.into(),
            TrainError::TooLittle(message) => Failure::Nothing(message),
            TrainError::Base { .. }
            | TrainError::Classes(_)
            | TrainError::Option(_)
            | TrainError::Picture(_)
            | TrainError::Grad(_)
            | TrainError::Onnx(_) => Failure::Input(error.into()),
            TrainError::Cache(_)
            | TrainError::Diverged { .. }
            | TrainError::Panicked
            | TrainError::Memory(_)
            | TrainError::Cancelled => Failure::Failed(error.into()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Faults(faults) => Failure::faults(&faults),
            error @ ConfigError::Read { .. } => Failure::Input(error.into()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NothingBefore(_) | StoreError::NoModel => Failure::Nothing(error.to_string()),
            other if other.is_input() => Failure::Input(other.into()),
            other => Failure::Failed(other.into()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { status: 400..500, .. } | ClientError::Denied { .. } => {
                Failure::Input(error.into())
            }
            other => Failure::Failed(other.into()),
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Store(error) => error.into(),
            DaemonError::Detect(error) => error.into(),
            DaemonError::Runtime(error) => error.into(),
            DaemonError::Thread(_) | DaemonError::LinkCrashed => Failure::Failed(error.into()),
            DaemonError::Base { .. }
            | DaemonError::Settings(_)
            | DaemonError::Token { .. }
            | DaemonError::Refused { .. } => Failure::Input(error.into()),
        }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Dataset(error) => error.into(),
            DemoError::Daemon(error) => error.into(),
            DemoError::Draw(error) => error.into(),
            DemoError::Io { .. } | DemoError::Broker { .. } => Failure::Input(error.into()),
            other => Failure::Failed(other.into()),
        }
    }
}
