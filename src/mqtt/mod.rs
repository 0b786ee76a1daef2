//! Topics, commands, reports, and the link that empties the outbox.
//!
//! What must arrive (events, answers) goes through the store's outbox and is deleted when the broker
//! has acknowledged it. What only the latest of matters (`status`, `state`, `model`, capabilities) is
//! kept in memory as a *fact* and published, retained, at every connection and whenever it changes.

mod afar;
mod arguments;
mod asyncapi;
#[cfg(feature = "demo-broker")]
mod broker;
mod classes;
mod command;
mod discovery;
mod facts;
mod flight;
mod link;
mod pace;
mod report;
mod schema;
mod session;
mod settings;
mod tls;
mod topics;
mod wire;

pub use crate::config::COMMANDS;
pub use afar::{Afar, AfarError, Heard};
pub use arguments::{
    CaptureArguments, ClassRef, EvaluateArguments, ExportArguments, LabelArguments, LabelledBox,
    PromoteArguments, SetArguments, TrainArguments,
};
pub use asyncapi::asyncapi;
#[cfg(feature = "demo-broker")]
pub use broker::LocalBroker;
pub use classes::ClassArguments;
pub use command::{Arguments, MAX_PAYLOAD, Payload, capability, parse};
pub use discovery::Discovery;
pub use facts::Facts;
pub use link::{Link, LinkEvent, Taken};
pub use report::{
    Answer, BoxReport, CameraTrouble, ModelEvent, ModelReport, ProgressReport, RunOutcome, RunReport,
    SampleReport, StateReport, identified,
};
pub use session::end_session;
pub use settings::{LinkSettings, Secret, SettingsError};
pub use tls::{TlsError, TlsFiles};
pub use topics::{Incoming, Topics};
pub use wire::ReplyTo;
