//! Association of detections with tracks: which face of a frame is which face of the frames before.

use std::time::Duration;

use crate::detect::{Face, KNOWN_THRESHOLD};
use crate::frame::geometry::Rect;
use crate::track::matching::{Pair, SAME_PLACE, assign, pairs, stretched};

/// How long after a clear detection a lower threshold is enough for a face in the expected place.
const REMEMBERED: Duration = Duration::from_secs(1);

/// How long a face must have been clear for that: false detections seldom last as long.
const STEADY: Duration = Duration::from_millis(300);

/// How long a face counts as verified after a full search has found it.
const VERIFIED_FOR: Duration = Duration::from_millis(700);

/// How long a face may be followed that full searches do not find. Without a limit a false detection would be followed for
/// ever.
const UNVERIFIED_FOR: Duration = Duration::from_millis(1500);

/// How many followed faces a full search has to find by itself: at least the first number, or one in the second number.
const VERIFICATIONS: (usize, usize) = (8, 4);

/// Consecutive clear detections, or their duration, that confirm a new face: false detections seldom last as long. Faces are
/// reported from then on.
const CONFIRM_AFTER: (u32, Duration) = (4, Duration::from_millis(120));

/// A face that a search finds is assumed to have been clear since half of the time to the search before, at most this long.
const LATE: Duration = Duration::from_millis(100);

/// A face that returns after this long has to be confirmed anew: faces behind others are found now and then only, and would
/// flicker.
const AWAY: Duration = Duration::from_millis(300);

/// Where frames are further apart than this, and where a scene begins, a new face is confirmed at once.
const SLOW: Duration = Duration::from_millis(150);

/// Part of the smallest face size that the shorter side of a new face must have: faces are narrower than the squares that
/// the size is meant for. Smaller ones are detected now and then only, and are not reported.
const LEAST_SIZE: f32 = 0.75;

/// Part of a new detection that may lie on a tracked face: two boxes of one face share more.
const COVERED: f32 = 0.35;

/// How long a lost track is kept: a hand before the face takes about as long.
const LOST_FOR: Duration = Duration::from_secs(2);

/// The same in frames, of a stream with one frame in seconds.
const LOST_FRAMES: u32 = 2;

/// Gate for association where boxes do not overlap: distance of the centres in face sizes, and how much it grows for each
/// second without a detection.
const NEAR: f32 = 0.7;
const NEAR_PER_SECOND: f32 = 0.8;

/// Largest change of the size within that gate.
const SIZE_CHANGE: f32 = 1.6;

/// Of two candidates within the gate the nearer one is associated only if the other is this many times as far.
const CLEARLY_NEARER: f32 = 1.5;

/// Time constants in seconds with which the velocity is estimated, and decays while nothing is detected.
const SPEED_MEMORY: f32 = 0.08;
const SPEED_FADES: f32 = 0.3;

#[derive(Debug, Clone)]
struct Track {
    id: i32,
    rect: Rect,
    /// Velocity of the centre in pixels per second.
    speed: [f32; 2],
    seen: Duration,
    /// When it was last looked for.
    looked: Duration,
    /// It is not looked for in this frame, for lack of time.
    is_deferred: bool,
    /// First and last time that its confidence was that of a clear face.
    first_clear: Duration,
    clear: Duration,
    /// Last time that a full search found it, and whether full searches have missed it for too long since.
    verified: Duration,
    is_rejected: bool,
    /// Consecutive clear detections, until it was confirmed.
    observations: u32,
    /// Beginning of these detections.
    since: Duration,
    is_confirmed: bool,
    was_confirmed: bool,
}

/// A track with its predicted box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    pub id: i32,
    pub rect: Rect,
    /// Least confidence for a detection to continue it.
    pub threshold: f32,
    /// It was detected when it was last looked for.
    pub is_present: bool,
    /// It is reported.
    pub is_confirmed: bool,
    /// When it was last looked for.
    pub looked: Duration,
}

/// What a detection must have to begin a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Least confidence of a clear face.
    pub confidence: f32,
    /// Smallest face size of the search, in pixels.
    pub min_face_size: u32,
}

impl Limits {
    fn is_large(&self, rect: &Rect) -> bool {
        rect.width.min(rect.height) >= LEAST_SIZE * self.min_face_size as f32
    }
}

/// The tracks of a stream. Times are those of the frames.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    tracks: Vec<Track>,
    last_id: i32,
    now: Duration,
    /// When faces were last looked for in this scene.
    looked: Option<Duration>,
    /// How long new faces of this frame may have been in view.
    late: Duration,
}

impl Tracker {
    /// Begins a frame of a stream with this frame interval: tracks that have been lost for too long are removed, all of them
    /// when time runs backwards.
    pub fn begin(&mut self, now: Duration, interval: Duration) {
        self.now = now;
        self.late = Duration::ZERO;
        self.tracks.retain(|track| {
            let most = if track.was_confirmed {
                LOST_FOR.max(interval * LOST_FRAMES)
            } else {
                SLOW
            };
            track.seen <= now && now - track.seen <= most
        });
        for track in &mut self.tracks {
            track.is_deferred = false;
        }
        if self.looked.is_some_and(|looked| looked > now) {
            self.looked = None;
        }
    }

    /// The picture of this frame is searched, for the first time after `gap`.
    pub fn search_after(&mut self, gap: Duration) {
        self.late = (gap / 2).min(LATE);
    }

    /// These faces are not looked for in this frame: they are assumed to go on as predicted.
    pub fn defer(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.is_deferred = true;
        }
    }

    /// Whether a face was deferred in this frame, and no search has found it all the same.
    pub fn is_deferred(&self, id: i32) -> bool {
        self.deferred_tracks().any(|t| t.id == id)
    }

    /// Predicted boxes of the deferred faces.
    pub fn deferred_places(&self) -> impl Iterator<Item = Rect> {
        self.deferred_tracks().map(|t| t.predict(self.now))
    }

    fn deferred_tracks(&self) -> impl Iterator<Item = &Track> {
        let now = self.now;
        self.tracks
            .iter()
            .filter(move |t| t.is_deferred && t.seen < now)
    }

    /// Ends a frame in which faces were looked for.
    pub fn end(&mut self) {
        self.looked = Some(self.now);
        let now = self.now;
        let is_looked_for = |t: &&mut Track| !t.is_deferred || t.seen == now;
        for track in self.tracks.iter_mut().filter(is_looked_for) {
            track.looked = now;
        }
    }

    /// The picture is from now on wider and higher by these factors.
    pub fn rescale(&mut self, scale: [f32; 2]) {
        for track in &mut self.tracks {
            track.rect = stretched(track.rect, scale);
            track.speed = [track.speed[0] * scale[0], track.speed[1] * scale[1]];
        }
    }

    /// A tracker without tracks whose ids do not repeat those of this one.
    pub fn successor(&self) -> Self {
        Self {
            last_id: self.last_id,
            // The frame in which the new scene begins is the first one of the successor.
            now: self.now,
            ..Self::default()
        }
    }

    /// Goes on with the tracks of an earlier state, and with ids that have not been used since.
    pub fn restore(&mut self, before: Self) {
        let last_id = self.last_id;
        *self = Self { last_id, ..before };
    }

    /// Removes all tracks; their ids are not used again.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.looked = None;
    }

    /// All tracks with their predicted boxes, in the order of their ids; `threshold` is the confidence of a clear face.
    pub fn expected(&self, threshold: f32) -> Vec<Expected> {
        self.tracks
            .iter()
            .filter(|track| !track.is_rejected)
            .map(|track| {
                let threshold = if self.is_known(track) {
                    threshold.min(KNOWN_THRESHOLD)
                } else {
                    threshold
                };
                Expected {
                    id: track.id,
                    rect: track.predict(self.now),
                    threshold,
                    is_present: track.is_present(),
                    is_confirmed: track.is_confirmed,
                    looked: track.looked,
                }
            })
            .collect()
    }

    /// Predicted boxes of tracks that are not detected in this frame and have been lost for `age` at most, the most recently
    /// detected first.
    pub fn lost(&self, age: Duration) -> Vec<Rect> {
        let is_lost = |t: &&Track| !t.is_deferred && t.seen < self.now && self.now - t.seen <= age;
        let mut lost: Vec<_> = self.tracks.iter().filter(is_lost).collect();
        lost.sort_by_key(|track| std::cmp::Reverse(track.seen));
        lost.iter().map(|track| track.predict(self.now)).collect()
    }

    /// Of these faces, the ids of those that a full search should find by itself: the ones verified longest ago.
    pub fn due_for_verification(&self, ids: &[i32]) -> Vec<i32> {
        let is_due = |t: &&Track| ids.contains(&t.id) && self.now - t.verified >= VERIFIED_FOR;
        let mut due: Vec<_> = self.tracks.iter().filter(is_due).collect();
        due.sort_by_key(|track| track.verified);
        let (least, part) = VERIFICATIONS;
        due.truncate(least.max(ids.len().div_ceil(part)));
        due.into_iter().map(|track| track.id).collect()
    }

    /// A full search has not found these faces: those that it has missed for too long are no longer followed.
    pub fn reject_unverified(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.is_rejected = self.now - track.verified > UNVERIFIED_FOR;
        }
    }

    /// A full search has found these faces.
    pub fn verify(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.verified = self.now;
            track.is_rejected = false;
        }
    }

    /// Whether a face is to be reported.
    pub fn is_confirmed(&self, id: i32) -> bool {
        self.tracks.iter().any(|t| t.id == id && t.is_confirmed)
    }

    /// Whether a lower threshold is enough to continue a track; to regain a lost one it is not.
    fn is_known(&self, track: &Track) -> bool {
        track.is_present() && track.is_steady(self.now)
    }

    /// Predicted boxes of the tracks, other than these, for which a lower threshold is enough.
    pub fn known(&self, but: &[i32]) -> Vec<Rect> {
        let is_wanted = |t: &&Track| self.is_known(t) && !but.contains(&t.id);
        let steady = self.tracks.iter().filter(is_wanted);
        steady.map(|track| track.predict(self.now)).collect()
    }

    /// Ids and predicted boxes of the tracks that were detected within `age`.
    pub fn predicted(&self, age: Duration) -> Vec<(i32, Rect)> {
        let recent = self.tracks.iter().filter(|t| self.now - t.seen <= age);
        recent.map(|t| (t.id, t.predict(self.now))).collect()
    }

    /// Updates a track with the face that was followed.
    pub fn follow(&mut self, id: i32, face: &Face, limits: Limits) {
        let now = self.now;
        if let Some(track) = self.tracks.iter_mut().find(|t| t.id == id) {
            track.come_back(now);
            track.see(face, limits, now);
        }
    }

    /// Updates the tracks with the detections of a search; gives the id of each, None for one that is too small or a second
    /// box of a face.
    pub fn find(&mut self, faces: &[Face], limits: Limits) -> Vec<Option<i32>> {
        let now = self.now;
        let is_slow = self.looked.is_none_or(|looked| now - looked > SLOW);
        let matched = self.assign(faces);
        let mut known: Vec<_> = faces
            .iter()
            .zip(&matched)
            .filter(|(_, track)| track.is_some())
            .map(|(face, _)| face.rect)
            .collect();
        // Faces that this search misses are still there.
        let present = (0..self.tracks.len()).filter(|t| !matched.contains(&Some(*t)));
        let present = present.map(|t| &self.tracks[t]);
        let present = present.filter(|t| t.seen == now || t.is_present());
        known.extend(present.map(|track| track.predict(now)));
        let is_new = |i: usize| {
            let rect = faces[i].rect;
            let is_copy = known.iter().any(|other| {
                rect.intersection(other).area() > COVERED * rect.area().min(other.area())
            });
            limits.is_large(&rect) && !is_copy
        };
        let is_new: Vec<_> = (0..faces.len()).map(is_new).collect();
        let mut ids = Vec::with_capacity(faces.len());
        for ((face, track), is_new) in faces.iter().zip(matched).zip(is_new) {
            let track = match track {
                Some(track) => track,
                None if is_new => {
                    let id = self.number();
                    let since = now.saturating_sub(self.late);
                    let track = Track::new(id, face, now, is_slow);
                    self.tracks.push(Track { since, ..track });
                    self.tracks.len() - 1
                }
                None => {
                    ids.push(None);
                    continue;
                }
            };
            let track = &mut self.tracks[track];
            track.come_back(now);
            track.see(face, limits, now);
            track.verified = now;
            track.is_rejected = false;
            ids.push(Some(track.id));
        }
        ids
    }

    /// An id that no face has had.
    pub fn number(&mut self) -> i32 {
        // Ids stay above 0 however long the stream runs.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// The track of each detection: first by overlap, then by distance where the association is unambiguous.
    fn assign(&self, faces: &[Face]) -> Vec<Option<usize>> {
        let expected: Vec<_> = self.tracks.iter().map(|t| t.predict(self.now)).collect();
        let mut of_face = vec![None; faces.len()];
        let mut taken: Vec<_> = self.tracks.iter().map(|t| t.seen == self.now).collect();
        let overlaps = pairs(faces.len(), expected.len(), |f, t| {
            let overlap = faces[f].rect.iou(&expected[t]);
            (!taken[t] && overlap >= SAME_PLACE).then_some(overlap)
        });
        for (face, track) in assign(&overlaps) {
            of_face[face] = Some(track);
            taken[track] = true;
        }
        let near = pairs(faces.len(), expected.len(), |f, t| {
            let free = of_face[f].is_none() && !taken[t];
            let limit = self.tracks[t].reach(self.now);
            let distance = free.then(|| distance(&faces[f].rect, &expected[t]))??;
            (distance <= limit).then_some(-distance)
        });
        let is_clear = |&(likeness, face, track): &Pair| {
            near.iter().all(|&(other, f, t)| {
                (f == face) == (t == track) || other < likeness * CLEARLY_NEARER
            })
        };
        let clear: Vec<_> = near.iter().copied().filter(is_clear).collect();
        for (face, track) in assign(&clear) {
            of_face[face] = Some(track);
        }
        of_face
    }
}

/// Distance of the centres in mean face sizes; None where the sizes differ too much.
fn distance(a: &Rect, b: &Rect) -> Option<f32> {
    let [size_a, size_b] = [a, b].map(|rect| rect.area().sqrt());
    let change = size_a.max(size_b) / size_a.min(size_b);
    let (p, q) = (a.center(), b.center());
    let way = (p.x - q.x).hypot(p.y - q.y);
    (change <= SIZE_CHANGE).then_some(2.0 * way / (size_a + size_b))
}

impl Track {
    fn new(id: i32, face: &Face, now: Duration, is_confirmed: bool) -> Self {
        Self {
            id,
            rect: face.rect,
            speed: [0.0; 2],
            seen: now,
            looked: now,
            is_deferred: false,
            first_clear: now,
            clear: now,
            verified: now,
            is_rejected: false,
            observations: 0,
            since: now,
            is_confirmed,
            was_confirmed: is_confirmed,
        }
    }

    /// Whether it was detected when it was last looked for.
    fn is_present(&self) -> bool {
        self.looked == self.seen
    }

    /// Whether it was clear for long enough, and not long ago.
    fn is_steady(&self, now: Duration) -> bool {
        now - self.clear <= REMEMBERED && self.clear.saturating_sub(self.first_clear) >= STEADY
    }

    /// Distance from the prediction at which a detection may still be this face, in face sizes.
    fn reach(&self, now: Duration) -> f32 {
        NEAR + NEAR_PER_SECOND * (now - self.seen).as_secs_f32()
    }

    /// The box at constant velocity, which decays with the time since the last detection.
    fn predict(&self, now: Duration) -> Rect {
        let age = (now - self.seen).as_secs_f32();
        let way = SPEED_FADES * (1.0 - (-age / SPEED_FADES).exp());
        let [x, y] = self.speed.map(|speed| speed * way);
        self.rect.translated(x, y)
    }

    fn see(&mut self, face: &Face, limits: Limits, now: Duration) {
        let age = (now - self.seen).as_secs_f32();
        if age > 0.0 {
            let (from, to) = (self.rect.center(), face.rect.center());
            let share = 1.0 - (-age / SPEED_MEMORY).exp();
            for (speed, way) in self.speed.iter_mut().zip([to.x - from.x, to.y - from.y]) {
                *speed += share * (way / age - *speed);
            }
        }
        self.rect = face.rect;
        self.seen = now;
        let is_clear = face.confidence >= limits.confidence;
        if is_clear {
            if now - self.clear > REMEMBERED {
                self.first_clear = now;
            }
            self.clear = now;
        }
        if self.is_confirmed {
            return;
        }
        if is_clear && limits.is_large(&face.rect) {
            let (often, long) = CONFIRM_AFTER;
            self.observations += 1;
            self.is_confirmed = self.observations >= often || now - self.since >= long;
            self.was_confirmed |= self.is_confirmed;
        } else {
            self.observations = 0;
            self.since = now;
        }
    }

    /// Before it is detected again: it has to be confirmed anew if it was lost for long.
    fn come_back(&mut self, now: Duration) {
        if self.looked.saturating_sub(self.seen) > AWAY {
            self.is_confirmed = false;
            self.observations = 0;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
