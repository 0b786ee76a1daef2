//! Everything that can wake the daemon.

use std::sync::mpsc::{SyncSender, sync_channel};

use serde_json::Value;

use crate::capture::Frame;
use crate::mqtt::{Arguments, LinkEvent, Taken};
use crate::train::{Outcome, TrainError, TrainEvent};

use super::api::Caller;
use super::camera::Trouble;

/// Something happened.
pub(super) enum Event {
    /// A camera's keeper tells. One that has been replaced may still have something to say: they have numbers.
    Camera { keeper: u64, event: CameraEvent },
    /// The link tells; the sender waits until the receiver of `done` is told or dropped.
    Link { event: LinkEvent, done: SyncSender<Taken> },
    /// Somebody asks over the API.
    Asked { arguments: Box<Arguments>, caller: Caller },
    /// The run goes on.
    Run(TrainEvent),
    /// The run came to an end.
    RunEnded(Box<Result<Outcome, TrainError>>),
    /// An errand came to an end: its result, or why not.
    ErrandEnded(Result<Value, String>),
    /// The configuration has changed.
    Reload,
    /// Wakes the loop, so that it sees that somebody wants the daemon to stop.
    Stop,
}

/// What becomes of the camera.
#[derive(Debug)]
pub(super) enum CameraEvent {
    /// It has a frame.
    Frame(Frame),
    /// It could not give a frame, for this reason; it may give the next.
    BadFrame(String),
    /// It is open, and gives this.
    Gives(String),
    /// It gives no frames; it is tried again.
    Trouble(Trouble),
    /// It gives frames again.
    Back,
    /// It has no more frames.
    Ended,
}

/// Hands the link's events in, one at a time: the broker gets its acknowledgement when the daemon has
/// taken the command on, not before.
pub(super) fn from_link(events: SyncSender<Event>) -> impl FnMut(LinkEvent) -> Taken + Send + 'static {
    move |event| {
        let (done, is_done) = sync_channel(1);
        // An error says that the daemon could not take it, or ends without having done so.
        match events.send(Event::Link { event, done }) {
            Ok(()) => is_done.recv().unwrap_or(Taken::No),
            Err(_) => Taken::No,
        }
    }
}
