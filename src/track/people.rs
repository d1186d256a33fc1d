//! Identity over time: embeddings of a face are averaged over frames.
//!
//! The embedding of one frame carries the noise of that frame: a turned head, a blink, blur, the
//! edge of a mask. The average over the recent past of a face is more similar to the right person, while
//! that of a stranger becomes no more similar to anybody. On a clip of a masked man who was enrolled
//! without a mask, single frames name him in 46 of 107 at the default threshold, averages in all.
//!
//! A face is embedded again when that may change the answer: while it is new, when a mask is put on or taken
//! off, when it is seen better than before, when the similarity is close to the threshold, or when the answer
//! is old. Embeddings with and without a mask are averaged apart. A confirmed name is kept with hysteresis, so
//! that it outlives a hand before the face and a mask that is put on.

mod evidence;

use std::time::Duration;

use evidence::Evidence;
use ndarray::ArrayView1;

use crate::embed::mask::Mask;
use crate::frame::geometry::{Landmarks, Rect};
use crate::gallery::{Gallery, Similarities};
use crate::track::matching::{
    Basis, FORGOTTEN_AFTER, Key, LIKE_WITH_ANOTHER_ID, LIKE_WITH_THE_SAME_ID, Likeness, assign,
    associate, stretched,
};

/// Consecutive embeddings below that cosine which make it another person, and the time between them. A single one is noise.
const MISMATCHES: u32 = 2;
const MISMATCH_INTERVAL: Duration = Duration::from_millis(80);

/// Time constant with which mask checks fade, since a mask may be put on or taken off at any time. The most certain state is
/// overturned within twice this time.
const MASK_MEMORY: Duration = Duration::from_millis(250);

/// Absolute log-odds from which on the mask state is certain: e to 1.
const CLEAR_MASK: f32 = 1.0;

/// Interval between mask checks of a face.
const MASK_CHECK_INTERVAL: Duration = Duration::from_millis(150);

/// How long a face may be lost that gets another id in the same place.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(1);

/// The least of this time and [`FORGOTTEN_AFTER`] in frames, of a stream with one frame in seconds.
const GONE_FRAMES: u32 = 2;

/// Embeddings that confirm a name, and by how much the similarity has to exceed the threshold before that: each frame of a
/// stranger is one more chance of a false match.
const CONFIRMED: usize = 3;
const EARLY_MARGINS: [f32; CONFIRMED - 1] = [0.1, 0.05];

/// Hysteresis: how far below the threshold the similarity to a confirmed person may fall. The similarity of strangers to
/// the most similar person of a gallery is .2 on average, which is lower still.
const HYSTERESIS: f32 = 0.2;

/// Incumbent bonus: added to the similarity to the person that a face is named after, when faces compete for names.
const INCUMBENT_BONUS: f32 = 0.05;

/// Distance from the threshold within which an answer is uncertain.
const CLOSE: f32 = 0.15;

/// How long an answer is valid: an uncertain one, `unknown`, and a name.
const GOOD_FOR: [Duration; 3] = [
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(1),
];

/// Part of that time after which a face is embedded in a batch with another that is due: two in one run of the network take
/// half as long again as one.
const COMES_ALONG: f32 = 0.6;

/// How many embeddings double the time for which an answer other than a clear name is valid, and the longest time for
/// `unknown`.
const SETTLED: u32 = 6;
const GOOD_FOR_AT_MOST: Duration = Duration::from_secs(3);

/// Ratio of the quality to the best so far from which on a face is embedded again, and the least time since the last one.
const BETTER: f32 = 1.3;
const BETTER_AFTER: Duration = Duration::from_millis(100);

/// The last class of urgency: embedded in a batch with others only.
const ALONG: u8 = 4;

/// How often faces are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReembedPolicy {
    /// When that may change the answer.
    #[default]
    Adaptive,
    /// In every n-th frame at most.
    Frames(u32),
    Once,
}

/// A face of a frame, as a detector gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Its id in the stream; 0 where there is none.
    pub id: i32,
    pub rect: Rect,
    /// 0…1, see [`quality`].
    pub quality: f32,
}

/// The identity and mask state of a face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Index of the person in the gallery; None for unknown.
    pub label: Option<usize>,
    /// Similarity to that person, or for unknown to the most similar one: 0…1, higher is more certain.
    pub similarity: f32,
    /// Probability, 0…1, that the answer is right.
    pub confidence: f32,
    pub mask: Mask,
    /// Frames since the face was embedded.
    pub frames_ago: u32,
}

/// Quality of a face for recognition, 0…1: large faces from the front are best.
pub fn quality(rect: &Rect, landmarks: Option<&Landmarks>) -> f32 {
    let size = (rect.width.min(rect.height) / 80.0).clamp(0.2, 1.0);
    let Some(Landmarks([left, right, nose, ..])) = landmarks else {
        return size;
    };
    let apart = (right.x - left.x).hypot(right.y - left.y).max(1.0);
    // Position of the nose along the line of the eyes, so that a tilted head counts as frontal: 0, and ±.5 for a profile.
    let [x, y] = [
        nose.x - (left.x + right.x) / 2.0,
        nose.y - (left.y + right.y) / 2.0,
    ];
    let turn = (x * (right.x - left.x) + y * (right.y - left.y)) / (apart * apart);
    size * (1.3 - 1.6 * turn.abs()).clamp(0.2, 1.0)
}

#[derive(Debug)]
struct Track {
    /// Stays while the embeddings are those of one person, whatever ids the detector gives.
    number: u64,
    /// The track with another id that was in the same place. Nothing of it is inherited before an embedding has verified that
    /// both are one person.
    predecessor: Option<Box<Track>>,
    id: i32,
    rect: Rect,
    quality: f32,
    seen: Duration,
    /// Weighted mean of the log-odds of a mask, its weight, and the time of the last mask check.
    mask: f32,
    mask_weight: f32,
    checked: Duration,
    /// Averages without and with a mask.
    evidence: [Evidence; 2],
    /// Consecutive embeddings that were unlike the average.
    mismatches: u32,
    /// Similarity to people of the gallery, by the average of `scored_masked`; empty after a new embedding.
    scores: Similarities,
    scored_masked: bool,
    name: Option<Name>,
    /// Similarity of the last answer minus the threshold.
    margin: f32,
    embedded: Duration,
    frames_ago: u32,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    label: usize,
    is_confirmed: bool,
}

/// The faces of a stream.
#[derive(Debug, Default)]
pub struct People {
    tracks: Vec<Track>,
    /// Index of the track of each face of this frame.
    present: Vec<usize>,
    now: Duration,
    /// The last number that was given to a track.
    numbers: u64,
}

impl People {
    /// Removes all tracks.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.present.clear();
    }

    /// Forgets names and scores, but no embeddings: the gallery is another one.
    pub fn forget_names(&mut self) {
        for track in &mut self.tracks {
            track.name = None;
            track.scores.clear();
        }
    }

    /// The picture is from now on wider and higher by these factors.
    pub fn rescale(&mut self, scale: [f32; 2]) {
        for track in &mut self.tracks {
            track.rect = stretched(track.rect, scale);
        }
    }

    /// Begins a frame, of a stream with this frame interval, with the faces in it. The past is forgotten when time runs
    /// backwards.
    pub fn begin(&mut self, observations: &[Observation], now: Duration, interval: Duration) {
        self.now = now;
        let [gone_after, taken_over_within] =
            [FORGOTTEN_AFTER, TAKEN_OVER_WITHIN].map(|time| time.max(interval * GONE_FRAMES));
        self.tracks
            .retain(|t| t.seen <= now && now - t.seen <= gone_after);
        let key = |id, rect| Key {
            id,
            rect,
            ..Key::default()
        };
        let faces: Vec<_> = observations.iter().map(|o| key(o.id, o.rect)).collect();
        let known = self.tracks.iter().map(|track| {
            let is_recent = now - track.seen <= taken_over_within;
            // An empty box is in no place.
            key(
                track.id,
                if is_recent {
                    track.rect
                } else {
                    Rect::default()
                },
            )
        });
        let known: Vec<_> = known.collect();
        self.present.clear();
        for (observation, found) in observations.iter().zip(associate(&faces, &known)) {
            let index = match found {
                Some((index, Basis::Place)) => {
                    self.replace(index);
                    index
                }
                Some((index, _)) => index,
                None => {
                    self.numbers += 1;
                    self.tracks.push(Track::new(self.numbers, now));
                    self.tracks.len() - 1
                }
            };
            let track = &mut self.tracks[index];
            track.id = observation.id;
            track.rect = observation.rect;
            track.quality = observation.quality;
            track.seen = now;
            track.frames_ago = track.frames_ago.saturating_add(1);
            self.present.push(index);
        }
    }

    /// A face with another id is in the place of this track, which becomes the predecessor of a new one.
    fn replace(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        if track.predecessor.is_none() {
            self.numbers += 1;
            let new = Track::new(self.numbers, self.now);
            let old = std::mem::replace(track, new);
            track.predecessor = Some(Box::new(old));
        }
    }

    fn track(&self, face: usize) -> &Track {
        &self.tracks[self.present[face]]
    }

    /// The number of each face's track; None where a face with another id was in the same place and no embedding has verified
    /// yet whether both are one person.
    pub fn tracks(&self) -> impl Iterator<Item = Option<u64>> {
        let tracks = self.present.iter().map(|&index| &self.tracks[index]);
        tracks.map(|track| track.predecessor.is_none().then_some(track.number))
    }

    /// Indices of the faces of the frame that are due for a mask check, those first that have waited longest.
    pub fn due_for_mask_check(&self, policy: ReembedPolicy) -> Vec<usize> {
        let is_due = |&face: &usize| {
            let track = self.track(face);
            let is_old = self.now - track.checked >= MASK_CHECK_INTERVAL;
            track.mask_weight == 0.0 || policy != ReembedPolicy::Adaptive || is_old
        };
        let mut due: Vec<_> = (0..self.present.len()).filter(is_due).collect();
        due.sort_by_key(|&face| (self.track(face).mask_weight > 0.0, self.track(face).checked));
        due
    }

    /// Adds a mask check of a face.
    pub fn observe_mask(&mut self, face: usize, mask: Mask) {
        let track = &mut self.tracks[self.present[face]];
        track.observe_mask(mask.log_odds(), 1.0, self.now);
    }

    /// Indices of the faces of the frame that should be embedded, of those with a mask check, the most urgent first.
    pub fn to_embed(&self, policy: ReembedPolicy) -> Vec<usize> {
        let mut wanted: Vec<_> = (0..self.present.len())
            .filter(|&face| self.track(face).mask_weight > 0.0)
            .filter_map(|face| Some((self.track(face).urgency(policy, self.now)?, face)))
            .collect();
        wanted.sort();
        let is_none_urgent = wanted.first().is_none_or(|((class, _), _)| *class == ALONG);
        if is_none_urgent {
            return Vec::new();
        }
        wanted.into_iter().map(|(_, face)| face).collect()
    }

    /// Adds an embedding, `[dim]` of unit length, of a face with a mask check.
    pub fn add_embedding(&mut self, face: usize, embedding: ArrayView1<f32>) {
        let track = &mut self.tracks[self.present[face]];
        let is_another = !track.add_embedding(embedding, self.now);
        if is_another {
            self.numbers += 1;
            track.number = self.numbers;
        }
    }

    /// The answer for each face of the frame, None where it was never embedded. Each person is given to one face at most, by
    /// greedy assignment. `threshold` replaces those of the gallery.
    pub fn answers(&mut self, gallery: &Gallery, threshold: Option<f32>) -> Vec<Option<Answer>> {
        let mut claims = Vec::new();
        for (face, &index) in self.present.iter().enumerate() {
            let track = &mut self.tracks[index];
            track.score(gallery);
            let limit = threshold.unwrap_or_else(|| gallery.threshold(track.scored_masked));
            let named = track.scores.iter().filter_map(|(label, score)| {
                let bonus = track.claim(label, score, limit, threshold.is_some())?;
                Some((score + bonus, face, label))
            });
            claims.extend(named);
        }
        let mut labels = vec![None; self.present.len()];
        for (face, label) in assign(&claims) {
            labels[face] = Some(label);
        }
        let faces = self.present.iter().zip(labels);
        let answer = |(&index, label): (&usize, Option<usize>)| {
            let track = &mut self.tracks[index];
            track.answer(gallery, label, threshold)
        };
        faces.map(answer).collect()
    }
}

impl Track {
    fn new(number: u64, now: Duration) -> Self {
        Self {
            number,
            predecessor: None,
            id: 0,
            rect: Rect::default(),
            quality: 0.0,
            seen: now,
            mask: 0.0,
            mask_weight: 0.0,
            checked: now,
            evidence: Default::default(),
            mismatches: 0,
            scores: Similarities::default(),
            scored_masked: false,
            name: None,
            margin: 0.0,
            embedded: now,
            frames_ago: 0,
        }
    }

    fn is_masked(&self) -> bool {
        self.mask > 0.0
    }

    fn evidence(&self) -> &Evidence {
        &self.evidence[usize::from(self.is_masked())]
    }

    /// How urgently the face should be embedded: class, then age of its average; None if it need not be.
    fn urgency(
        &self,
        policy: ReembedPolicy,
        now: Duration,
    ) -> Option<(u8, std::cmp::Reverse<Duration>)> {
        let mut evidence = self.evidence();
        let other = &self.evidence[usize::from(!self.is_masked())];
        // While the mask state is uncertain, the average of the other state is as good.
        let is_unclear = policy == ReembedPolicy::Adaptive && self.mask.abs() < CLEAR_MASK;
        if is_unclear && evidence.count < CONFIRMED && other.count >= CONFIRMED {
            evidence = other;
        }
        let is_new = self.evidence.iter().all(|e| e.count == 0);
        let age = now.saturating_sub(evidence.at);
        let waited = now.saturating_sub(self.embedded);
        let class = match policy {
            _ if is_new => 0,
            ReembedPolicy::Once => return None,
            ReembedPolicy::Frames(n) => {
                (self.frames_ago >= n || evidence.count == 0).then_some(1)?
            }
            ReembedPolicy::Adaptive => {
                // The more embeddings there are, the less one more can change.
                let more = 1.0 + evidence.count as f32 / SETTLED as f32;
                let good_for = match self.margin {
                    m if m.abs() < CLOSE => GOOD_FOR[0].mul_f32(more).min(GOOD_FOR[1]),
                    m if m > 0.0 => GOOD_FOR[2],
                    _ => GOOD_FOR[1].mul_f32(more).min(GOOD_FOR_AT_MOST),
                };
                let is_better = self.quality > BETTER * evidence.quality && age >= BETTER_AFTER;
                if evidence.count < CONFIRMED
                    || (self.mismatches > 0 && waited >= MISMATCH_INTERVAL)
                {
                    1
                } else if is_better {
                    2
                } else if age >= good_for {
                    3
                } else {
                    (age >= good_for.mul_f32(COMES_ALONG)).then_some(ALONG)?
                }
            }
        };
        Some((class, std::cmp::Reverse(age)))
    }

    /// Adds the mean log-odds of mask checks that have this weight together.
    fn observe_mask(&mut self, log_odds: f32, weight: f32, now: Duration) {
        let age = now.saturating_sub(self.checked).as_secs_f32();
        let past = self.mask_weight * (-age / MASK_MEMORY.as_secs_f32()).exp();
        self.mask_weight = past + weight;
        self.mask = (self.mask * past + log_odds * weight) / self.mask_weight;
        self.checked = now;
    }

    /// Adds an embedding; false if it is of another person than those before, which are forgotten then.
    fn add_embedding(&mut self, embedding: ArrayView1<f32>, now: Duration) -> bool {
        if let Some(old) = self.predecessor.take()
            && old.is_like(self.is_masked(), embedding, LIKE_WITH_ANOTHER_ID)
        {
            self.take_over(*old);
        }
        self.frames_ago = 0;
        self.embedded = now;
        self.scores.clear();
        let mut is_same = true;
        if self.is_like(self.is_masked(), embedding, LIKE_WITH_THE_SAME_ID) {
            self.mismatches = 0;
        } else {
            self.mismatches += 1;
            if self.mismatches < MISMATCHES {
                return true;
            }
            self.evidence = Default::default();
            self.name = None;
            self.mismatches = 0;
            is_same = false;
        }
        let quality = self.quality;
        let index = usize::from(self.is_masked());
        self.evidence[index].add(embedding, quality, now);
        is_same
    }

    /// Inherits from the track of the same person with another id.
    fn take_over(&mut self, mut old: Self) {
        old.observe_mask(self.mask, self.mask_weight, self.checked);
        *self = Self {
            id: self.id,
            rect: self.rect,
            quality: self.quality,
            seen: self.seen,
            mismatches: 0,
            ..old
        };
    }

    /// Whether an embedding, of a face with a mask or without, is similar enough to the averages.
    fn is_like(&self, is_masked: bool, embedding: ArrayView1<f32>, likeness: Likeness) -> bool {
        let cosine =
            |evidence: &Evidence| (evidence.count > 0).then(|| evidence.mean.dot(&embedding));
        let index = usize::from(is_masked);
        let [same, across] = [index, 1 - index].map(|i| cosine(&self.evidence[i]));
        likeness.accepts(same, across)
    }

    /// Compares the average with each person of the gallery.
    fn score(&mut self, gallery: &Gallery) {
        let masked = usize::from(self.is_masked());
        // Right after a change of the mask state there is no average of the new one yet.
        let index = if self.evidence[masked].count > 0 {
            masked
        } else {
            1 - masked
        };
        if self.evidence[index].count == 0 {
            self.scores.clear();
        } else if self.scores.is_empty() || self.scored_masked != (index == 1) {
            self.scored_masked = index == 1;
            let mean = self.evidence[index].mean.view();
            // The person whose name the face has is judged, however many others are more similar.
            let name = self.name.map(|name| name.label);
            self.scores = gallery.similarities(mean, self.scored_masked, name);
        }
    }

    /// The bonus with which the face competes for a person, None if the similarity is too low; the threshold is the user's if
    /// `is_given`.
    fn claim(&self, label: usize, score: f32, threshold: f32, is_given: bool) -> Option<f32> {
        let count = self.evidence[usize::from(self.scored_masked)].count;
        match self.name {
            Some(name) if name.label == label => {
                let hold = if name.is_confirmed { HYSTERESIS } else { 0.0 };
                // After a change of the mask state a confirmed name is kept until there are enough embeddings to judge.
                let is_settled = self.evidence().count >= CONFIRMED;
                let may = score >= threshold - hold || (name.is_confirmed && !is_settled);
                may.then_some(INCUMBENT_BONUS)
            }
            Some(name) if name.is_confirmed && count < CONFIRMED => None,
            _ => {
                let early = EARLY_MARGINS
                    .get(count.saturating_sub(1))
                    .filter(|_| !is_given);
                (score >= threshold + early.unwrap_or(&0.0)).then_some(0.0)
            }
        }
    }

    fn answer(
        &mut self,
        gallery: &Gallery,
        label: Option<usize>,
        threshold: Option<f32>,
    ) -> Option<Answer> {
        if self.scores.is_empty() {
            return None;
        }
        let count = self.evidence().count;
        self.name = label.map(|label| Name {
            label,
            is_confirmed: count >= CONFIRMED
                || self
                    .name
                    .is_some_and(|n| n.label == label && n.is_confirmed),
        });
        let own = label.and_then(|label| self.scores.get(label));
        let similarity = own.unwrap_or(self.scores.best());
        let masked = self.scored_masked;
        self.margin = similarity - threshold.unwrap_or_else(|| gallery.threshold(masked));
        let probability = gallery.probability(masked, similarity);
        Some(Answer {
            label,
            similarity,
            confidence: match label {
                Some(_) => probability,
                None => 1.0 - probability,
            },
            mask: Mask::from_log_odds(self.mask),
            frames_ago: self.frames_ago,
        })
    }
}

#[cfg(test)]
mod tests;
