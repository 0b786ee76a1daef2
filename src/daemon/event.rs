//! Everything that can wake the daemon.

use std::sync::mpsc::{SyncSender, sync_channel};

use crate::capture::Frame;
use crate::mqtt::{Arguments, LinkEvent};
use crate::train::{Outcome, TrainError, TrainEvent};

use super::api::Caller;
use super::camera::Trouble;

/// Something happened.
pub(super) enum Event {
    /// The camera has a frame.
    Frame(Frame),
    /// The camera could not give a frame, for this reason; it may give the next.
    BadFrame(String),
    /// The camera is open, and gives this.
    CameraGives(String),
    /// The camera gives no frames; it is tried again.
    CameraTrouble(Trouble),
    /// It gives frames again.
    CameraBack,
    /// The camera has no more frames.
    CameraEnded,
    /// The link tells; the sender waits until the receiver of `done` is told or dropped.
    Link { event: LinkEvent, done: SyncSender<()> },
    /// Somebody asks over the API.
    Asked { arguments: Box<Arguments>, caller: Caller },
    /// The run goes on.
    Run(TrainEvent),
    /// The run came to an end.
    RunEnded(Box<Result<Outcome, TrainError>>),
    /// Wakes the loop, so that it sees that somebody wants the daemon to stop.
    Stop,
}

/// Hands the link's events in, one at a time: the broker gets its acknowledgement when the daemon has
/// taken the command on, not before.
pub(super) fn from_link(events: SyncSender<Event>) -> impl FnMut(LinkEvent) -> bool + Send + 'static {
    move |event| {
        let (done, is_done) = sync_channel(1);
        // An error says that the daemon ends without having taken it.
        events.send(Event::Link { event, done }).is_ok() && is_done.recv().is_ok()
    }
}
