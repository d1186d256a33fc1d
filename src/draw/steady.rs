//! Temporal smoothing: boxes that do not jitter, texts that stay long enough to be read, and no flicker if a frame
//! lacks a face.
//!
//! Everything is based on timestamps, so that it looks the same at any frame rate. Faces are distinguished by their
//! ids; those without one are drawn unchanged.

use std::time::Duration;

use super::{Annotation, IdentityState, MAX_LABELS};
use crate::frame::geometry::{Landmarks, Point, Rect};
use crate::track::matching::SAME_PLACE;

/// Time constant in seconds of the smoothing of a face that does not move: three frames at 25 per
/// second. Detector jitter is halved, and nodding is still followed.
const SMOOTHING: f32 = 0.12;
/// Moves of up to this fraction of the face's shorter side are ignored: detector jitter is about
/// half of it, and such a small offset of a box is not visible.
const STILL: f32 = 0.02;
/// Moves of this fraction of the face's shorter side or more are not smoothed; smaller ones are smoothed less the
/// larger they are, so that a box never lags behind by more than a few hundredths of its face.
const LARGE_MOVE: f32 = 0.12;
/// Minimum time between changes of similarity and mask state: about the time to read a number.
const HOLD_TEXT: Duration = Duration::from_millis(500);
/// Changes of similarity below this are ignored.
const SAME_SIMILARITY: f32 = 0.01;
/// How long a face is still drawn that is missing in frames: one or two frames at 15 per second, three at 25.
const HOLD_FACE: Duration = Duration::from_millis(150);
/// After this time without frames, or without a face, its state is discarded.
const FORGET: Duration = Duration::from_secs(1);

/// Keeps the state of drawn faces between frames.
#[derive(Debug, Default)]
pub struct Steady {
    /// Tracks in the order of appearance, which is their priority in the placement of labels.
    tracks: Vec<Track>,
    last: Option<Duration>,
}

/// A face as it is drawn.
#[derive(Debug)]
struct Track {
    id: i32,
    rect: Rect,
    landmarks: Option<Landmarks>,
    state: IdentityState,
    name: String,
    similarity: Option<f32>,
    masked: Option<bool>,
    text_since: Duration,
    seen: Duration,
    /// Whether the face was seen twice, so that its id is known to persist.
    lasting: bool,
}

impl Steady {
    pub fn new() -> Self {
        Self::default()
    }

    /// Discards all faces, at a discontinuity of the video.
    pub fn forget(&mut self) {
        self.tracks.clear();
        self.last = None;
    }

    /// Returns the annotations to draw at time `now`: `faces`, which were found in this frame, smoothed, and
    /// those that were found a moment ago. Without a time, or in a frame whose time does not follow
    /// the last one's, faces are returned unchanged.
    pub fn update<'a>(
        &'a mut self,
        now: Option<Duration>,
        faces: &[Annotation<'a>],
    ) -> Vec<Annotation<'a>> {
        let Some(now) = now.filter(|_| faces.len() <= MAX_LABELS) else {
            self.forget();
            return faces.to_vec();
        };
        if self.last.is_some_and(|t| now <= t || now - t > FORGET) {
            self.forget();
        }
        let before = self.last.replace(now);
        self.tracks
            .retain(|t| t.lasting && now - t.seen <= FORGET || before == Some(t.seen));
        let mut as_they_come = Vec::new();
        for face in faces {
            let track = self.tracks.iter_mut().find(|t| t.id == face.id);
            match track {
                _ if face.id <= 0 || !face.rect.is_finite() => as_they_come.push(*face),
                // A second face with the same id is drawn unchanged.
                Some(track) if track.seen == now => as_they_come.push(*face),
                Some(track) => track.follow(face, now),
                None => self.tracks.push(Track::new(face, now)),
            }
        }
        // If no face was seen before, the scene has changed.
        let same_scene = faces.is_empty() || self.tracks.iter().any(|t| t.lasting && t.seen == now);
        let missed = |t: &Track| {
            same_scene
                && t.lasting
                && now - t.seen <= HOLD_FACE
                && faces.iter().all(|f| f.rect.iou(&t.rect) < SAME_PLACE)
        };
        let tracks = self.tracks.iter().filter(|t| t.seen == now || missed(t));
        tracks.map(Track::annotation).chain(as_they_come).collect()
    }
}

impl Track {
    fn new(face: &Annotation<'_>, now: Duration) -> Self {
        Self {
            id: face.id,
            rect: face.rect,
            landmarks: face.landmarks,
            state: face.state,
            name: face.name.to_owned(),
            similarity: face.similarity,
            masked: face.masked,
            text_since: now,
            seen: now,
            lasting: false,
        }
    }

    fn follow(&mut self, face: &Annotation<'_>, now: Duration) {
        let time = now - self.seen;
        let side = face.rect.width.min(face.rect.height);
        let numbers = |r: Rect| [r.x, r.y, r.width, r.height];
        let [x, y, width, height] = approach(numbers(self.rect), numbers(face.rect), side, time);
        self.rect = Rect::new(x, y, width, height);
        self.landmarks = match (self.landmarks, face.landmarks) {
            (Some(old), Some(new)) if old.is_finite() => {
                // Heads turn within boxes that do not move.
                let numbers = |l: Landmarks| -> [f32; 10] {
                    std::array::from_fn(|i| {
                        if i % 2 == 0 {
                            l.0[i / 2].x
                        } else {
                            l.0[i / 2].y
                        }
                    })
                };
                let moved = approach(numbers(old), numbers(new), side, time);
                Some(Landmarks(std::array::from_fn(|i| Point {
                    x: moved[2 * i],
                    y: moved[2 * i + 1],
                })))
            }
            (_, new) => new,
        };
        self.say(face, now);
        self.seen = now;
        self.lasting = true;
    }

    /// Takes over the texts; changes of figures alone are limited in frequency.
    fn say(&mut self, face: &Annotation<'_>, now: Duration) {
        let somebody_else = self.state != face.state || self.name != face.name;
        let same_similarity = match (self.similarity, face.similarity) {
            (Some(a), Some(b)) => (a - b).abs() < SAME_SIMILARITY,
            (a, b) => a.is_none() && b.is_none(),
        };
        let same = !somebody_else && same_similarity && self.masked == face.masked;
        if same || !somebody_else && now - self.text_since < HOLD_TEXT {
            return;
        }
        self.state = face.state;
        face.name.clone_into(&mut self.name);
        self.similarity = face.similarity;
        self.masked = face.masked;
        self.text_since = now;
    }

    fn annotation(&self) -> Annotation<'_> {
        Annotation {
            id: self.id,
            rect: self.rect,
            landmarks: self.landmarks,
            state: self.state,
            name: &self.name,
            similarity: self.similarity,
            masked: self.masked,
        }
    }
}

/// Smooths positions: `old` were drawn `time` ago, `new` are the measured ones of a face whose
/// shorter side is `side`.
fn approach<const N: usize>(old: [f32; N], new: [f32; N], side: f32, time: Duration) -> [f32; N] {
    let moves = old.iter().zip(&new).map(|(a, b)| (a - b).abs());
    let largest = moves.fold(0.0, f32::max);
    if largest <= side * STILL {
        return old;
    }
    // A box without size leads to a NaN here, which `max` turns into no smoothing.
    let constant = SMOOTHING * (1.0 - largest / (side * LARGE_MOVE)).max(0.0);
    let part = 1.0 - (-time.as_secs_f32() / constant).exp();
    if part < 1.0 {
        std::array::from_fn(|i| old[i] + (new[i] - old[i]) * part)
    } else {
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACE: Rect = Rect::new(100.0, 80.0, 50.0, 60.0);

    fn ana(rect: Rect) -> Annotation<'static> {
        Annotation {
            id: 7,
            rect,
            state: IdentityState::Known,
            name: "Ana",
            similarity: Some(0.8),
            ..Annotation::default()
        }
    }

    /// Time of frame `n` at 25 frames per second.
    fn at(n: u64) -> Option<Duration> {
        Some(Duration::from_millis(40 * n))
    }

    /// State after `frames` frames in which Ana does not move.
    fn after(frames: u64) -> Steady {
        let mut steady = Steady::new();
        for n in 0..frames {
            assert_eq!(steady.update(at(n), &[ana(FACE)]), [ana(FACE)]);
        }
        steady
    }

    #[test]
    fn a_trembling_box_is_drawn_still() {
        let mut steady = after(1);
        for n in 1..100 {
            // The face alternates by 2 % of its size.
            let face = ana(FACE.translated((n % 2) as f32, 0.0));
            assert_eq!(steady.update(at(n), &[face])[0].rect, FACE);
        }
    }

    #[test]
    fn a_box_that_trembles_much_is_drawn_with_less_than_half_of_it() {
        let mut steady = Steady::new();
        let mut drawn = Vec::new();
        for n in 0..100 {
            // The face alternates by 5 % of its size.
            let face = ana(FACE.translated(2.5 * (n % 2) as f32, 0.0));
            drawn.push(steady.update(at(n), &[face])[0].rect.x);
        }
        let steps = drawn[50..].windows(2).map(|w| (w[1] - w[0]).abs());
        assert!(steps.fold(0.0, f32::max) < 1.25);
    }

    #[test]
    fn smoothing_is_by_time_and_not_by_frames() {
        // A step of 6 % of the face, recorded at 25 and at 100 frames per second.
        let moved = |rate: u64| {
            let mut steady = Steady::new();
            let mut x = 0.0;
            for n in 0..=rate / 12 {
                let face = ana(FACE.translated(if n == 0 { 0.0 } else { 3.0 }, 0.0));
                let now = Some(Duration::from_micros(n * 1_000_000 / rate));
                x = steady.update(now, &[face])[0].rect.x;
            }
            x - FACE.x
        };
        // Both positions are those after 80 ms.
        let (slow, fast) = (moved(25), moved(100));
        assert!(slow > 1.5 && slow < 2.5, "{slow}");
        assert!((slow - fast).abs() < 0.3, "{slow} {fast}");
    }

    #[test]
    fn a_face_that_moves_is_followed_closely_at_any_speed() {
        for speed in [0.1, 0.3, 1.0, 3.0, 10.0] {
            let mut steady = Steady::new();
            for n in 0..50 {
                // The face moves at a multiple of 50 pixels per second.
                let x = 50.0 * speed * 0.04 * n as f32;
                let drawn = steady.update(at(n), &[ana(Rect { x, ..FACE })])[0].rect.x;
                // The lag is limited to 4 % of the face.
                assert!((drawn - x).abs() <= 2.0, "{speed}: {drawn} {x}");
            }
        }
    }

    #[test]
    fn landmarks_are_followed_in_a_box_that_keeps_still() {
        let looking = |x: f32| Annotation {
            landmarks: Some(Landmarks([Point { x, y: 100.0 }; 5])),
            ..ana(FACE)
        };
        let mut steady = Steady::new();
        for n in 0..20 {
            // The landmarks move across half of the face in 400 ms.
            let x = 110.0 + 2.5 * n as f32;
            let drawn = steady.update(at(n), &[looking(x)])[0];
            assert!((drawn.landmarks.unwrap().0[0].x - x).abs() <= 2.5);
            assert_eq!(drawn.rect, FACE);
        }
    }

    #[test]
    fn figures_change_twice_a_second_at_most_and_names_at_once() {
        let mut steady = Steady::new();
        let mut changes = Vec::new();
        let mut last = None;
        for n in 0..50 {
            let face = Annotation {
                similarity: Some(0.5 + 0.005 * n as f32),
                masked: Some(n % 2 == 0),
                ..ana(FACE)
            };
            let drawn = steady.update(at(n), &[face])[0];
            if last != Some((drawn.similarity, drawn.masked)) {
                last = Some((drawn.similarity, drawn.masked));
                changes.push(n);
            }
        }
        // The first frame at least 500 ms later is the thirteenth, at 520 ms.
        assert_eq!(changes, [0, 13, 26, 39]);
        let bob = Annotation {
            name: "Bob",
            similarity: Some(0.9),
            ..ana(FACE)
        };
        assert_eq!(steady.update(at(50), &[bob]), [bob]);
    }

    #[test]
    fn a_similarity_that_hardly_changes_stays_as_it_is() {
        let mut steady = after(1);
        for n in 1..60 {
            let similarity = Some(0.8 + 0.009 * (n % 3 - 1) as f32);
            let face = Annotation {
                similarity,
                ..ana(FACE)
            };
            let now = at(n as u64);
            assert_eq!(steady.update(now, &[face])[0].similarity, Some(0.8));
        }
    }

    #[test]
    fn a_face_that_frames_lack_stays_for_150_milliseconds() {
        let mut steady = after(3);
        // The face was last seen at 80 ms.
        for (n, drawn) in [(3, 1), (4, 1), (5, 1), (6, 0), (7, 0)] {
            assert_eq!(steady.update(at(n), &[]).len(), drawn, "{n}");
        }
        assert_eq!(steady.update(at(8), &[ana(FACE)]).len(), 1);
    }

    #[test]
    fn a_face_with_a_new_id_is_not_drawn_twice() {
        let mut steady = after(3);
        let again = Annotation {
            id: 8,
            ..ana(FACE.translated(3.0, 0.0))
        };
        let bob = Annotation {
            id: 9,
            ..ana(FACE.translated(200.0, 0.0))
        };
        assert_eq!(steady.update(at(3), &[again, bob]), [again, bob]);
    }

    #[test]
    fn nobody_of_another_scene_stays() {
        let mut steady = after(3);
        let bob = Annotation {
            id: 8,
            ..ana(FACE.translated(200.0, 0.0))
        };
        assert_eq!(steady.update(at(3), &[bob]), [bob]);
    }

    #[test]
    fn ids_that_are_new_in_each_frame_or_none_are_drawn_as_they_come() {
        let mut steady = Steady::new();
        for n in 0..20 {
            let faces = [0, 0, -3, n + 1].map(|id| Annotation {
                id,
                ..ana(FACE.translated(100.0 * n as f32, id as f32))
            });
            let mut drawn = steady.update(at(n as u64), &faces);
            drawn.sort_by_key(|f| (f.id > 0, f.id.abs()));
            assert_eq!(drawn, faces);
        }
    }

    #[test]
    fn two_faces_of_one_id_are_both_drawn() {
        let mut steady = after(2);
        let twin = ana(FACE.translated(300.0, 0.0));
        assert_eq!(steady.update(at(2), &[ana(FACE), twin]), [ana(FACE), twin]);
    }

    #[test]
    fn nothing_holds_after_a_jump_in_time_or_without_times() {
        let late = Some(Duration::from_secs(60));
        // The time goes back, stands still, jumps far ahead, or is unknown.
        for now in [at(0), at(2), late, None] {
            let mut steady = after(3);
            assert!(steady.update(now, &[]).is_empty());
            let mut steady = after(3);
            let near = ana(FACE.translated(1.0, 0.0));
            assert_eq!(steady.update(now, &[near]), [near]);
        }
        let mut steady = after(3);
        steady.forget();
        assert!(steady.update(at(3), &[]).is_empty());
    }

    #[test]
    fn boxes_that_are_not_real_do_no_lasting_harm() {
        let mut steady = after(2);
        let mut n = 2;
        for bad in [f32::NAN, f32::INFINITY, -3e38, 0.0] {
            let mut face = ana(Rect::new(1.0, bad, 9.0, bad));
            face.landmarks = Some(Landmarks([Point { x: bad, y: bad }; 5]));
            steady.update(at(n), &[face]);
            face = ana(FACE);
            face.landmarks = Some(Landmarks([Point { x: 110.0, y: 90.0 }; 5]));
            assert_eq!(steady.update(at(n + 1), &[face]), [face], "{bad}");
            n += 2;
        }
    }
}
