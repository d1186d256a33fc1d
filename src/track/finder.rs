//! The faces of each frame of a stream: the whole picture is searched now and then; in between, faces are
//! followed.
//!
//! A search (P-Net on a pyramid) costs ten times as much as looking once more at the places where faces are
//! expected (O-Net on one crop each).

use std::time::Duration;

use super::{Cuts, Expected, Tracker};
use crate::detect::{Detector, Face, Params};
use crate::geometry::Rect;
use crate::image::ImageView;
use crate::runtime::RuntimeError;

/// How often the whole picture is searched at least, where it is left to us: a new face waits so long at most.
const SEARCH_EVERY: Duration = Duration::from_millis(350);

/// How often it is searched however little time there is.
const SEARCH_ANYWAY: Duration = Duration::from_secs(1);

/// How soon after a search a face that got lost is searched for.
const SEARCH_AGAIN: Duration = Duration::from_millis(200);

/// Least overlap of a face that is followed with where it was expected, and most that its area may change by
/// from frame to frame: anything else is another thing that looks like a face.
const SAME_PLACE: f32 = 0.3;
const AREA_CHANGE: f32 = 2.0;

/// Two faces that are followed to the same place are one.
const SAME_FACE: f32 = 0.5;

/// Least overlap of where a face was looked for and where it is; below it O-Net looks again, at the place that
/// it has named: its boxes are exact where it looks straight at a face.
const STRAIGHT: f32 = 0.75;

/// How long faces are taken to go on as before where nobody looks.
const UNSEEN: Duration = Duration::from_millis(250);

/// How often the whole picture is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interval {
    /// About three times a second, when a scene begins, and when a face gets lost.
    #[default]
    Automatic,
    /// In every n-th frame, and when a scene begins.
    Frames(u32),
}

/// How much may be done for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Effort {
    /// Faces are taken to go on as before.
    Guess,
    /// Known faces are looked at.
    Follow,
    /// The picture is searched when it is due.
    #[default]
    Search,
}

/// The faces of a stream, with numbers that stay with them.
#[derive(Debug, Default)]
pub struct Finder {
    tracker: Tracker,
    cuts: Cuts,
    /// Of the last search, and the frames since.
    searched: Option<Duration>,
    frames: u32,
    /// Faces as they were last found, for frames in which nobody looks.
    last: Vec<(i32, Face)>,
}

impl Finder {
    /// Forgets the stream; numbers of faces are not given again.
    pub fn reset(&mut self) {
        self.tracker.reset();
        self.cuts.reset();
        self.searched = None;
        self.last.clear();
    }

    /// The faces of a frame and their numbers, above 0.
    pub fn find(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        plan: Plan,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        if !plan.tracking {
            return self.find_alone(detector, view, params, plan);
        }
        self.tracker.begin(plan.now);
        if self.cuts.see(view) {
            self.tracker.reset();
            self.searched = None;
            self.last.clear();
        }
        self.frames = self.frames.saturating_add(1);
        let effort = if self.is_older(SEARCH_ANYWAY, plan.now) {
            Effort::Search
        } else {
            plan.effort
        };
        let found = match effort {
            Effort::Guess => self.guess(),
            Effort::Search if self.is_due(plan) => self.search(detector, view, params, plan.now)?,
            effort => {
                let (found, lost) = self.follow(detector, view, params)?;
                let may = effort == Effort::Search && plan.interval == Interval::Automatic;
                if lost && may && self.is_older(SEARCH_AGAIN, plan.now) {
                    self.search(detector, view, params, plan.now)?
                } else {
                    found
                }
            }
        };
        if effort != Effort::Guess {
            self.last.clone_from(&found);
        }
        Ok(found)
    }

    /// Every frame on its own.
    fn find_alone(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        plan: Plan,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        self.frames = self.frames.saturating_add(1);
        let is_due = match plan.interval {
            Interval::Automatic => true,
            Interval::Frames(_) => self.is_due(plan),
        };
        if plan.effort < Effort::Search || !is_due {
            return Ok(Vec::new());
        }
        self.note_search(plan.now);
        let faces = detector.detect(view, params)?;
        Ok(faces
            .into_iter()
            .map(|f| (self.tracker.number(), f))
            .collect())
    }

    fn note_search(&mut self, now: Duration) {
        self.searched = Some(now);
        self.frames = 0;
    }

    fn is_due(&self, plan: Plan) -> bool {
        match plan.interval {
            Interval::Automatic => self.is_older(SEARCH_EVERY, plan.now),
            Interval::Frames(n) => self.searched.is_none() || self.frames >= n,
        }
    }

    /// Whether the last search is so long ago, or of the future: the stream has been seeked.
    fn is_older(&self, age: Duration, now: Duration) -> bool {
        // Half a millisecond for times that are rounded.
        let slack = Duration::from_micros(500);
        self.searched
            .is_none_or(|then| then > now || now - then + slack >= age)
    }

    fn search(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        now: Duration,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        self.note_search(now);
        let clear = params.thresholds[2];
        let expected = self.tracker.expected(clear);
        let params = Params {
            known: self.tracker.known(),
            ..params.clone()
        };
        let faces = detector.detect(view, &params)?;
        let ids = self.tracker.find(&faces, clear);
        let mut found: Vec<_> = ids.into_iter().zip(faces).collect();
        // What the search overlooks may be seen by who knows where to look.
        let missed: Vec<_> = expected
            .into_iter()
            .filter(|e| e.is_present && found.iter().all(|(id, _)| *id != e.id))
            .collect();
        let (more, _) = self.look(detector, view, &missed, clear, &found)?;
        found.extend(more);
        Ok(limited(found, params.max_faces))
    }

    /// The faces that are known, and whether one of those of the frame before is lost.
    fn follow(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
    ) -> Result<(Vec<(i32, Face)>, bool), RuntimeError> {
        let clear = params.thresholds[2];
        let mut expected = self.tracker.expected(clear);
        if !params.regions.is_empty() {
            expected.retain(|e| {
                let place = e.rect.center();
                params.regions.iter().any(|region| region.contains(place))
            });
        }
        let (found, lost) = self.look(detector, view, &expected, clear, &[])?;
        Ok((limited(found, params.max_faces), lost))
    }

    /// Looks where faces are expected; `others` are faces already found.
    fn look(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        expected: &[Expected],
        clear: f32,
        others: &[(i32, Face)],
    ) -> Result<(Vec<(i32, Face)>, bool), RuntimeError> {
        let places: Vec<_> = expected.iter().map(|e| e.rect).collect();
        let mut seen = detector.follow(view, &places)?;
        let askew: Vec<usize> = (0..seen.len())
            .filter(|&i| {
                let is_off = |face: Face| {
                    let overlap = face.rect.iou(&places[i]);
                    (SAME_PLACE..STRAIGHT).contains(&overlap)
                };
                seen[i].is_some_and(is_off)
            })
            .collect();
        if !askew.is_empty() {
            let again: Vec<_> = askew.iter().filter_map(|&i| Some(seen[i]?.rect)).collect();
            for (&i, face) in askew.iter().zip(detector.follow(view, &again)?) {
                seen[i] = face;
            }
        }
        let mut kept: Vec<(Expected, Face)> = expected
            .iter()
            .copied()
            .zip(seen)
            .filter_map(|(e, face)| Some((e, face?)))
            .filter(|(e, face)| face.confidence > e.threshold && is_same(&e.rect, &face.rect))
            .collect();
        // Of two that were followed to one place the one that was there before stays, then the surer.
        let rank = |(e, face): &(Expected, Face)| (e.is_present, face.confidence);
        kept.sort_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        let mut found: Vec<(i32, Face)> = Vec::with_capacity(kept.len());
        for (e, face) in kept {
            let is_free = |(_, other): &(i32, Face)| other.rect.iou(&face.rect) < SAME_FACE;
            if others.iter().chain(&found).all(is_free) {
                self.tracker.follow(e.id, &face, clear);
                found.push((e.id, face));
            }
        }
        let lost = expected
            .iter()
            .any(|e| e.is_present && found.iter().all(|(id, _)| *id != e.id));
        Ok((found, lost))
    }

    /// Where the faces of the frames before should be.
    fn guess(&self) -> Vec<(i32, Face)> {
        let predicted = self.tracker.predicted(UNSEEN);
        let moved = |(id, face): &(i32, Face)| {
            let (_, rect) = predicted.iter().find(|(known, _)| known == id)?;
            let (from, to) = (face.rect.center(), rect.center());
            let face = Face {
                rect: *rect,
                landmarks: face.landmarks.translated(to.x - from.x, to.y - from.y),
                ..*face
            };
            Some((*id, face))
        };
        self.last.iter().filter_map(moved).collect()
    }
}

/// How a frame is to be treated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Time of the frame in the stream.
    pub now: Duration,
    pub interval: Interval,
    /// Without, nothing is followed, and every face of every frame gets a new number.
    pub tracking: bool,
    pub effort: Effort,
}

fn is_same(expected: &Rect, found: &Rect) -> bool {
    let change = found.area() / expected.area();
    expected.iou(found) >= SAME_PLACE && (1.0 / AREA_CHANGE..AREA_CHANGE).contains(&change)
}

/// The largest faces only; 0 for all.
fn limited(mut faces: Vec<(i32, Face)>, most: usize) -> Vec<(i32, Face)> {
    if most > 0 && faces.len() > most {
        faces.sort_by(|(_, a), (_, b)| b.rect.area().total_cmp(&a.rect.area()));
        faces.truncate(most);
    }
    faces.sort_by(|(_, a), (_, b)| b.confidence.total_cmp(&a.confidence));
    faces
}
