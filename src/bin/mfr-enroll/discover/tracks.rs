//! Faces of consecutive frames of a video that are certainly one person.

use std::time::Duration;

use super::{FoundFace, FoundImage};

/// Overlap (IoU) of the boxes of a face in two frames.
const SAME_PLACE: f32 = 0.3;

/// Least cosine of the embeddings in two frames, both with or both without a mask, and across a mask: that of
/// `track::matching` for a face in the same place.
const SAME_MASK: f32 = 0.5;
const ACROSS: f32 = 0.35;

/// Frames farther apart say nothing by the place of a face. It is a little more than the interval of two frames a second.
const MOST_APART: Duration = Duration::from_millis(700);

/// The number of the track of each face of each frame, from 0; None for faces of photos and those that are not grouped.
pub fn tracks(images: &[FoundImage<FoundFace>]) -> Vec<Vec<Option<usize>>> {
    let mut count = 0;
    let mut tracks: Vec<Vec<Option<usize>>> = Vec::with_capacity(images.len());
    for (i, image) in images.iter().enumerate() {
        let mut own = vec![None; image.faces.len()];
        let before = i.checked_sub(1).map(|before| &images[before]);
        if let (Some(before), Some(last)) = (before, tracks.last())
            && is_soon_after(before.time, image.time)
        {
            let mut pairs = likely(&before.faces, &image.faces);
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut is_taken = vec![false; before.faces.len()];
            for (_, a, b) in pairs {
                if own[b].is_none() && !is_taken[a] {
                    own[b] = last[a];
                    is_taken[a] = true;
                }
            }
        }
        for (track, face) in own.iter_mut().zip(&image.faces) {
            if track.is_none() && image.time.is_some() && face.embedding.is_some() {
                *track = Some(count);
                count += 1;
            }
        }
        tracks.push(own);
    }
    tracks
}

fn is_soon_after(before: Option<Duration>, time: Option<Duration>) -> bool {
    let both = before.zip(time);
    both.is_some_and(|(before, time)| time.saturating_sub(before) <= MOST_APART)
}

/// Pairs of a face of one frame and one of the next that may be the same: overlap and indices.
fn likely(before: &[FoundFace], after: &[FoundFace]) -> Vec<(f32, usize, usize)> {
    let mut pairs = Vec::new();
    for (a, one) in before.iter().enumerate() {
        for (b, other) in after.iter().enumerate() {
            let (Some(first), Some(second)) = (&one.embedding, &other.embedding) else {
                continue;
            };
            let overlap = one.rect().iou(&other.rect());
            let least = match one.is_masked == other.is_masked {
                true => SAME_MASK,
                false => ACROSS,
            };
            if overlap >= SAME_PLACE && first.0.dot(&second.0) >= least {
                pairs.push((overlap, a, b));
            }
        }
    }
    pairs
}
