//! Which face of a frame is which face of the frame before.

use std::time::Duration;

use crate::detect::{Face, KNOWN_THRESHOLD};
use crate::frame::geometry::Rect;
use crate::track::matching::{SAME_PLACE, stretched};

/// How long a face is looked for with less evidence where it was last seen clearly.
const REMEMBERED: Duration = Duration::from_secs(1);

/// How long a face must have been clear to be remembered: what is none is seldom taken for one so long.
const STEADY: Duration = Duration::from_millis(300);

/// How long a face is taken for proven that a search has found.
const PROVEN: Duration = Duration::from_millis(700);

/// How long a face may be followed that searches do not find: a false one would stay for ever.
const UNPROVEN: Duration = Duration::from_millis(1500);

/// How many faces are left to a search to prove: so many at least, or this part of all.
const PROOFS: (usize, usize) = (8, 4);

/// A new face is told of when it was seen clearly so often or for so long without a break: what is none seldom looks
/// like one for so long.
const SURE_AFTER: (u32, Duration) = (4, Duration::from_millis(120));

/// A face that a search finds late is taken to have been clear since half of the time to the search before, and for so
/// long at most.
const LATE: Duration = Duration::from_millis(100);

/// A face that comes back after this long is told of again when it was seen as a new one has to be: who is hidden behind
/// others flickers.
const AWAY: Duration = Duration::from_millis(300);

/// Where frames are further apart, and where a scene begins, it is told of at once.
const SLOW: Duration = Duration::from_millis(150);

/// Part of the least face size that the shorter side of a new face must have: squares of that size hold faces that
/// are so much narrower. Smaller ones are found now and then only, and are not told of.
const LEAST_SIZE: f32 = 0.75;

/// Part of a new face that may lie on one that is known: two boxes on one face share more.
const COVERED: f32 = 0.35;

/// How long a face that is hidden or turned away keeps its number: the time of a hand before the face.
const LOST_FOR: Duration = Duration::from_secs(2);

/// The same in frames, of a stream with one frame in seconds.
const LOST_FRAMES: u32 = 2;

/// Where boxes do not overlap: distance of the centres, in face sizes, that counts as the same face, and
/// how much more is allowed for each second without an observation of it.
const NEAR: f32 = 0.7;
const NEAR_PER_SECOND: f32 = 0.8;

/// And the most that its size may have changed by.
const SIZE_CHANGE: f32 = 1.6;

/// Of two faces that may be the same the nearer one is it only if the other is so many times as far.
const CLEARLY_NEARER: f32 = 1.5;

/// How fast a speed is learned, and how fast it is lost when nothing is seen.
const SPEED_MEMORY: f32 = 0.08;
const SPEED_FADES: f32 = 0.3;

#[derive(Debug, Clone)]
struct Track {
    id: i32,
    rect: Rect,
    /// Of the centre, pixels a second.
    speed: [f32; 2],
    seen: Duration,
    /// When it was last looked for.
    looked: Duration,
    /// In this frame nobody looks for it.
    is_put_off: bool,
    /// First and last time that it was as clear as a new face has to be.
    first_clear: Duration,
    clear: Duration,
    /// Last time that a search found it, and whether it has been looked for in vain for too long since.
    proven: Duration,
    is_denied: bool,
    /// How often it was seen clearly, until that was enough.
    observations: u32,
    /// Since when it has been seen clearly without a break.
    since: Duration,
    is_sure: bool,
    was_sure: bool,
}

/// Where a face is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    pub id: i32,
    pub rect: Rect,
    /// Least confidence that it has to be found with.
    pub threshold: f32,
    /// It was there when it was last looked for.
    pub is_present: bool,
    /// It is told of.
    pub is_sure: bool,
    /// When it was last looked for.
    pub looked: Duration,
}

/// What a face must have to be a new one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Least confidence, that of a clear face.
    pub confidence: f32,
    /// Of the search, in pixels.
    pub min_face_size: u32,
}

impl Limits {
    fn is_large(&self, rect: &Rect) -> bool {
        rect.width.min(rect.height) >= LEAST_SIZE * self.min_face_size as f32
    }
}

/// Gives faces numbers that stay with them. Times are those of the frames.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    tracks: Vec<Track>,
    last_id: i32,
    now: Duration,
    /// When faces were last looked at in this scene.
    looked: Option<Duration>,
    /// How long new faces of this frame may have been there.
    late: Duration,
}

impl Tracker {
    /// Begins a frame of a stream with this frame interval: faces that have been gone for too long are forgotten, all
    /// of them when time runs backwards.
    pub fn begin(&mut self, now: Duration, interval: Duration) {
        self.now = now;
        self.late = Duration::ZERO;
        self.tracks.retain(|track| {
            let most = if track.was_sure {
                LOST_FOR.max(interval * LOST_FRAMES)
            } else {
                SLOW
            };
            track.seen <= now && now - track.seen <= most
        });
        for track in &mut self.tracks {
            track.is_put_off = false;
        }
        if self.looked.is_some_and(|looked| looked > now) {
            self.looked = None;
        }
    }

    /// In this frame the picture is searched, for the first time after so long.
    pub fn search_after(&mut self, gap: Duration) {
        self.late = (gap / 2).min(LATE);
    }

    /// Nobody looks for these faces in this frame: they are taken to go on as before.
    pub fn put_off(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.is_put_off = true;
        }
    }

    /// Whether a face is one of these, and no search has found it all the same.
    pub fn is_put_off(&self, id: i32) -> bool {
        self.put_off_tracks().any(|t| t.id == id)
    }

    /// Where they should be.
    pub fn put_off_places(&self) -> impl Iterator<Item = Rect> {
        self.put_off_tracks().map(|t| t.predict(self.now))
    }

    fn put_off_tracks(&self) -> impl Iterator<Item = &Track> {
        let now = self.now;
        self.tracks
            .iter()
            .filter(move |t| t.is_put_off && t.seen < now)
    }

    /// Ends a frame in which faces were looked at.
    pub fn end(&mut self) {
        self.looked = Some(self.now);
        let now = self.now;
        let is_looked_for = |t: &&mut Track| !t.is_put_off || t.seen == now;
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

    /// A tracker that has no faces and gives other numbers than this one.
    pub fn successor(&self) -> Self {
        Self {
            last_id: self.last_id,
            ..Self::default()
        }
    }

    /// Goes on as this one of before, with numbers that nobody has had since.
    pub fn restore(&mut self, before: Self) {
        let last_id = self.last_id;
        *self = Self { last_id, ..before };
    }

    /// Forgets all faces; their numbers are not given again.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.looked = None;
    }

    /// Where the faces are expected to be now, in the order of their numbers; `threshold` is the confidence of a
    /// clear face.
    pub fn expected(&self, threshold: f32) -> Vec<Expected> {
        self.tracks
            .iter()
            .filter(|track| !track.is_denied)
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
                    is_sure: track.is_sure,
                    looked: track.looked,
                }
            })
            .collect()
    }

    /// Where faces should be that are not seen in this frame and have been gone for this long at most, those first that
    /// were seen last.
    pub fn lost(&self, age: Duration) -> Vec<Rect> {
        let is_lost = |t: &&Track| !t.is_put_off && t.seen < self.now && self.now - t.seen <= age;
        let mut lost: Vec<_> = self.tracks.iter().filter(is_lost).collect();
        lost.sort_by_key(|track| std::cmp::Reverse(track.seen));
        lost.iter().map(|track| track.predict(self.now)).collect()
    }

    /// Of these faces, the numbers of those that a search should find by itself: those longest not proven.
    pub fn to_prove(&self, ids: &[i32]) -> Vec<i32> {
        let is_due = |t: &&Track| ids.contains(&t.id) && self.now - t.proven >= PROVEN;
        let mut due: Vec<_> = self.tracks.iter().filter(is_due).collect();
        due.sort_by_key(|track| track.proven);
        let (least, part) = PROOFS;
        due.truncate(least.max(ids.len().div_ceil(part)));
        due.into_iter().map(|track| track.id).collect()
    }

    /// A search has looked for these faces; those it found have been taken notice of before.
    pub fn doubt(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.is_denied = self.now - track.proven > UNPROVEN;
        }
    }

    /// A search has found these faces again.
    pub fn prove(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.proven = self.now;
            track.is_denied = false;
        }
    }

    /// Whether a face is to be told of.
    pub fn is_sure(&self, id: i32) -> bool {
        self.tracks.iter().any(|t| t.id == id && t.is_sure)
    }

    /// Less evidence is enough for it to go on; to bring it back it is not.
    fn is_known(&self, track: &Track) -> bool {
        track.is_present() && track.is_steady(self.now)
    }

    /// Where less evidence is enough, but for these faces.
    pub fn known(&self, but: &[i32]) -> Vec<Rect> {
        let is_wanted = |t: &&Track| self.is_known(t) && !but.contains(&t.id);
        let steady = self.tracks.iter().filter(is_wanted);
        steady.map(|track| track.predict(self.now)).collect()
    }

    /// Where faces are if nobody looks: those that were seen within `age`.
    pub fn predicted(&self, age: Duration) -> Vec<(i32, Rect)> {
        let recent = self.tracks.iter().filter(|t| self.now - t.seen <= age);
        recent.map(|t| (t.id, t.predict(self.now))).collect()
    }

    /// Takes notice of a face that was followed to where it is now.
    pub fn follow(&mut self, id: i32, face: &Face, limits: Limits) {
        let now = self.now;
        if let Some(track) = self.tracks.iter_mut().find(|t| t.id == id) {
            track.come_back(now);
            track.see(face, limits, now);
        }
    }

    /// Takes notice of the faces that a search has found; tells the number of each, None of what is too small or no
    /// face of its own.
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
        // Those that this search overlooks are still there.
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
            track.proven = now;
            track.is_denied = false;
            ids.push(Some(track.id));
        }
        ids
    }

    /// A number that no face has had.
    pub fn number(&mut self) -> i32 {
        // Numbers stay above 0 however long the stream runs.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// The track of each face, if it is one of them: first where boxes overlap, then by distance, where it is
    /// clear which is meant.
    fn assign(&self, faces: &[Face]) -> Vec<Option<usize>> {
        let expected: Vec<_> = self.tracks.iter().map(|t| t.predict(self.now)).collect();
        let mut of_face = vec![None; faces.len()];
        let mut taken: Vec<_> = self.tracks.iter().map(|t| t.seen == self.now).collect();
        let all = |likeness: &dyn Fn(usize, usize) -> Option<f32>| {
            let mut pairs: Vec<(f32, usize, usize)> = (0..faces.len())
                .flat_map(|f| (0..expected.len()).map(move |t| (f, t)))
                .filter_map(|(f, t)| Some((likeness(f, t)?, f, t)))
                .collect();
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
            pairs
        };
        let overlaps = all(&|f, t| {
            let overlap = faces[f].rect.iou(&expected[t]);
            (overlap >= SAME_PLACE).then_some(overlap)
        });
        for (_, face, track) in overlaps {
            if of_face[face].is_none() && !taken[track] {
                of_face[face] = Some(track);
                taken[track] = true;
            }
        }
        let near = all(&|f, t| {
            let free = of_face[f].is_none() && !taken[t];
            let limit = self.tracks[t].reach(self.now);
            let distance = free.then(|| distance(&faces[f].rect, &expected[t]))??;
            (distance <= limit).then_some(-distance)
        });
        for &(likeness, face, track) in &near {
            let is_clear = near.iter().all(|&(other, f, t)| {
                (f == face) == (t == track) || other < likeness * CLEARLY_NEARER
            });
            if of_face[face].is_none() && !taken[track] && is_clear {
                of_face[face] = Some(track);
                taken[track] = true;
            }
        }
        of_face
    }
}

/// Of the centres, in mean face sizes; None where the sizes differ too much.
fn distance(a: &Rect, b: &Rect) -> Option<f32> {
    let [size_a, size_b] = [a, b].map(|rect| rect.area().sqrt());
    let change = size_a.max(size_b) / size_a.min(size_b);
    let (p, q) = (a.center(), b.center());
    let way = (p.x - q.x).hypot(p.y - q.y);
    (change <= SIZE_CHANGE).then_some(2.0 * way / (size_a + size_b))
}

impl Track {
    fn new(id: i32, face: &Face, now: Duration, is_sure: bool) -> Self {
        Self {
            id,
            rect: face.rect,
            speed: [0.0; 2],
            seen: now,
            looked: now,
            is_put_off: false,
            first_clear: now,
            clear: now,
            proven: now,
            is_denied: false,
            observations: 0,
            since: now,
            is_sure,
            was_sure: is_sure,
        }
    }

    /// It was there when it was last looked for.
    fn is_present(&self) -> bool {
        self.looked == self.seen
    }

    /// Clear for long enough, and not long ago.
    fn is_steady(&self, now: Duration) -> bool {
        now - self.clear <= REMEMBERED && self.clear.saturating_sub(self.first_clear) >= STEADY
    }

    /// How far from where it was expected the face may be, in face sizes.
    fn reach(&self, now: Duration) -> f32 {
        NEAR + NEAR_PER_SECOND * (now - self.seen).as_secs_f32()
    }

    /// Moved on as before, ever more slowly.
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
        if self.is_sure {
            return;
        }
        if is_clear && limits.is_large(&face.rect) {
            let (often, long) = SURE_AFTER;
            self.observations += 1;
            self.is_sure = self.observations >= often || now - self.since >= long;
            self.was_sure |= self.is_sure;
        } else {
            self.observations = 0;
            self.since = now;
        }
    }

    /// Before it is seen again: it has to be seen for a while if it was away at the last look, and for so long.
    fn come_back(&mut self, now: Duration) {
        if self.looked.saturating_sub(self.seen) > AWAY {
            self.is_sure = false;
            self.observations = 0;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
