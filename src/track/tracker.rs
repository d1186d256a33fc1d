//! Association of detections with tracks: which face of a frame is which face of the frames before.
//!
//! A detection is *clear* if its confidence reaches O-Net's threshold. A track is *tentative* until enough clear detections
//! have confirmed it, and *lost* while it is looked for and not detected.

use std::time::Duration;

use crate::detect::{Face, KNOWN_THRESHOLD};
use crate::frame::geometry::Rect;
use crate::track::matching::{Pair, SAME_PLACE, assign, pairs, stretched};

/// How long after its last clear detection a track is continued at [`KNOWN_THRESHOLD`]: faces that turn, look up or put a
/// mask on have low scores for some frames.
const HYSTERESIS_FOR: Duration = Duration::from_secs(1);

/// Minimum time from the first to the last clear detection for hysteresis: false detections seldom last as long.
const CLEAR_FOR: Duration = Duration::from_millis(300);

/// How long a track needs no verification after a search has detected it.
const VERIFIED_FOR: Duration = Duration::from_millis(700);

/// How long a track is followed although searches do not detect it: without a limit, a false detection would be followed for
/// ever.
const UNVERIFIED_FOR: Duration = Duration::from_millis(1500);

/// A search verifies at most this many followed faces, or a quarter of them if that is more: it detects them anew instead of
/// excluding their boxes, which costs time. The others are due in later searches.
const MAX_VERIFIED_AT_ONCE: usize = 8;
const VERIFIED_SHARE: usize = 4;

/// A track is confirmed, and reported from then on, by this many consecutive clear detections or when they span this time,
/// whichever comes first: false detections seldom last as long.
const CONFIRM_AFTER: (u32, Duration) = (4, Duration::from_millis(120));

/// Maximum time by which the first detection of a new face is backdated. Between two searches the face has been in view for
/// half of the interval on average.
const MAX_BACKDATE: Duration = Duration::from_millis(100);

/// A track that was lost for longer than this has to be confirmed anew: faces that are partly covered are detected only
/// intermittently, and would flicker.
const RECONFIRM_AFTER: Duration = Duration::from_millis(300);

/// Interval between searched frames from which a new face is confirmed at once, as at the beginning of a scene: four
/// consecutive detections would take too long.
const CONFIRM_AT_ONCE_AFTER: Duration = Duration::from_millis(150);

/// How long a tentative track is kept without a detection.
const TENTATIVE_FOR: Duration = Duration::from_millis(150);

/// Minimum shorter side of a new face, as a fraction of `min_face_size`: that size is the side of P-Net's square window, and
/// faces are narrower. Smaller faces are detected only intermittently.
const MIN_SIZE_RATIO: f32 = 0.75;

/// Maximum overlap of a new detection with a tracked face, as intersection over the smaller of the two areas. Above it they
/// are two boxes of one face.
const MAX_OVERLAP: f32 = 0.35;

/// How long a lost track is kept: a hand in front of the face takes about as long.
const LOST_FOR: Duration = Duration::from_secs(2);

/// Minimum number of frame intervals for which a lost track is kept, for streams with seconds between frames.
const LOST_FRAMES: u32 = 2;

/// Maximum distance of a detection from the predicted box, without overlap: from centre to centre, in mean sizes (square root
/// of the area) of both boxes. It grows for each second since the last detection.
const GATE: f32 = 0.7;
const GATE_PER_SECOND: f32 = 0.8;

/// Maximum ratio of the sizes of a detection and a predicted box within the gate.
const MAX_SIZE_RATIO: f32 = 1.6;

/// A pair within the gate is associated only if every other pair of its face or track is this many times as far apart.
const CLEARLY_NEARER: f32 = 1.5;

/// Time constant, in seconds, of the smoothing of the velocity.
const VELOCITY_SMOOTHING: f32 = 0.08;

/// Time constant, in seconds, of the decay of the velocity while nothing is detected.
const VELOCITY_DECAY: f32 = 0.3;

#[derive(Debug, Clone)]
struct Track {
    id: i32,
    rect: Rect,
    /// Velocity of the centre in pixels per second.
    velocity: [f32; 2],
    /// Last detection.
    seen: Duration,
    /// When it was last looked for.
    looked: Duration,
    /// It is not looked for in this frame, for lack of time.
    is_deferred: bool,
    /// Beginning of the current series of clear detections, in which none is more than [`HYSTERESIS_FOR`] after the one before.
    first_clear: Duration,
    /// Last clear detection.
    last_clear: Duration,
    /// Last time that a search (of the frame, a strip or a region) detected it without relying on the track.
    verified: Duration,
    /// Searches have missed it for longer than [`UNVERIFIED_FOR`]: it is no longer followed.
    is_rejected: bool,
    /// Consecutive clear detections, until it was confirmed.
    consecutive: u32,
    /// First of the consecutive clear detections, backdated for a new face.
    consecutive_since: Duration,
    is_confirmed: bool,
    /// It has been confirmed before; such a track is kept for [`LOST_FOR`].
    has_been_confirmed: bool,
}

/// A track with its predicted box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    pub id: i32,
    /// Predicted box, in pixels of the upright frame.
    pub rect: Rect,
    /// Minimum confidence, 0…1, of a detection that continues it.
    pub threshold: f32,
    /// It was detected when it was last looked for.
    pub is_present: bool,
    /// It is reported.
    pub is_confirmed: bool,
    /// When it was last looked for.
    pub looked: Duration,
}

/// What makes a detection *clear*, and which size a new track must have. Only clear detections confirm a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Minimum confidence of a clear detection, 0…1: O-Net's threshold.
    pub confidence: f32,
    /// Shorter side of the smallest face searched for, in pixels.
    pub min_face_size: u32,
}

impl Limits {
    fn is_large(&self, rect: &Rect) -> bool {
        rect.width.min(rect.height) >= MIN_SIZE_RATIO * self.min_face_size as f32
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
    /// Time by which new faces of this frame are backdated.
    backdate: Duration,
}

impl Tracker {
    /// Begins a frame at `now`, the monotonic time of the stream, with this usual interval between frames. Removes tracks that
    /// have been lost for too long, and those detected after `now`, which is due to a seek.
    pub fn begin(&mut self, now: Duration, interval: Duration) {
        self.now = now;
        self.backdate = Duration::ZERO;
        self.tracks.retain(|track| {
            let most = if track.has_been_confirmed {
                LOST_FOR.max(interval * LOST_FRAMES)
            } else {
                TENTATIVE_FOR
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

    /// Declares that this frame is searched, `since_last` after the search before: new faces are backdated by half of that.
    pub fn search_after(&mut self, since_last: Duration) {
        self.backdate = (since_last / 2).min(MAX_BACKDATE);
    }

    /// Marks tracks that are not looked for in this frame, for lack of time: they keep their predicted boxes.
    pub fn defer(&mut self, ids: &[i32]) {
        for track in self.tracks.iter_mut().filter(|t| ids.contains(&t.id)) {
            track.is_deferred = true;
        }
    }

    /// Whether a track was deferred in this frame and has not been detected by the search either.
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

    /// Ends a frame in which faces were looked for. It must not be called for other frames: their tracks would count as lost.
    pub fn end(&mut self) {
        self.looked = Some(self.now);
        let now = self.now;
        let is_looked_for = |t: &&mut Track| !t.is_deferred || t.seen == now;
        for track in self.tracks.iter_mut().filter(is_looked_for) {
            track.looked = now;
        }
    }

    /// Scales all tracks by these factors of width and height, when the frame size changes.
    pub fn rescale(&mut self, scale: [f32; 2]) {
        for track in &mut self.tracks {
            track.rect = stretched(track.rect, scale);
            track.velocity = [track.velocity[0] * scale[0], track.velocity[1] * scale[1]];
        }
    }

    /// An empty tracker for a new scene, which continues the numbering of the ids.
    pub fn successor(&self) -> Self {
        Self {
            last_id: self.last_id,
            // `begin` has already been called for the first frame of the new scene.
            now: self.now,
            ..Self::default()
        }
    }

    /// Restores the tracks of an earlier state, but keeps the id counter, so that no id is used twice.
    pub fn restore(&mut self, before: Self) {
        let last_id = self.last_id;
        *self = Self { last_id, ..before };
    }

    /// Removes all tracks; their ids are not used again.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.looked = None;
    }

    /// Tracks that are not rejected, with their predicted boxes, in order of id. `threshold` (0…1) is the minimum confidence of
    /// a clear face; tracks with hysteresis get [`KNOWN_THRESHOLD`] if that is lower.
    pub fn expected(&self, threshold: f32) -> Vec<Expected> {
        self.tracks
            .iter()
            .filter(|track| !track.is_rejected)
            .map(|track| {
                let threshold = if self.has_hysteresis(track) {
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

    /// Of these ids, the ones that a search should verify: not verified for [`VERIFIED_FOR`], longest ago first, limited in
    /// number.
    pub fn due_for_verification(&self, ids: &[i32]) -> Vec<i32> {
        let is_due = |t: &&Track| ids.contains(&t.id) && self.now - t.verified >= VERIFIED_FOR;
        let mut due: Vec<_> = self.tracks.iter().filter(is_due).collect();
        due.sort_by_key(|track| track.verified);
        due.truncate(MAX_VERIFIED_AT_ONCE.max(ids.len().div_ceil(VERIFIED_SHARE)));
        due.into_iter().map(|track| track.id).collect()
    }

    /// Marks tracks that a search of the whole region did not detect. Those missed for longer than [`UNVERIFIED_FOR`] are no
    /// longer followed.
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

    /// Whether detections at [`KNOWN_THRESHOLD`] continue the track. A lost track needs a clear detection.
    fn has_hysteresis(&self, track: &Track) -> bool {
        track.is_present() && track.is_steady(self.now)
    }

    /// Predicted boxes of the tracks, other than these, that detections at [`KNOWN_THRESHOLD`] continue.
    pub fn known(&self, but: &[i32]) -> Vec<Rect> {
        let is_wanted = |t: &&Track| self.has_hysteresis(t) && !but.contains(&t.id);
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
            track.reset_confirmation_if_lost(now);
            track.see(face, limits, now);
        }
    }

    /// Associates the detections of a search with the tracks and begins new ones. Returns the id of each; None for an unmatched
    /// one that is too small or a second box of a tracked face.
    pub fn find(&mut self, faces: &[Face], limits: Limits) -> Vec<Option<i32>> {
        let now = self.now;
        let confirms_at_once = self
            .looked
            .is_none_or(|looked| now - looked > CONFIRM_AT_ONCE_AFTER);
        let matched = self.associate(faces);
        let mut known: Vec<_> = faces
            .iter()
            .zip(&matched)
            .filter(|(_, track)| track.is_some())
            .map(|(face, _)| face.rect)
            .collect();
        // Tracks that this search missed but that were followed in this frame, or detected when last looked for, are still in
        // view: a new detection on one of them is its second box.
        let present = (0..self.tracks.len()).filter(|t| !matched.contains(&Some(*t)));
        let present = present.map(|t| &self.tracks[t]);
        let present = present.filter(|t| t.seen == now || t.is_present());
        known.extend(present.map(|track| track.predict(now)));
        let is_new = |i: usize| {
            let rect = faces[i].rect;
            let is_duplicate = known.iter().any(|other| {
                rect.intersection(other).area() > MAX_OVERLAP * rect.area().min(other.area())
            });
            limits.is_large(&rect) && !is_duplicate
        };
        let is_new: Vec<_> = (0..faces.len()).map(is_new).collect();
        let mut ids = Vec::with_capacity(faces.len());
        for ((face, track), is_new) in faces.iter().zip(matched).zip(is_new) {
            let track = match track {
                Some(track) => track,
                None if is_new => {
                    let id = self.number();
                    let track = Track::new(id, face, now, confirms_at_once);
                    self.tracks.push(Track {
                        consecutive_since: now.saturating_sub(self.backdate),
                        ..track
                    });
                    self.tracks.len() - 1
                }
                None => {
                    ids.push(None);
                    continue;
                }
            };
            let track = &mut self.tracks[track];
            track.reset_confirmation_if_lost(now);
            track.see(face, limits, now);
            track.verified = now;
            track.is_rejected = false;
            ids.push(Some(track.id));
        }
        ids
    }

    /// The next id, above 0. Ids repeat only after 2³¹ faces.
    pub fn number(&mut self) -> i32 {
        // Ids stay above 0 however long the stream runs.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// The index of the track of each detection, None for a new face: first by overlap, then by distance where the association
    /// is unambiguous.
    fn associate(&self, faces: &[Face]) -> Vec<Option<usize>> {
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
        // The likeness is the negative distance: a pair is unambiguous if every other pair of the same face or the same track is
        // more than `CLEARLY_NEARER` times as far apart. The first condition skips the pair itself and pairs that share neither.
        let is_unambiguous = |&(likeness, face, track): &Pair| {
            near.iter().all(|&(other, f, t)| {
                (f == face) == (t == track) || other < likeness * CLEARLY_NEARER
            })
        };
        let unambiguous: Vec<_> = near.iter().copied().filter(is_unambiguous).collect();
        for (face, track) in assign(&unambiguous) {
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
    (change <= MAX_SIZE_RATIO).then_some(2.0 * way / (size_a + size_b))
}

impl Track {
    fn new(id: i32, face: &Face, now: Duration, is_confirmed: bool) -> Self {
        Self {
            id,
            rect: face.rect,
            velocity: [0.0; 2],
            seen: now,
            looked: now,
            is_deferred: false,
            first_clear: now,
            last_clear: now,
            verified: now,
            is_rejected: false,
            consecutive: 0,
            consecutive_since: now,
            is_confirmed,
            has_been_confirmed: is_confirmed,
        }
    }

    /// Whether it was detected when it was last looked for.
    fn is_present(&self) -> bool {
        self.looked == self.seen
    }

    /// Whether it was clear for long enough, and not long ago.
    fn is_steady(&self, now: Duration) -> bool {
        now - self.last_clear <= HYSTERESIS_FOR
            && self.last_clear.saturating_sub(self.first_clear) >= CLEAR_FOR
    }

    /// Distance from the prediction at which a detection may still be this face, in face sizes.
    fn reach(&self, now: Duration) -> f32 {
        GATE + GATE_PER_SECOND * (now - self.seen).as_secs_f32()
    }

    /// The predicted box: the last one, moved at a velocity that decays exponentially with the time since.
    fn predict(&self, now: Duration) -> Rect {
        let age = (now - self.seen).as_secs_f32();
        let way = VELOCITY_DECAY * (1.0 - (-age / VELOCITY_DECAY).exp());
        let [x, y] = self.velocity.map(|velocity| velocity * way);
        self.rect.translated(x, y)
    }

    /// Updates box, velocity and confirmation with a detection.
    fn see(&mut self, face: &Face, limits: Limits, now: Duration) {
        let age = (now - self.seen).as_secs_f32();
        if age > 0.0 {
            let (from, to) = (self.rect.center(), face.rect.center());
            let share = 1.0 - (-age / VELOCITY_SMOOTHING).exp();
            for (velocity, way) in self.velocity.iter_mut().zip([to.x - from.x, to.y - from.y]) {
                *velocity += share * (way / age - *velocity);
            }
        }
        self.rect = face.rect;
        self.seen = now;
        let is_clear = face.confidence >= limits.confidence;
        if is_clear {
            if now - self.last_clear > HYSTERESIS_FOR {
                self.first_clear = now;
            }
            self.last_clear = now;
        }
        if self.is_confirmed {
            return;
        }
        if is_clear && limits.is_large(&face.rect) {
            let (often, long) = CONFIRM_AFTER;
            self.consecutive += 1;
            self.is_confirmed = self.consecutive >= often || now - self.consecutive_since >= long;
            self.has_been_confirmed |= self.is_confirmed;
        } else {
            self.consecutive = 0;
            self.consecutive_since = now;
        }
    }

    /// Called before a new detection is applied: a track that was lost for longer than [`RECONFIRM_AFTER`] becomes tentative.
    fn reset_confirmation_if_lost(&mut self, now: Duration) {
        if self.looked.saturating_sub(self.seen) > RECONFIRM_AFTER {
            self.is_confirmed = false;
            self.consecutive = 0;
            self.consecutive_since = now;
        }
    }
}

#[cfg(test)]
mod tests;
