//! Faces from frame to frame: the same face, seen again and again, is known better.
//!
//! The embedding of one frame carries the noise of that frame: a turned head, a blink, blur, the
//! edge of a mask. Averaged over the recent past of a face it comes nearer to its person, while
//! that of a stranger comes no nearer to anybody. On a clip of a masked man who was enrolled
//! without a mask, single frames name him in 46 of 107 at the default threshold, averages in all.

use std::time::Duration;

use ndarray::{Array1, ArrayView1};

use crate::attribute::Mask;
use crate::embed::Embedded;
use crate::geometry::Rect;

/// Least overlap of the boxes of one face in two frames.
const SAME_PLACE: f32 = 0.3;

/// Least cosine between a face and the average of the face that was in its place. Neighbouring
/// frames of one face have .8 and more, two people hardly ever .4: below it somebody else has come,
/// as after a cut.
const SAME_FACE: f32 = 0.5;

/// How fast the past fades: what was seen so long ago weighs a third of what is seen now.
const MEMORY: Duration = Duration::from_secs(1);

/// The same for the mask, which may be put on or taken off at any time: even a state that was as sure
/// as can be is overcome within twice this time.
const MASK_MEMORY: Duration = Duration::from_millis(250);

/// How long a face may be turned away or hidden before its past no longer counts.
const GONE_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Track {
    rect: Rect,
    /// The weighted mean of what was seen, scaled to unit length.
    embedding: Array1<f32>,
    /// What all that was seen weighs together, in frames.
    weight: f32,
    /// The weighted mean of the log-odds of a mask, and its weight.
    mask: f32,
    mask_weight: f32,
    seen: Duration,
}

/// The faces of a stream.
#[derive(Debug, Default)]
pub struct Tracks {
    tracks: Vec<Track>,
}

impl Tracks {
    /// Replaces what was seen of each face by the average over its recent past; embeddings keep unit
    /// length. `now` is the time of the frame; the past is forgotten when it runs backwards.
    pub fn average(&mut self, rects: &[Rect], faces: &mut Embedded, now: Duration) {
        self.tracks
            .retain(|t| t.seen <= now && now - t.seen <= GONE_AFTER);
        let old = self.tracks.len();
        let mut taken = vec![false; old];
        let seen = faces.embeddings.rows_mut().into_iter();
        for ((rect, mut embedding), mask) in rects.iter().zip(seen).zip(&mut faces.masks) {
            let Some(index) = self.nearest(rect, &taken) else {
                self.tracks.push(Track {
                    rect: *rect,
                    embedding: embedding.to_owned(),
                    weight: 1.0,
                    mask: mask.log_odds(),
                    mask_weight: 1.0,
                    seen: now,
                });
                taken.push(true);
                continue;
            };
            taken[index] = true;
            let track = &mut self.tracks[index];
            track.see(embedding.view(), *mask, now);
            track.rect = *rect;
            embedding.assign(&track.embedding);
            *mask = Mask::from_log_odds(track.mask);
        }
    }

    /// The track whose last box overlaps most.
    fn nearest(&self, rect: &Rect, taken: &[bool]) -> Option<usize> {
        let overlap = |i: usize| self.tracks[i].rect.iou(rect);
        (0..self.tracks.len())
            .filter(|&i| !taken[i] && overlap(i) >= SAME_PLACE)
            .max_by(|&a, &b| overlap(a).total_cmp(&overlap(b)))
    }
}

impl Track {
    fn see(&mut self, embedding: ArrayView1<f32>, mask: Mask, now: Duration) {
        let age = (now - self.seen).as_secs_f32();
        self.seen = now;
        if self.embedding.dot(&embedding) < SAME_FACE {
            self.embedding.assign(&embedding);
            self.weight = 1.0;
            self.mask = mask.log_odds();
            self.mask_weight = 1.0;
            return;
        }
        let past = self.mask_weight * (-age / MASK_MEMORY.as_secs_f32()).exp();
        self.mask_weight = past + 1.0;
        self.mask = (self.mask * past + mask.log_odds()) / self.mask_weight;
        let past = self.weight * (-age / MEMORY.as_secs_f32()).exp();
        self.weight = past + 1.0;
        self.embedding *= past;
        self.embedding += &embedding;
        let length = self.embedding.dot(&self.embedding).sqrt();
        if length > 0.0 {
            self.embedding /= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, arr2};

    const HERE: Rect = Rect::new(0.0, 0.0, 100.0, 100.0);
    const THERE: Rect = Rect::new(500.0, 0.0, 100.0, 100.0);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn see(tracks: &mut Tracks, rect: Rect, embedding: [f32; 2], at: u64) -> [f32; 2] {
        let mut faces = unmasked(arr2(&[embedding]));
        tracks.average(&[rect], &mut faces, ms(at));
        [faces.embeddings[[0, 0]], faces.embeddings[[0, 1]]]
    }

    fn unmasked(embeddings: Array2<f32>) -> Embedded {
        let masks = vec![Mask::from_log_odds(-3.0); embeddings.nrows()];
        Embedded { embeddings, masks }
    }

    /// Sees one face 25 times a second; tells in which frames it wears a mask.
    fn masked(tracks: &mut Tracks, frames: std::ops::Range<u64>, log_odds: f32) -> Vec<bool> {
        let see = |frame| {
            let mut faces = unmasked(arr2(&[[1.0, 0.0]]));
            faces.masks[0] = Mask::from_log_odds(log_odds);
            tracks.average(&[HERE], &mut faces, ms(frame * 40));
            faces.masks[0].is_worn()
        };
        frames.map(see).collect()
    }

    #[test]
    fn the_past_of_a_face_weighs_a_third_after_the_memory() {
        let mut tracks = Tracks::default();
        assert_eq!(see(&mut tracks, HERE, [1.0, 0.0], 0), [1.0, 0.0]);
        let [x, y] = see(&mut tracks, HERE, [0.8, 0.6], 1000);
        // e⁻¹·(1, 0) + (.8, .6) = (1.1679, .6), scaled to length 1.
        assert!(
            (x - 0.8895).abs() < 1e-3 && (y - 0.4570).abs() < 1e-3,
            "{x} {y}"
        );
    }

    #[test]
    fn a_mask_put_on_counts_within_half_a_second_and_a_single_frame_never() {
        let mut tracks = Tracks::default();
        assert_eq!(masked(&mut tracks, 0..50, -6.0), [false; 50]);
        assert_eq!(masked(&mut tracks, 50..51, 6.0), [false]);
        masked(&mut tracks, 51..100, -6.0);
        // From as sure as can be to odds of e² = 7: (6 + 2)·e^(−t / 250 ms) = 2 at 347 ms, 9 frames.
        let worn = masked(&mut tracks, 100..113, 2.0);
        let turn = worn.iter().position(|&worn| worn);
        assert!(matches!(turn, Some(7..=9)), "{worn:?}");
        assert!(worn[9..].iter().all(|&worn| worn), "{worn:?}");
    }

    #[test]
    fn another_face_in_the_same_place_has_no_past() {
        let mut tracks = Tracks::default();
        see(&mut tracks, HERE, [1.0, 0.0], 0);
        assert_eq!(see(&mut tracks, HERE, [0.0, 1.0], 40), [0.0, 1.0]);
    }

    #[test]
    fn another_place_a_long_pause_and_a_seek_have_no_past() {
        for (rect, at) in [(THERE, 140), (HERE, 1200), (HERE, 50)] {
            let mut tracks = Tracks::default();
            see(&mut tracks, HERE, [1.0, 0.0], 100);
            assert_eq!(see(&mut tracks, rect, [0.8, 0.6], at), [0.8, 0.6]);
        }
    }

    #[test]
    fn faces_side_by_side_keep_their_own_past() {
        let mut tracks = Tracks::default();
        let near = HERE.translated(50.0, 0.0);
        let faces = [[1.0, 0.0], [0.0, 1.0]];
        for at in 0..5 {
            let mut seen = unmasked(arr2(&faces));
            tracks.average(&[HERE, near], &mut seen, ms(at * 40));
            assert_eq!(seen.embeddings, arr2(&faces));
        }
        assert_eq!(tracks.tracks.len(), 2);
    }
}
