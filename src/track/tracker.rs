//! Which face of a frame is which face of the frame before.

use std::time::Duration;

use crate::detect::{Face, KNOWN_THRESHOLD};
use crate::geometry::Rect;

/// How long a face is looked for with less evidence where it was last seen clearly.
const REMEMBERED: Duration = Duration::from_secs(1);

/// How long a face must have been clear to be remembered: what is none is seldom taken for one so long.
const STEADY: Duration = Duration::from_millis(300);

/// How long a face may be followed that the full search does not find: a false one would stay for ever.
const UNPROVEN: Duration = Duration::from_millis(1500);

/// How long a face that is hidden or turned away keeps its number: the time of a hand before the face.
const LOST_FOR: Duration = Duration::from_secs(2);

/// Least overlap of a face with where it was expected.
const SAME_PLACE: f32 = 0.3;

/// Where boxes do not overlap: distance of the centres, in face sizes, that counts as the same face, and
/// how much more is allowed for each second without a sight of it.
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
    /// First and last time that it was as clear as a new face has to be.
    first_clear: Duration,
    clear: Duration,
    /// Last time that the search of the whole picture found it.
    proven: Duration,
}

/// Where a face is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    pub id: i32,
    pub rect: Rect,
    /// Least confidence that it has to be found with.
    pub threshold: f32,
    /// It was there in the frame before.
    pub is_present: bool,
}

/// Gives faces numbers that stay with them. Times are those of the frames.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: Vec<Track>,
    last_id: i32,
    now: Duration,
    /// Time of the frame before.
    before: Duration,
}

impl Tracker {
    /// Begins a frame: faces that have been gone for too long are forgotten, all of them when time runs
    /// backwards.
    pub fn begin(&mut self, now: Duration) {
        self.before = std::mem::replace(&mut self.now, now);
        self.tracks
            .retain(|track| track.seen <= now && now - track.seen <= LOST_FOR);
    }

    /// Forgets all faces; their numbers are not given again.
    pub fn reset(&mut self) {
        self.tracks.clear();
    }

    /// Where the faces are expected to be now, in the order of their numbers; `threshold` is the confidence of a
    /// clear face.
    pub fn expected(&self, threshold: f32) -> Vec<Expected> {
        self.tracks
            .iter()
            .filter(|track| self.now - track.proven <= UNPROVEN)
            .map(|track| Expected {
                id: track.id,
                rect: track.predict(self.now),
                threshold: if track.is_steady(self.now) {
                    threshold.min(KNOWN_THRESHOLD)
                } else {
                    threshold
                },
                is_present: track.seen == self.before,
            })
            .collect()
    }

    /// Where less evidence is enough.
    pub fn known(&self) -> Vec<Rect> {
        let steady = self.tracks.iter().filter(|t| t.is_steady(self.now));
        steady.map(|track| track.predict(self.now)).collect()
    }

    /// Where faces are if nobody looks: those that were seen within `age`.
    pub fn predicted(&self, age: Duration) -> Vec<(i32, Rect)> {
        let recent = self.tracks.iter().filter(|t| self.now - t.seen <= age);
        recent.map(|t| (t.id, t.predict(self.now))).collect()
    }

    /// Takes notice of a face that was followed to where it is now.
    pub fn follow(&mut self, id: i32, face: &Face, threshold: f32) {
        let now = self.now;
        if let Some(track) = self.tracks.iter_mut().find(|t| t.id == id) {
            track.see(face, threshold, now);
        }
    }

    /// Takes notice of the faces that the search of the whole picture has found; tells the number of each.
    pub fn find(&mut self, faces: &[Face], threshold: f32) -> Vec<i32> {
        let now = self.now;
        let matched = self.assign(faces);
        let mut ids = Vec::with_capacity(faces.len());
        for (face, track) in faces.iter().zip(matched) {
            let track = track.unwrap_or_else(|| {
                let id = self.number();
                self.tracks.push(Track::new(id, face, now));
                self.tracks.len() - 1
            });
            let track = &mut self.tracks[track];
            track.see(face, threshold, now);
            track.proven = now;
            ids.push(track.id);
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
        let mut taken = vec![false; expected.len()];
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
    fn new(id: i32, face: &Face, now: Duration) -> Self {
        Self {
            id,
            rect: face.rect,
            speed: [0.0; 2],
            seen: now,
            first_clear: now,
            clear: now,
            proven: now,
        }
    }

    /// Clear for long enough, and not long ago.
    fn is_steady(&self, now: Duration) -> bool {
        now - self.clear <= REMEMBERED && self.clear - self.first_clear >= STEADY
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

    fn see(&mut self, face: &Face, threshold: f32, now: Duration) {
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
        if face.confidence >= threshold {
            if now - self.clear > REMEMBERED {
                self.first_clear = now;
            }
            self.clear = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Landmarks;

    const THRESHOLD: f32 = 0.7;

    fn face(x: f32, confidence: f32) -> Face {
        Face {
            rect: Rect::new(x, 100.0, 80.0, 100.0),
            confidence,
            landmarks: Landmarks::default(),
        }
    }

    /// Searches a frame that shows clear faces at these places.
    fn find(tracker: &mut Tracker, at: u64, places: &[f32]) -> Vec<i32> {
        tracker.begin(Duration::from_millis(at));
        let faces: Vec<_> = places.iter().map(|&x| face(x, 0.9)).collect();
        tracker.find(&faces, THRESHOLD)
    }

    #[test]
    fn faces_keep_their_numbers_whatever_their_order() {
        let mut tracker = Tracker::default();
        assert_eq!(find(&mut tracker, 0, &[100.0, 400.0]), [1, 2]);
        assert_eq!(find(&mut tracker, 40, &[405.0, 700.0, 110.0]), [2, 3, 1]);
    }

    #[test]
    fn faces_that_pass_each_other_keep_their_numbers() {
        let mut tracker = Tracker::default();
        // 12 pixels a frame towards each other; from frame 15 on their boxes overlap.
        for frame in 0..50 {
            let way = 12.0 * frame as f32;
            let found = find(&mut tracker, 40 * frame, &[100.0 + way, 700.0 - way]);
            if (way - 300.0).abs() > 20.0 {
                assert_eq!(found, [1, 2], "frame {frame}");
            }
        }
    }

    #[test]
    fn a_face_that_is_hidden_for_a_second_keeps_its_number_and_later_gets_another() {
        let mut tracker = Tracker::default();
        find(&mut tracker, 0, &[100.0]);
        for ms in [40, 500, 1000] {
            assert!(find(&mut tracker, ms, &[]).is_empty());
        }
        assert_eq!(find(&mut tracker, 1040, &[150.0]), [1]);
        assert_eq!(find(&mut tracker, 3100, &[150.0]), [2]);
    }

    #[test]
    fn a_leap_is_followed_where_it_is_clear_who_leapt() {
        let mut tracker = Tracker::default();
        find(&mut tracker, 0, &[100.0]);
        assert_eq!(find(&mut tracker, 40, &[160.0]), [1]);
        // Two faces, either of which may be the one of before.
        let mut tracker = Tracker::default();
        find(&mut tracker, 0, &[100.0]);
        assert_eq!(find(&mut tracker, 40, &[40.0, 165.0]), [2, 3]);
    }

    #[test]
    fn seeks_back_and_resets_give_new_numbers() {
        let mut tracker = Tracker::default();
        find(&mut tracker, 5000, &[100.0]);
        assert_eq!(find(&mut tracker, 100, &[100.0]), [2]);
        tracker.reset();
        assert_eq!(find(&mut tracker, 140, &[100.0]), [3]);
    }

    /// A face that was clear for so long, from the beginning.
    fn seen_for(ms: u64) -> Tracker {
        let mut tracker = Tracker::default();
        for ms in (0..=ms).step_by(50) {
            find(&mut tracker, ms, &[100.0]);
        }
        tracker
    }

    #[test]
    fn less_evidence_is_asked_for_a_second_of_a_face_that_was_clear() {
        let mut tracker = seen_for(300);
        for ms in [340, 800, 1260] {
            tracker.begin(Duration::from_millis(ms));
            assert_eq!(tracker.known().len(), 1, "{ms}");
            tracker.find(&[face(100.0, 0.4)], THRESHOLD);
        }
        // Faint evidence alone does not keep it.
        tracker.begin(Duration::from_millis(1340));
        assert_eq!(tracker.known(), []);
        assert_eq!(tracker.expected(THRESHOLD)[0].threshold, THRESHOLD);
        let mut tracker = seen_for(250);
        tracker.begin(Duration::from_millis(300));
        assert_eq!(tracker.known(), []);
    }

    #[test]
    fn what_no_search_confirms_is_not_followed_for_long() {
        let mut tracker = seen_for(0);
        for ms in (40..1500).step_by(40) {
            tracker.begin(Duration::from_millis(ms));
            assert_eq!(tracker.expected(THRESHOLD).len(), 1, "{ms}");
            tracker.follow(1, &face(100.0, 0.9), THRESHOLD);
        }
        tracker.begin(Duration::from_millis(1520));
        assert_eq!(tracker.expected(THRESHOLD), []);
    }

    #[test]
    fn a_face_is_expected_further_on_its_way() {
        let mut tracker = Tracker::default();
        for frame in 0..20 {
            find(&mut tracker, 40 * frame, &[100.0 + 8.0 * frame as f32]);
        }
        tracker.begin(Duration::from_millis(800));
        let x = tracker.expected(THRESHOLD)[0].rect.x;
        // 260 would be as fast as before; a little less, for it may stop.
        assert!((258.0..260.0).contains(&x), "{x}");
    }
}
