//! Where two neighbouring frames disagree.
//!
//! What was surely seen a moment ago and has no partner now, or the other way round, was seen wrongly once. A
//! partner need not be of the same confidence, but what it lacks of it is disagreement; nor need it be at the
//! same place: what moves fast is no flicker, and what came or went at the edge of the picture is none either. Where
//! the whole view is another one nothing need be on both frames.

use std::time::{Duration, Instant};

use crate::picture::{ALIKE, Levelled};
use crate::yolo::geometry::iou;
use crate::yolo::look::Sighting;

use super::why::Seen;

/// From here a box is sure enough to be missed.
const SURE: f32 = 0.5;

/// A partner overlaps by so much …
const OVERLAP: f64 = 0.1;

/// … or its centre is no further away than so many times the longer side of the box.
const REACH: f32 = 1.5;

/// A part of the picture's side that counts as its edge.
const EDGE: f32 = 0.04;

/// What was seen on the frame before.
#[derive(Debug)]
pub(super) struct Before {
    at: Instant,
    view: View,
    sightings: Vec<Sighting>,
}

/// The view that a frame shows.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// What it looks like.
    pub levelled: Levelled,
}

/// What two frames disagree on most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flicker {
    /// The confidence that is missing on one of the two, over all boxes.
    pub amount: f32,
    /// The class of the box that most is missing of.
    pub class: u32,
    /// Its confidence.
    pub score: f32,
    /// The frame that it is on.
    pub seen: Seen,
}

impl Before {
    /// Remembers a frame.
    pub fn new(at: Instant, view: View, sightings: &[Sighting]) -> Self {
        Before { at, view, sightings: sightings.to_vec() }
    }

    /// What this frame and the one before disagree on; none where they are too far apart to say.
    pub fn disagreement(
        &self,
        now: Instant,
        view: &View,
        sightings: &[Sighting],
        neighbours: Duration,
    ) -> Option<Flicker> {
        let size = view.size;
        if size != self.view.size
            || now.saturating_duration_since(self.at) > neighbours
            || self.view.levelled.overall(&view.levelled) >= ALIKE
        {
            return None;
        }
        let gone = missing(&self.sightings, sightings, size).map(|missing| (missing, Seen::Before));
        let come = missing(sightings, &self.sightings, size).map(|missing| (missing, Seen::Now));
        let all: Vec<_> = gone.chain(come).collect();
        let amount = all.iter().map(|((amount, _), _)| amount).sum();
        let most = all.into_iter().max_by(|a, b| a.0.0.total_cmp(&b.0.0))?;
        let ((_, sighting), seen) = most;
        Some(Flicker { amount, class: sighting.detection.class, score: sighting.detection.score, seen })
    }
}

/// What `there` lacks of the sure boxes of `here`.
fn missing<'a>(
    here: &'a [Sighting],
    there: &'a [Sighting],
    size: (u32, u32),
) -> impl Iterator<Item = (f32, &'a Sighting)> {
    here.iter()
        .filter(move |sighting| sighting.detection.score >= SURE && !is_at_edge(sighting, size))
        .filter_map(move |sighting| {
            let partners = there.iter().filter(|other| may_be(sighting, other));
            let best = partners.map(|other| other.detection.score).fold(0.0, f32::max);
            let amount = sighting.detection.score - best;
            // A little less sure is the noise of any camera.
            (amount > SURE / 2.0).then_some((amount, sighting))
        })
}

fn may_be(one: &Sighting, other: &Sighting) -> bool {
    if one.detection.class != other.detection.class {
        return false;
    }
    let (a, b) = (one.detection.corners(), other.detection.corners());
    let centre = |c: [f32; 4]| ((c[0] + c[2]) / 2.0, (c[1] + c[3]) / 2.0);
    let ((ax, ay), (bx, by)) = (centre(a), centre(b));
    let side = (a[2] - a[0]).max(a[3] - a[1]);
    let (dx, dy) = (ax - bx, ay - by);
    // Not `hypot`: it is glibc 2.35's, and boards have 2.34.
    dx * dx + dy * dy <= (REACH * side).powi(2) || iou(a.map(f64::from), b.map(f64::from)) >= OVERLAP
}

fn is_at_edge(sighting: &Sighting, (width, height): (u32, u32)) -> bool {
    let [x1, y1, x2, y2] = sighting.detection.corners();
    let (dx, dy) = (EDGE * width as f32, EDGE * height as f32);
    x1 < dx || y1 < dy || x2 > width as f32 - dx || y2 > height as f32 - dy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Picture, Thumbnail};
    use crate::yolo::detection::Detection;

    const SIZE: (u32, u32) = (200, 200);

    fn at(x1: f32, class: u32, score: f32) -> Sighting {
        let detection = Detection { x1, y1: 80.0, x2: x1 + 20.0, y2: 100.0, score, class };
        Sighting { detection, rival: None }
    }

    fn flicker(before: &[Sighting], now: &[Sighting]) -> Option<Flicker> {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        Before::new(start, view(SIZE, 0), before).disagreement(
            later,
            &view(SIZE, 0),
            now,
            Duration::from_secs(2),
        )
    }

    /// Half of it in another brightness, from the left or from above.
    fn view((width, height): (u32, u32), half: usize) -> View {
        let mut picture = Picture::filled(width, height, [60; 3]);
        for y in 0..height {
            for x in 0..width {
                if [2 * x < width, 2 * y < height][half] {
                    let at = 3 * (y * width + x) as usize;
                    picture.rgb_mut()[at..at + 3].fill(180);
                }
            }
        }
        View { size: (width, height), levelled: Levelled::of(&Thumbnail::of(&picture)) }
    }

    #[test]
    fn what_was_sure_and_is_gone_flickers_both_ways() {
        let (gone, come) = (flicker(&[at(50.0, 1, 0.9)], &[]), flicker(&[], &[at(50.0, 1, 0.9)]));
        assert_eq!(gone, Some(Flicker { amount: 0.9, class: 1, score: 0.9, seen: Seen::Before }));
        assert_eq!(come, Some(Flicker { amount: 0.9, class: 1, score: 0.9, seen: Seen::Now }));
        let unsure = flicker(&[at(50.0, 1, 0.9)], &[at(52.0, 1, 0.2)]).unwrap();
        assert!((unsure.amount - 0.7).abs() < 1e-6);
        assert!(flicker(&[at(50.0, 1, 0.9)], &[at(52.0, 2, 0.9)]).is_some(), "another class");
    }

    #[test]
    fn what_moves_or_leaves_or_was_never_sure_does_not() {
        assert_eq!(flicker(&[at(50.0, 1, 0.9)], &[at(75.0, 1, 0.8)]), None, "it moves");
        assert_eq!(flicker(&[at(2.0, 1, 0.9)], &[]), None, "it leaves");
        assert_eq!(flicker(&[at(50.0, 1, 0.4)], &[]), None, "it was never sure");
        assert!(flicker(&[at(50.0, 1, 0.9)], &[at(130.0, 1, 0.9)]).is_some(), "that is another one");
    }

    #[test]
    fn frames_far_apart_or_of_another_camera_are_no_neighbours() {
        let start = Instant::now();
        let before = Before::new(start, view(SIZE, 0), &[at(50.0, 1, 0.9)]);
        let second = Duration::from_secs(1);
        assert!(before.disagreement(start + second, &view(SIZE, 0), &[], second).is_some());
        assert_eq!(before.disagreement(start + 2 * second, &view(SIZE, 0), &[], second), None);
        assert_eq!(before.disagreement(start + second, &view((100, 200), 0), &[], second), None);
        assert_eq!(before.disagreement(start + second, &view(SIZE, 1), &[], second), None);
    }
}
