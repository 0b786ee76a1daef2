//! What the camera brings: each frame is looked at, and kept if it is worth it.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::capture::Frame;
use crate::label::LabelBox;
use crate::mqtt::{Answer, BoxReport, SampleReport, identified};
use crate::picture::Picture;
use crate::select::{KeptLook, Why};
use crate::store::{FoundBox, Interest, Message, NewSample, Sample, StoreError};
use crate::yolo::detection::Detection;

use super::ask::Ask;
use super::camera::{self, Post, Trouble};
use super::camera_judge::Wish;
use super::core::Core;
use super::event::CameraEvent;
use super::looks;
use super::names::Names;

/// Frames that can't be looked at are logged so often, and counted each.
const GARBAGE_SAID_EVERY: Duration = Duration::from_secs(60);
/// After the store or the disk was full the next frame is offered to it so much later.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The camera and its frames.
#[derive(Default)]
pub(super) struct Eyes {
    /// The number of the camera's keeper.
    pub keeper: u64,
    /// Lets the next frame through; none when the camera has ended.
    pub camera: Option<SyncSender<Wish>>,
    /// Why it gives no frames, while it gives none.
    pub trouble: Option<Trouble>,
    /// What it gives, in words.
    pub gives: Option<String>,
    /// Who waits for the next frame to be kept.
    pub asked: Vec<Ask>,
    /// Frames that were looked at, and that could not be.
    pub frames: u64,
    pub bad_frames: u64,
    /// Since when there is no room for frames.
    pub full_since: Option<Instant>,
    /// Why the last frame could not be looked at.
    garbage: Option<String>,
    garbage_said: Option<Instant>,
}

impl Core {
    /// Watches through the configured camera, if there is one, and no longer through the one before.
    pub(super) fn watch(&mut self) -> std::io::Result<()> {
        self.eyes.keeper += 1;
        self.eyes.camera = None;
        self.eyes.trouble = None;
        self.eyes.gives = None;
        // The keeper that was there before may beat or rest once more; that is put right by the next beat.
        self.heart.camera.rest();
        let Some(source) = self.config.camera.source() else { return Ok(()) };
        self.heart.camera.beat();
        let (events, pulse) = (self.events.clone(), self.heart.camera.clone());
        let post = Post { events, number: self.eyes.keeper, pulse };
        self.eyes.camera = Some(camera::start(source, self.config.camera.wishes(), post)?);
        self.next_frame();
        Ok(())
    }

    pub(super) fn camera_tells(&mut self, event: CameraEvent) -> Result<(), StoreError> {
        match event {
            CameraEvent::Frame(frame) => {
                let result = self.look_at(&frame);
                self.next_frame();
                result
            }
            CameraEvent::BadFrame(reason) => {
                let result = self.garbage(reason);
                self.next_frame();
                result
            }
            CameraEvent::Gives(words) => {
                self.eyes.gives = Some(words);
                self.state_changed();
                Ok(())
            }
            CameraEvent::Trouble(trouble) => {
                let result = self.no_frame(&trouble.reason);
                self.eyes.trouble = Some(trouble);
                // At once: the pauses between two tries keep it from coming often.
                self.state_due = Instant::now();
                result
            }
            CameraEvent::Back => {
                self.eyes.trouble = None;
                self.state_changed();
                Ok(())
            }
            CameraEvent::Ended => {
                tracing::info!("the camera has no more frames");
                self.eyes.camera = None;
                self.state_changed();
                self.no_frame("the camera has no more frames")
            }
        }
    }

    fn next_frame(&mut self) {
        let garbage = self.eyes.garbage.take();
        if let Some(camera) = &self.eyes.camera {
            // The thread has used the last: it either takes this or has ended.
            let _ = camera.try_send(garbage.map_or(Wish::Frame, Wish::Another));
        }
    }

    /// The camera gave something that is no frame. A camera may do so for months: one line a minute.
    fn garbage(&mut self, reason: String) -> Result<(), StoreError> {
        if self.eyes.garbage_said.is_none_or(|said| said.elapsed() >= GARBAGE_SAID_EVERY) {
            tracing::warn!("{reason}");
            self.eyes.garbage_said = Some(Instant::now());
        } else {
            tracing::debug!("{reason}");
        }
        let result = self.bad_frame(&reason);
        self.eyes.garbage = Some(reason);
        result
    }

    /// A frame could not be looked at: whoever waits for it is told.
    fn bad_frame(&mut self, reason: &str) -> Result<(), StoreError> {
        self.eyes.bad_frames += 1;
        self.no_frame(reason)
    }

    /// Answers whoever waits for the next frame.
    pub(super) fn no_frame(&mut self, reason: &str) -> Result<(), StoreError> {
        for ask in std::mem::take(&mut self.eyes.asked) {
            self.settle(&ask, &Answer::failed(reason))?;
        }
        Ok(())
    }

    /// Detects, and keeps the frame if it is worth it.
    fn look_at(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let picture = match frame.picture() {
            Ok(picture) => picture,
            Err(error) => return self.garbage(format!("frame {}: {error}", frame.source)),
        };
        let look = match self.detect(&picture)? {
            Some(Ok(look)) => look,
            None => {
                return match self.probation.trouble.clone() {
                    Some(reason) => self.no_frame(&reason),
                    None => Ok(()),
                };
            }
            Some(Err(error)) => {
                let reason = format!("frame {}: {error}", frame.source);
                tracing::error!("{reason}");
                return self.bad_frame(&reason);
            }
        };
        self.eyes.frames += 1;
        let asked = !self.eyes.asked.is_empty();
        if !asked && self.eyes.full_since.is_some_and(|since| since.elapsed() < TRY_AGAIN) {
            return Ok(());
        }
        match self.selector.decide(&picture, &look, asked, Instant::now()) {
            Some((why, seen)) => self.keep(frame, &picture, &look.found, &why, &seen),
            None => Ok(()),
        }
    }

    fn keep(
        &mut self,
        frame: &Frame,
        picture: &Picture,
        found: &[Detection],
        why: &Why,
        seen: &KeptLook,
    ) -> Result<(), StoreError> {
        let found = found.iter().map(|detection| found_box(detection, picture, &self.names)).collect();
        let new = NewSample {
            width: picture.width(),
            height: picture.height(),
            taken: frame.taken,
            source: frame.source.clone(),
            why: why.to_string(),
            interest: interest(why),
            found,
        };
        let bytes = match frame.encoded(picture) {
            Ok(bytes) => bytes,
            Err(error) => return self.no_frame(&error.to_string()),
        };
        let kept = self.store.samples().add(&bytes, new);
        self.mind_the_room(kept.as_ref().err());
        for ask in std::mem::take(&mut self.eyes.asked) {
            let answer = match &kept {
                Ok(sample) => Answer::Successful { result: json!({"sample": sample.id.to_string()}) },
                Err(error) => Answer::failed(error.to_string()),
            };
            self.settle(&ask, &answer)?;
        }
        let sample = match kept {
            Ok(sample) => sample,
            // Said once, when it began.
            Err(error) if error.is_full() => return Ok(()),
            Err(error) => return Err(error),
        };
        looks::remember(&mut self.looks, sample.id, seen);
        self.homeassistant.kept(picture);
        self.state_changed();
        let payload = identified(&self.sample_report(&sample));
        let topic = self.topics.event_sample();
        self.push(&Message { topic, payload, droppable: true, correlation: None })
    }

    /// A full disk or store stops the keeping of frames and nothing else; now and then it is tried again.
    fn mind_the_room(&mut self, error: Option<&StoreError>) {
        let was_full = self.eyes.full_since.is_some();
        match error {
            Some(error) if error.is_full() => {
                if !was_full {
                    tracing::error!("no frame is kept until there is room: {error}");
                }
                self.eyes.full_since = Some(Instant::now());
            }
            Some(_) => {}
            None => {
                if self.eyes.full_since.take().is_some() {
                    tracing::info!("there is room again; frames are kept");
                }
            }
        }
        if was_full != self.eyes.full_since.is_some() {
            self.state_changed();
        }
    }

    fn sample_report(&self, sample: &Sample) -> SampleReport {
        let boxes = sample.found.iter().map(|found| {
            let LabelBox { class, cx, cy, w, h } = found.label;
            let class = self.names.labels[class as usize].clone();
            BoxReport { class, score: found.score, cx, cy, w, h }
        });
        SampleReport {
            sample: sample.id.to_string(),
            time: sample.taken_ms as f64 / 1000.0,
            source: sample.source.clone(),
            width: sample.width,
            height: sample.height,
            why: sample.why.clone(),
            boxes: boxes.collect(),
        }
    }
}

/// What the store is to think of a frame that was kept for this reason.
fn interest(why: &Why) -> Interest {
    match why {
        Why::Random => Interest::Ordinary,
        Why::Unsure { .. } | Why::Rare { .. } | Why::New { .. } | Why::Flicker { .. } => Interest::Notable,
        Why::Asked => Interest::Asked,
    }
}

fn found_box(detection: &Detection, picture: &Picture, names: &Names) -> FoundBox {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let share = |low: f32, high: f32, side: f32| {
        let (low, high) = (low.clamp(0.0, side) / side, high.clamp(0.0, side) / side);
        ((low + high) / 2.0, high - low)
    };
    let (cx, w) = share(detection.x1, detection.x2, width);
    let (cy, h) = share(detection.y1, detection.y2, height);
    FoundBox {
        label: LabelBox { class: names.number(detection.class), cx, cy, w, h },
        score: detection.score,
    }
}
