//! The faces of each frame of a stream: the whole picture is searched at intervals, and between searches faces are followed.
//!
//! A search (P-Net on a pyramid) costs ten times as much as a check of the predicted boxes (O-Net on one crop each).

use std::time::{Duration, Instant};

use super::cuts::{Cuts, Scene};
use super::matching::{SAME_PLACE, assign, pairs, stretched};
use super::tracker::Limits;
use super::turns::Turns;
use super::{Expected, Tracker, is_older};
use crate::detect::{Detector, Face, Params};
use crate::frame::geometry::{Landmarks, Point, Rect};
use crate::frame::image::ImageView;
use crate::nn::RuntimeError;

mod sides;

use sides::{seen_from, size};

/// Interval between full searches with automatic scheduling: the longest time before a new face is found.
const SEARCH_EVERY: Duration = Duration::from_millis(200);

/// Interval between full searches however little time there is.
const SEARCH_ANYWAY: Duration = Duration::from_secs(1);

/// How long a lost face is searched for around its predicted box in every frame, and how long in every third; the side of
/// that region and how small the face may have become, in face sizes; and how many such regions a frame has at most.
const JUST_LOST: Duration = Duration::from_millis(60);
const LOST: (Duration, u32) = (Duration::from_millis(600), 3);
const AROUND: f32 = 1.8;
const SMALLER: f32 = 0.6;
const LOST_AT_ONCE: usize = 3;

/// Interval in frames at which the place of a face is searched that O-Net alone finds with little confidence.
const UNCERTAIN_EVERY: u32 = 2;

/// A detection of little confidence is dropped if more of it than this lies on a larger face.
const PART: f32 = 0.3;

/// Number of strips at most into which a search is divided that takes too long for a frame, and by which part of the width
/// they overlap, for faces on the borders.
const PARTS: u32 = 6;
const MARGIN: f32 = 0.06;

/// P-Net's threshold in every other search: it gives half as many candidates, and faces that are hard to find are found one
/// search later.
const COARSE: f32 = 0.8;

/// Parts of the time budget of a frame: for following faces where the picture is searched too, and for each of R-Net and
/// O-Net in a search.
const TO_FOLLOW: f64 = 0.5;
const TO_STAGE: f64 = 0.5;

/// Weight of the newest measurement in the estimate of how long following a face takes.
const FACE_TAKES_SHARE: f64 = 0.1;

/// Largest change of a followed face's area from frame to frame: beyond it O-Net has found something else.
const AREA_CHANGE: f32 = 2.0;

/// IoU of two followed faces from which on they are one.
const ONE_FACE: f32 = 0.5;

/// IoU of a crop and O-Net's box below which the crop is taken anew at that box: O-Net regresses boxes exactly only where
/// the face fills the crop.
const CENTERED: f32 = 0.75;

/// How long faces are reported at their predicted boxes without inference.
const UNSEEN: Duration = Duration::from_millis(250);

/// Change of the ratio of width to height from which on a picture of another size is another picture.
const OTHER_SHAPE: f32 = 1.1;

/// How often the whole picture is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interval {
    /// Every 200 ms, when a scene begins, and around faces that get lost.
    #[default]
    Automatic,
    /// In every n-th frame, and when a scene begins.
    Frames(u32),
}

/// How much may be done for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Effort {
    /// The picture cannot be relied on: faces are reported at their predicted boxes, and the picture is not compared either.
    Ignore,
    /// Faces are reported at their predicted boxes.
    Predict,
    /// Tracked faces are followed, without a search.
    Follow,
    /// The picture is searched when it is due.
    #[default]
    Search,
}

/// The faces of a stream, with ids that stay with them.
#[derive(Debug, Default)]
pub struct Finder {
    tracker: Tracker,
    cuts: Cuts,
    /// Which way up the picture is. All the others here hold places in the picture as it is turned by this.
    turns: Turns,
    /// Time of the last full search, and the frames since.
    searched: Option<Duration>,
    frames: u32,
    /// How long a search of the whole picture takes, and the strip that is searched next.
    search_takes: Duration,
    part: u32,
    /// Full searches in this scene.
    searches: u32,
    /// How long following a face takes, in seconds.
    face_takes: f64,
    /// Faces of the last frame with inference.
    last: Vec<(i32, Face)>,
    /// Tracks and faces of the scene before, which may come back after a frame or two: a camera that flashes, or light
    /// that is on in every other frame.
    interrupted: Option<(Tracker, Vec<(i32, Face)>)>,
}

impl Finder {
    /// Forgets the stream; ids are not used again.
    pub fn reset(&mut self) {
        self.tracker.reset();
        self.cuts.reset();
        self.turns.restart();
        self.searched = None;
        self.searches = 0;
        self.last.clear();
        self.interrupted = None;
    }

    /// The picture is from now on wider and higher by these factors: the stream goes on in another size.
    pub fn rescale(&mut self, [x, y]: [f32; 2]) {
        if x.max(y) >= OTHER_SHAPE * x.min(y) {
            self.forget_turn();
        }
        let scale: [f32; 2] = self.turn().turn_size((x, y)).into();
        self.tracker.rescale(scale);
        let [x, y] = scale;
        for (_, face) in &mut self.last {
            face.rect = stretched(face.rect, scale);
            face.landmarks = Landmarks(face.landmarks.0.map(|p| Point {
                x: p.x * x,
                y: p.y * y,
            }));
        }
        self.interrupted = None;
    }

    /// The faces of a frame and their ids, above 0.
    pub fn find(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        plan: Plan,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        if self.turns.expire(plan.now) {
            self.begin_anew();
        }
        let turn = self.turn();
        let turned = view.turned(turn);
        let upright = seen_from(turn, params, view);
        let mut found = if plan.tracking {
            self.find_tracked(detector, &turned, &upright, plan)?
        } else {
            self.find_alone(detector, &turned, &upright, plan)?
        };
        let is_searched = plan.effort != Effort::Ignore && self.searched == Some(plan.now);
        if is_searched && let Some(other) = self.try_other(detector, view, params, plan)? {
            found = other;
        }
        let (turn, size) = (self.turn(), size(view));
        for (_, face) in &mut found {
            face.rect = turn.rect_to_stored(face.rect, size);
            face.landmarks = turn.landmarks_to_stored(&face.landmarks, size);
        }
        Ok(found)
    }

    fn find_tracked(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        plan: Plan,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        self.tracker.begin(plan.now, plan.frame_interval);
        if plan.effort == Effort::Ignore {
            return Ok(self.predict(|_| true));
        }
        match self.cuts.compare(view) {
            // There is nothing to be found, and what was there may be back in the next frame.
            Scene::Blank => return Ok(Vec::new()),
            Scene::Same => {}
            Scene::New => self.cut(),
            Scene::Back => self.resume(plan),
        }
        self.frames = self.frames.saturating_add(1);
        let effort = if self.is_older(SEARCH_ANYWAY / self.parts(plan), plan.now) {
            Effort::Search
        } else {
            plan.effort
        };
        let mut found = match effort {
            Effort::Ignore | Effort::Predict => return Ok(self.predict(|_| true)),
            Effort::Search if self.is_due(plan) => self.search(detector, view, params, plan)?,
            effort => {
                let mut found = self.follow(detector, view, params, plan.budget)?;
                if effort == Effort::Search {
                    self.search_around(detector, view, params, &mut found)?;
                }
                found
            }
        };
        self.note_faces(found.iter().map(|(_, face)| face), plan.now);
        self.tracker.end();
        found.retain(|(id, _)| self.tracker.is_confirmed(*id));
        found.extend(self.predict(|id| self.tracker.is_deferred(id)));
        let found = limited(found, params.max_faces);
        self.last.clone_from(&found);
        Ok(found)
    }

    /// Another scene begins: no face of this one is in it, as far as is known yet.
    fn cut(&mut self) {
        let successor = self.tracker.successor();
        let tracker = std::mem::replace(&mut self.tracker, successor);
        self.interrupted = Some((tracker, std::mem::take(&mut self.last)));
        self.searched = None;
        self.searches = 0;
    }

    /// The scene before the last cut goes on.
    fn resume(&mut self, plan: Plan) {
        if let Some((tracker, last)) = self.interrupted.take() {
            let other = self.tracker.clone();
            self.tracker.restore(tracker);
            self.tracker.begin(plan.now, plan.frame_interval);
            self.interrupted = Some((other, std::mem::replace(&mut self.last, last)));
        }
    }

    /// Detects without tracking: ids are new in every frame.
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
        self.note_faces(faces.iter(), plan.now);
        Ok(self.numbered(faces))
    }

    /// Gives each face an id of its own.
    fn numbered(&mut self, faces: Vec<Face>) -> Vec<(i32, Face)> {
        let number = |face| (self.tracker.number(), face);
        faces.into_iter().map(number).collect()
    }

    /// Notes for the orientation what was found in a frame.
    fn note_faces<'a>(&mut self, faces: impl Iterator<Item = &'a Face>, now: Duration) {
        self.turns.see(faces, self.searched == Some(now), now);
    }

    /// Number of strips into which a search is divided.
    fn parts(&self, plan: Plan) -> u32 {
        let is_whole = self.searched.is_none() || plan.interval != Interval::Automatic;
        match plan.budget {
            Some(budget) if !is_whole && !budget.is_zero() => {
                let parts = self.search_takes.as_secs_f32() / budget.as_secs_f32();
                (parts.ceil() as u32).clamp(1, PARTS)
            }
            _ => 1,
        }
    }

    fn note_search(&mut self, now: Duration) {
        self.searched = Some(now);
        self.frames = 0;
    }

    fn is_due(&self, plan: Plan) -> bool {
        match plan.interval {
            Interval::Automatic => self.is_older(SEARCH_EVERY / self.parts(plan), plan.now),
            Interval::Frames(n) => self.searched.is_none() || self.frames >= n,
        }
    }

    fn is_older(&self, age: Duration, now: Duration) -> bool {
        is_older(self.searched, age, now)
    }

    fn search(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        plan: Plan,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        let parts = self.parts(plan);
        let before = self.searched.unwrap_or(plan.now);
        self.tracker.search_after(plan.now.saturating_sub(before));
        self.note_search(plan.now);
        let limits = limits(params);
        if plan.interval == Interval::Frames(1) {
            let around = Params {
                known: self.tracker.known(&[]),
                ..params.clone()
            };
            let faces = detector.detect(view, &around)?;
            let mut found = Vec::new();
            self.add(faces, limits, &mut found);
            // O-Net may find in the predicted boxes what the search misses.
            let mut missed = self.tracker.expected(limits.confidence);
            missed.retain(|e| found.iter().all(|(id, _)| *id != e.id));
            let more = self.look(detector, view, &missed, limits, &found)?;
            let ids: Vec<_> = missed.iter().map(|e| e.id).collect();
            self.tracker.reject_unverified(&ids);
            found.extend(more);
            return Ok(found);
        }
        // Followed faces are left out of the search, except for some that it has to verify.
        let time = plan.budget.map(|time| time.mul_f64(TO_FOLLOW));
        let mut found = self.follow(detector, view, params, time)?;
        let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        let due = self.tracker.due_for_verification(&ids);
        let (due, rest): (Vec<_>, Vec<_>) = found.iter().partition(|(id, _)| due.contains(id));
        let mut part = Params {
            stage_time: plan.budget.map(|time| time.mul_f64(TO_STAGE)),
            ..params.clone()
        };
        let mut due = due;
        if parts > 1 {
            self.part = (self.part + 1) % parts;
            let region = strip(view, self.part, parts);
            part.regions = match params.regions.as_slice() {
                [] => vec![region],
                regions => regions
                    .iter()
                    .map(|other| other.intersection(&region))
                    .filter(|r| r.area() > 0.0)
                    .collect(),
            };
            let is_inside =
                |face: &Face| region.intersection(&face.rect).area() >= face.rect.area();
            due.retain(|(_, face)| is_inside(face));
            if part.regions.is_empty() {
                return Ok(found);
            }
        }
        self.searches = self.searches.wrapping_add(1);
        if parts == 1 && self.searches.is_multiple_of(2) {
            part.thresholds[0] = part.thresholds[0].max(COARSE);
        }
        let begin = Instant::now();
        let faces = self.search_except(detector, view, part, &rest)?;
        let reach = detector.reach();
        self.search_takes = (begin.elapsed() * parts).div_f32(reach.max(0.01));
        let is_found = |(_, known): &(i32, Face)| {
            faces
                .iter()
                .any(|face| face.rect.iou(&known.rect) >= ONE_FACE)
        };
        let (verified, doubtful): (Vec<_>, Vec<_>) = due.into_iter().partition(is_found);
        let ids = |faces: Vec<(i32, Face)>| faces.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        self.tracker.verify(&ids(verified));
        if reach == 1.0 {
            self.tracker.reject_unverified(&ids(doubtful));
        }
        self.add(faces, limits, &mut found);
        Ok(found)
    }

    /// Searches for faces other than these.
    fn search_except(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        mut params: Params,
        found: &[(i32, Face)],
    ) -> Result<Vec<Face>, RuntimeError> {
        let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        params.known = self.tracker.known(&ids);
        params.except = found.iter().map(|(_, face)| face.rect).collect();
        params.except.extend(self.tracker.deferred_places());
        detector.detect(view, &params)
    }

    /// Adds the detections of a search to the faces found before.
    fn add(&mut self, mut faces: Vec<Face>, limits: Limits, found: &mut Vec<(i32, Face)>) {
        faces.retain(|face| {
            let area = face.rect.area();
            let is_uncertain = face.confidence < limits.confidence;
            found.iter().all(|(_, other)| {
                let shared = face.rect.intersection(&other.rect).area();
                let is_part = is_uncertain && area <= other.rect.area() && shared > PART * area;
                other.rect.iou(&face.rect) < ONE_FACE && !is_part
            })
        });
        let ids = self.tracker.find(&faces, limits);
        let more = ids.into_iter().zip(faces);
        found.extend(more.filter_map(|(id, face)| Some((id?, face))));
    }

    /// Searches around the predicted boxes of faces that have just been lost, and around those that O-Net alone finds with
    /// little confidence: on a crop beside the face it is less reliable than a search. Adds what it finds.
    fn search_around(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        found: &mut Vec<(i32, Face)>,
    ) -> Result<(), RuntimeError> {
        let limits = limits(params);
        let (clear, uncertain): (Vec<_>, Vec<_>) = found
            .iter()
            .partition(|(_, face)| face.confidence >= limits.confidence);
        let (age, frames) = LOST;
        let is_turn = self.frames.is_multiple_of(frames);
        let mut places = Vec::new();
        if self.frames.is_multiple_of(UNCERTAIN_EVERY) {
            places.extend(uncertain.iter().map(|(_, face)| face.rect));
        }
        places.extend(self.tracker.lost(if is_turn { age } else { JUST_LOST }));
        places.truncate(LOST_AT_ONCE);
        let side = |rect: &Rect| rect.width.min(rect.height);
        let least = places.iter().map(side).fold(f32::INFINITY, f32::min);
        let whole = Rect::new(0.0, 0.0, view.width() as f32, view.height() as f32);
        let area = |rect: &Rect| rect.scaled(AROUND).intersection(&whole);
        let regions: Vec<_> = places.iter().map(area).filter(|r| r.area() > 0.0).collect();
        if regions.is_empty() || !params.regions.is_empty() {
            return Ok(());
        }
        let around = Params {
            regions,
            min_face_size: params.min_face_size.max((SMALLER * least) as u32),
            // The expected sizes are among the smallest of this search, for which P-Net's threshold is not raised.
            fine_odds: 1.0,
            max_faces: 0,
            ..params.clone()
        };
        let mut faces = self.search_except(detector, view, around, &clear)?;
        // Detections of the search replace those of O-Net alone.
        for (id, face) in found.iter_mut().filter(|f| uncertain.contains(f)) {
            let overlaps = pairs(faces.len(), 1, |i, _| {
                let overlap = faces[i].rect.iou(&face.rect);
                (overlap >= SAME_PLACE).then_some(overlap)
            });
            if let Some(&(best, _)) = assign(&overlaps).first() {
                *face = faces.swap_remove(best);
                self.tracker.follow(*id, face, limits);
            }
        }
        self.add(faces, limits, found);
        Ok(())
    }

    /// Follows the tracked faces; if there is no time for all, first those that are not confirmed, which would soon be removed,
    /// then those that were looked for longest ago.
    fn follow(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        params: &Params,
        time: Option<Duration>,
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        let limits = limits(params);
        let mut expected = self.tracker.expected(limits.confidence);
        if !params.regions.is_empty() {
            expected.retain(|e| {
                let place = e.rect.center();
                params.regions.iter().any(|region| region.contains(place))
            });
        }
        let most = time.map_or(expected.len(), |time| {
            (time.as_secs_f64() / self.face_takes).max(1.0) as usize
        });
        if most < expected.len() {
            expected.sort_by_key(|e| (e.is_confirmed, e.looked));
            let late: Vec<_> = expected.drain(most..).map(|e| e.id).collect();
            self.tracker.defer(&late);
        }
        let begin = Instant::now();
        let count = expected.len();
        let found = self.look(detector, view, &expected, limits, &[])?;
        if count > 0 {
            let takes = begin.elapsed().as_secs_f64() / count as f64;
            self.face_takes += (takes - self.face_takes) * FACE_TAKES_SHARE;
        }
        Ok(found)
    }

    /// Runs O-Net on the predicted boxes; `others` are faces already found.
    fn look(
        &mut self,
        detector: &mut Detector,
        view: &ImageView,
        expected: &[Expected],
        limits: Limits,
        others: &[(i32, Face)],
    ) -> Result<Vec<(i32, Face)>, RuntimeError> {
        let places: Vec<_> = expected.iter().map(|e| e.rect).collect();
        let mut seen = detector.follow(view, &places)?;
        let off_center: Vec<usize> = (0..seen.len())
            .filter(|&i| {
                let is_off = |face: Face| {
                    let overlap = face.rect.iou(&places[i]);
                    (SAME_PLACE..CENTERED).contains(&overlap)
                };
                seen[i].is_some_and(is_off)
            })
            .collect();
        if !off_center.is_empty() {
            let again: Vec<_> = off_center
                .iter()
                .filter_map(|&i| Some(seen[i]?.rect))
                .collect();
            for (&i, face) in off_center.iter().zip(detector.follow(view, &again)?) {
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
        // Of two tracks that end in one place the confirmed one stays, then the one whose prediction is nearer.
        let rank =
            |(e, face): &(Expected, Face)| (e.is_present && e.is_confirmed, e.rect.iou(&face.rect));
        kept.sort_by(|a, b| {
            let (a, b) = (rank(a), rank(b));
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        let mut found: Vec<(i32, Face)> = Vec::with_capacity(kept.len());
        for (e, face) in kept {
            let is_free = |(_, other): &(i32, Face)| other.rect.iou(&face.rect) < ONE_FACE;
            if others.iter().chain(&found).all(is_free) {
                self.tracker.follow(e.id, &face, limits);
                found.push((e.id, face));
            }
        }
        Ok(found)
    }

    /// Faces of the frames before at their predicted boxes.
    fn predict(&self, which: impl Fn(i32) -> bool) -> Vec<(i32, Face)> {
        let mut predicted = self.tracker.predicted(UNSEEN);
        predicted.retain(|(id, _)| which(*id));
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
    /// Time of the frame.
    pub now: Duration,
    /// The usual time between frames.
    pub frame_interval: Duration,
    pub interval: Interval,
    /// Whether faces are followed and keep their ids.
    pub tracking: bool,
    pub effort: Effort,
    /// Time budget of a frame; a search that takes longer is spread over frames, a strip of the picture each.
    pub budget: Option<Duration>,
}

/// An upright strip of the picture, from top to bottom.
fn strip(view: &ImageView, number: u32, of: u32) -> Rect {
    let (width, height) = (view.width() as f32, view.height() as f32);
    let edge = |number: u32| width * number as f32 / of as f32;
    let margin = MARGIN * width;
    let left = (edge(number) - margin).max(0.0);
    let right = (edge(number + 1) + margin).min(width);
    Rect::new(left, 0.0, right - left, height)
}

fn limits(params: &Params) -> Limits {
    Limits {
        confidence: params.thresholds[2],
        min_face_size: params.min_face_size,
    }
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
