//! What the API answers, path by path.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::mqtt::{Answer, Arguments, COMMANDS, Facts, Payload, Topics, parse};
use crate::store::{Models, Sample, SampleId, SampleState, Slot, Store, StoreError};

use super::hub::{self, Hub};
use super::metrics;
use super::request::Request;
use super::response::Response;

/// The daemon's loop looks at one frame after the other; when it has not answered for so long, something is
/// wrong with it.
const PATIENCE: Duration = Duration::from_secs(10);
/// A command may wait for a frame, or for a model to be loaded.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
/// Samples in one answer, unless asked otherwise, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;

/// Whoever carries commands out.
pub trait Commands: Send + Sync {
    /// Hands a command in and waits, at most so long, for what comes of it.
    fn carry_out(&self, arguments: Arguments, patience: Duration) -> Told;
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It has come to an end.
    Answer(Answer),
    /// A run has begun, under this id.
    Begun(String),
    /// It was taken on and takes longer than the patience.
    Later,
    /// Nobody takes it on.
    Silence,
}

/// A sample as it is listed, and where its frame lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedSample {
    /// What is known of it.
    #[serde(flatten)]
    pub sample: Sample,
    /// Its frame's file.
    pub path: PathBuf,
}

/// A slot as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedSlot {
    /// What is known of it.
    #[serde(flatten)]
    pub slot: Slot,
    /// Whether its model detects.
    pub current: bool,
}

impl ListedSlot {
    /// Every slot, in order.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn all(models: &Models) -> Result<Vec<ListedSlot>, StoreError> {
        let current = models.current()?.map(|slot| slot.slot);
        let listed = |slot: Slot| ListedSlot { current: Some(slot.slot) == current, slot };
        Ok(models.list()?.into_iter().map(listed).collect())
    }
}

/// What the API speaks of.
pub struct Api {
    /// Carries commands out.
    pub commands: Box<dyn Commands>,
    /// Samples, slots and ended runs.
    pub store: Arc<Store>,
    /// What is retained at the broker.
    pub facts: Arc<Facts>,
    /// The facts' names.
    pub topics: Topics,
    /// Reports as they go.
    pub hub: Arc<Hub>,
}

/// Paths and what each is for.
const PATHS: [(&str, &str); 11] = [
    ("GET /health", "200, or 503 with what is wrong"),
    ("GET /state", "what goes on, as MQTT's state"),
    ("GET /model", "the current model, as MQTT's model"),
    ("GET /models", "every slot"),
    ("GET /samples", "samples, oldest first; ?state=unlabelled|labelled|holdout&limit=&after="),
    ("GET /samples/<id>", "one sample"),
    ("GET /samples/<id>/frame.jpg", "its frame"),
    ("GET /runs", "the runs that have ended"),
    ("GET /metrics", "for Prometheus"),
    ("GET /events", "reports as they go, as server-sent events"),
    ("POST /cmd/<command>", "a command, with MQTT's arguments as JSON"),
];

impl Api {
    pub(super) fn answer(&self, request: &Request) -> Response {
        self.find(request).unwrap_or_else(|error| error)
    }

    fn find(&self, request: &Request) -> Result<Response, Response> {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        let wanted = if path.first() == Some(&"cmd") { "POST" } else { "GET" };
        if request.method != wanted {
            return Err(Response::error(405, format!("{:?} is not done here; use {wanted}", request.method)));
        }
        Ok(match path.as_slice() {
            [] => Response::json(200, &BTreeMap::from(PATHS)),
            ["health"] => self.health(),
            ["state"] => Response::json(200, &self.state()?),
            ["model"] => Response::json(200, &self.model()),
            ["models"] => Response::json(200, &ListedSlot::all(self.store.models())?),
            ["samples"] => self.samples(&request.query)?,
            ["samples", id] => Response::json(200, &self.sample(id)?),
            ["samples", id, "frame.jpg"] => self.frame(id)?,
            ["runs"] => Response::json(200, &self.store.runs().list()?),
            ["metrics"] => {
                let text = metrics::text(&self.state()?, &self.model(), &self.hub);
                Response::new(200, metrics::CONTENT_TYPE, text)
            }
            ["events"] => self.events()?,
            ["cmd", command] => self.command(command, &request.body)?,
            _ => {
                let path = path.join("/");
                return Err(Response::error(404, format!("there is no {path:?}; GET / lists what there is")));
            }
        })
    }

    fn state(&self) -> Result<Value, Response> {
        match self.commands.carry_out(Arguments::State, PATIENCE) {
            Told::Answer(Answer::Successful { result }) => Ok(result),
            _ => Err(Response::error(503, silence(PATIENCE))),
        }
    }

    fn health(&self) -> Response {
        let faults = match self.state() {
            Ok(state) => super::faults(&state),
            Err(_) => vec![silence(PATIENCE)],
        };
        match faults.as_slice() {
            [] => Response::json(200, &json!({"healthy": true})),
            faults => Response::json(503, &json!({"error": faults.join("; "), "healthy": false})),
        }
    }

    /// As retained at the broker.
    fn model(&self) -> Value {
        let model = self.facts.get(&self.topics.model());
        model.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
    }

    fn samples(&self, query: &[(String, String)]) -> Result<Response, Response> {
        let wanted = Wanted::read(query).map_err(|reason| Response::error(400, reason))?;
        let samples = self.store.samples();
        let mut page: Vec<ListedSample> = Vec::new();
        let mut after = None;
        for sample in samples.iter_after(wanted.after) {
            let sample = sample?;
            if wanted.state.is_some_and(|state| state != SampleState::of(&sample)) {
                continue;
            }
            if page.len() == wanted.limit {
                // There are more: where to go on.
                after = page.last().map(|last| last.sample.id);
                break;
            }
            page.push(ListedSample { path: samples.frame_path(&sample), sample });
        }
        Ok(Response::json(200, &json!({"samples": page, "after": after})))
    }

    fn sample(&self, id: &str) -> Result<ListedSample, Response> {
        let id = id.parse().map_err(|error| Response::error(404, error))?;
        let samples = self.store.samples();
        let sample = samples.get(id)?;
        Ok(ListedSample { path: samples.frame_path(&sample), sample })
    }

    fn frame(&self, id: &str) -> Result<Response, Response> {
        let path = self.sample(id)?.path;
        match fs::read(&path) {
            Ok(bytes) => {
                let kind = if bytes.starts_with(b"\x89PNG") { "image/png" } else { "image/jpeg" };
                Ok(Response::new(200, kind, bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Response::error(404, format!("the frame of sample {id} is missing")))
            }
            Err(error) => Err(Response::error(500, format!("{}: {error}", path.display()))),
        }
    }

    /// What is so first, then what changes.
    fn events(&self) -> Result<Response, Response> {
        let many = || Response::error(503, "too many listen already; end one of them first");
        let later = self.hub.listen().ok_or_else(many)?;
        let facts = [("state", self.topics.state()), ("model", self.topics.model())];
        let now =
            facts.into_iter().filter_map(|(name, topic)| Some(hub::line(name, &self.facts.get(&topic)?)));
        Ok(Response::events(now.collect(), later))
    }

    fn command(&self, command: &str, body: &[u8]) -> Result<Response, Response> {
        if !COMMANDS.contains(&command) {
            let command: String = command.chars().take(40).collect();
            let known = COMMANDS.join(", ");
            return Err(Response::error(404, format!("there is no command {command:?}; there are {known}")));
        }
        let arguments = match parse(command, None, body) {
            Payload::Init(arguments) => arguments,
            Payload::Bad(reason) => return Err(Response::error(400, reason)),
            Payload::Echo => return Err(Response::error(400, "this is an answer and no command")),
        };
        match self.commands.carry_out(arguments, COMMAND_PATIENCE) {
            Told::Answer(Answer::Successful { result }) => Ok(Response::json(200, &result)),
            Told::Answer(Answer::Failed { reason }) => Err(Response::error(409, reason)),
            Told::Begun(run) => Ok(Response::json(202, &json!({"run": run}))),
            Told::Answer(Answer::Executing) | Told::Later => Err(Response::error(
                504,
                format!("{command} is not done after {COMMAND_PATIENCE:?}, and may yet be; GET /state tells"),
            )),
            Told::Silence => Err(Response::error(503, silence(COMMAND_PATIENCE))),
        }
    }
}

fn silence(patience: Duration) -> String {
    format!("the daemon did not answer within {patience:?}; its log says more, or it is just stopping")
}

/// Which samples are asked for.
struct Wanted {
    state: Option<SampleState>,
    limit: usize,
    after: Option<SampleId>,
}

impl Wanted {
    fn read(query: &[(String, String)]) -> Result<Self, String> {
        let mut wanted = Wanted { state: None, limit: PAGE, after: None };
        for (key, value) in query {
            match key.as_str() {
                "state" => {
                    wanted.state = Some(match value.as_str() {
                        "unlabelled" => SampleState::Unlabelled,
                        "labelled" => SampleState::Learn,
                        "holdout" => SampleState::Holdout,
                        _ => return Err(format!("state={value:?} is none of unlabelled, labelled, holdout")),
                    });
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LONGEST_PAGE).contains(limit));
                    wanted.limit =
                        limit.ok_or_else(|| format!("limit={value:?} is not 1 to {LONGEST_PAGE}"))?;
                }
                "after" => wanted.after = Some(value.parse().map_err(|error| format!("after={error}"))?),
                _ => return Err(format!("{key:?} is none of state, limit, after")),
            }
        }
        Ok(wanted)
    }
}

impl From<StoreError> for Response {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::NoSample(_) | StoreError::NoSlot { .. } | StoreError::NoModel => 404,
            StoreError::Away { .. } => 503,
            _ => 500,
        };
        Response::error(status, error)
    }
}
