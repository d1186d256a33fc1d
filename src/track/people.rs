//! Whose the faces of a stream are: evidence adds up over frames.
//!
//! The embedding of one frame carries the noise of that frame: a turned head, a blink, blur, the
//! edge of a mask. Averaged over the recent past of a face it comes nearer to its person, while
//! that of a stranger comes no nearer to anybody. On a clip of a masked man who was enrolled
//! without a mask, single frames name him in 46 of 107 at the default threshold, averages in all.
//!
//! A face is embedded when that may change the answer: while it is new, when a mask is put on or taken
//! off, when it is seen better than before, when the answer is close, or old. What is seen with and
//! without a mask is kept apart. A name that enough evidence has confirmed stays until evidence speaks
//! against it: so it outlives a hand before the face and a mask that is put on.

mod evidence;

use std::time::Duration;

use evidence::Evidence;
use ndarray::ArrayView1;

use crate::embed::mask::Mask;
use crate::frame::geometry::{Landmarks, Rect};
use crate::gallery::Gallery;
use crate::track::matching::{in_same_place, stretched};

/// Least cosine between a face and the average of the face that was there, where only its place says that it is
/// the same one: with the same mask state, and across a mask. Neighbouring frames of one clear face have .8 and
/// more, two people hardly ever .4: below it somebody else has come.
const SAME_FACE: f32 = 0.5;
const SAME_FACE_ACROSS: f32 = 0.35;

/// The same for a face that kept its id: blurred and turned away it may be hardly like itself.
const SAME_ID: f32 = 0.3;

/// Unlike embeddings in a row after which it is somebody else, and the time between them; a single one is noise.
const MISMATCHES: u32 = 2;
const MISMATCH_INTERVAL: Duration = Duration::from_millis(80);

/// How fast what was seen of the mask fades, which may be put on or taken off at any time: even a state that was as sure
/// as can be is overcome within twice this time.
const MASK_MEMORY: Duration = Duration::from_millis(250);

/// Log-odds from which on it is clear whether a mask is worn: e to 1 for it, or against it.
const CLEAR_MASK: f32 = 1.0;

/// How often a face is looked at for a mask.
const MASK_CHECK_INTERVAL: Duration = Duration::from_millis(150);

/// How long a face may be away before its past no longer counts.
const GONE_AFTER: Duration = Duration::from_millis(2500);

/// The same where another id is given to a face in the same place.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(1);

/// The least of these times in frames, of a stream with one frame in seconds.
const GONE_FRAMES: u32 = 2;

/// Embeddings that confirm a name, and by how much the similarity must exceed the threshold before there are
/// so many: each frame of a stranger is one more chance to be taken for somebody.
const CONFIRMED: usize = 3;
const EARLY_MARGINS: [f32; CONFIRMED - 1] = [0.1, 0.05];

/// How far below the threshold the similarity to a confirmed person may fall. Strangers lie lower still: .2 on
/// average is the similarity to the person of a gallery they are most like.
const HYSTERESIS: f32 = 0.2;

/// A face that has had a name so far has it before others in the frame and before other names.
const INCUMBENT_BONUS: f32 = 0.05;

/// What is so near to the threshold is uncertain.
const CLOSE: f32 = 0.15;

/// How long an answer is good: an uncertain one, that a face is nobody's, and a name.
const GOOD_FOR: [Duration; 3] = [
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(1),
];

/// A face whose answer has been good for this part of its time is embedded along with another: two in one run of the
/// network take half as long again as one.
const COMES_ALONG: f32 = 0.6;

/// How many embeddings make an answer other than a clear name good for twice as long; and the longest that nobody is.
const SETTLED: u32 = 6;
const GOOD_FOR_AT_MOST: Duration = Duration::from_secs(3);

/// A face seen so many times as well as ever before is worth an embedding, if the last one is not this new.
const BETTER: f32 = 1.3;
const BETTER_AFTER: Duration = Duration::from_millis(100);

/// The last class of urgency: not urgent enough to be embedded alone.
const ALONG: u8 = 4;

/// How often faces are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReembedPolicy {
    /// When it may change the answer.
    #[default]
    Adaptive,
    /// In every n-th frame at most.
    Frames(u32),
    Once,
}

/// A face of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Its id in the stream; 0 where there is none.
    pub id: i32,
    pub rect: Rect,
    /// How well it is seen, 0…1: see [`quality`].
    pub quality: f32,
}

/// What is known of a face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Index of the person in the gallery; None for unknown.
    pub label: Option<usize>,
    /// To that person, or to the most similar one: 0…1, higher is surer.
    pub similarity: f32,
    /// Probability, 0…1, that the answer is right.
    pub confidence: f32,
    pub mask: Mask,
    /// Frames since the face was embedded.
    pub frames_ago: u32,
}

/// How well a face is seen, 0…1: large, and from the front.
pub fn quality(rect: &Rect, landmarks: Option<&Landmarks>) -> f32 {
    let size = (rect.width.min(rect.height) / 80.0).clamp(0.2, 1.0);
    let Some(Landmarks([left, right, nose, ..])) = landmarks else {
        return size;
    };
    let apart = (right.x - left.x).hypot(right.y - left.y).max(1.0);
    // Along the line of the eyes, so that a tilted head counts as frontal: 0, and ±.5 with one eye behind the nose.
    let [x, y] = [
        nose.x - (left.x + right.x) / 2.0,
        nose.y - (left.y + right.y) / 2.0,
    ];
    let turn = (x * (right.x - left.x) + y * (right.y - left.y)) / (apart * apart);
    size * (1.3 - 1.6 * turn.abs()).clamp(0.2, 1.0)
}

#[derive(Debug)]
struct Track {
    /// Lasts as long as the embeddings are those of one person, whatever ids are given.
    number: u64,
    /// The face with another id that was in the same place: until an embedding says that this is the same person, nothing
    /// of it is taken over.
    predecessor: Option<Box<Track>>,
    id: i32,
    rect: Rect,
    quality: f32,
    seen: Duration,
    /// The weighted mean of the log-odds of a mask, its weight, and when it was last looked at.
    mask: f32,
    mask_weight: f32,
    checked: Duration,
    /// Without and with a mask.
    evidence: [Evidence; 2],
    /// Embeddings in a row that were unlike.
    mismatches: u32,
    /// Similarity to everybody, by the evidence of `scored_masked`; empty when there is news.
    scores: Vec<f32>,
    scored_masked: bool,
    name: Option<Name>,
    /// Of the last answer, above the threshold.
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
    /// Of each face of this frame, the track.
    present: Vec<usize>,
    now: Duration,
    /// How many numbers have been given to tracks.
    numbers: u64,
}

impl People {
    /// Forgets everybody.
    pub fn reset(&mut self) {
        self.tracks.clear();
        self.present.clear();
    }

    /// Forgets names, not faces: the gallery is another one.
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
            [GONE_AFTER, TAKEN_OVER_WITHIN].map(|time| time.max(interval * GONE_FRAMES));
        self.tracks
            .retain(|t| t.seen <= now && now - t.seen <= gone_after);
        let mut track_of: Vec<Option<usize>> = observations
            .iter()
            .map(|observation| {
                self.tracks
                    .iter()
                    .position(|t| observation.id > 0 && t.id == observation.id)
            })
            .collect();
        for (number, observation) in observations.iter().enumerate() {
            if track_of[number].is_some() {
                continue;
            }
            let free = self.tracks.iter().enumerate().filter(|(i, track)| {
                !track_of.contains(&Some(*i)) && now - track.seen <= taken_over_within
            });
            track_of[number] = in_same_place(&observation.rect, free.map(|(i, t)| (i, t.rect)));
            if let Some(index) = track_of[number] {
                self.replace(index);
            }
        }
        self.present.clear();
        for (observation, track) in observations.iter().zip(track_of) {
            let index = track.unwrap_or(self.tracks.len());
            if track.is_none() {
                self.numbers += 1;
                self.tracks.push(Track::new(self.numbers, now));
            }
            let track = &mut self.tracks[index];
            track.id = observation.id;
            track.rect = observation.rect;
            track.quality = observation.quality;
            track.seen = now;
            track.frames_ago = track.frames_ago.saturating_add(1);
            self.present.push(index);
        }
    }

    /// A face with another id is where this track is.
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

    /// The number of each face's track, which lasts as long as the embeddings are those of one person, whatever ids are
    /// given; None where a face with another id was in the same place and no embedding has yet said whether this is the
    /// same person.
    pub fn tracks(&self) -> impl Iterator<Item = Option<u64>> {
        let tracks = self.present.iter().map(|&index| &self.tracks[index]);
        tracks.map(|track| track.predecessor.is_none().then_some(track.number))
    }

    /// The faces of the frame that should be looked at for a mask, those first that have waited longest.
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

    /// Takes notice of whether a face wears a mask.
    pub fn observe_mask(&mut self, face: usize, mask: Mask) {
        let track = &mut self.tracks[self.present[face]];
        track.observe_mask(mask.log_odds(), 1.0, self.now);
    }

    /// The faces of the frame that should be embedded, of those whose masks have been checked, the most urgent first.
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

    /// Adds the embedding, of unit length, of a face whose mask has been checked.
    pub fn add_embedding(&mut self, face: usize, embedding: ArrayView1<f32>) {
        let track = &mut self.tracks[self.present[face]];
        let is_another = !track.add_embedding(embedding, self.now);
        if is_another {
            self.numbers += 1;
            track.number = self.numbers;
        }
    }

    /// What is known of each face of the frame; None where it was never embedded. Nobody is in a picture twice.
    /// `threshold` replaces those of the gallery.
    pub fn answers(&mut self, gallery: &Gallery, threshold: Option<f32>) -> Vec<Option<Answer>> {
        let mut claims: Vec<(f32, usize, usize)> = Vec::new();
        for (face, &index) in self.present.iter().enumerate() {
            let track = &mut self.tracks[index];
            track.score(gallery);
            let limit = threshold.unwrap_or_else(|| gallery.threshold(track.scored_masked));
            let named = track
                .scores
                .iter()
                .enumerate()
                .filter_map(|(label, &score)| {
                    let bonus = track.claim(label, score, limit, threshold.is_some())?;
                    Some((score + bonus, face, label))
                });
            claims.extend(named);
        }
        claims.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut labels = vec![None; self.present.len()];
        let mut taken = Vec::new();
        for (_, face, label) in claims {
            if labels[face].is_none() && !taken.contains(&label) {
                labels[face] = Some(label);
                taken.push(label);
            }
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
            scores: Vec::new(),
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

    /// How soon the face should be embedded: class, then how long it has waited; None if it need not be.
    fn urgency(
        &self,
        policy: ReembedPolicy,
        now: Duration,
    ) -> Option<(u8, std::cmp::Reverse<Duration>)> {
        let mut evidence = self.evidence();
        let other = &self.evidence[usize::from(!self.is_masked())];
        // As long as it is not clear that a mask was put on or taken off, enough is known of the face.
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
                // The more has been seen, the less one more view can change.
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

    /// Takes notice of the log-odds of a mask, as the mean of observations that weigh so much.
    fn observe_mask(&mut self, log_odds: f32, weight: f32, now: Duration) {
        let age = now.saturating_sub(self.checked).as_secs_f32();
        let past = self.mask_weight * (-age / MASK_MEMORY.as_secs_f32()).exp();
        self.mask_weight = past + weight;
        self.mask = (self.mask * past + log_odds * weight) / self.mask_weight;
        self.checked = now;
    }

    /// Whether the embedding may be of the person of those before; if not, these are forgotten.
    fn add_embedding(&mut self, embedding: ArrayView1<f32>, now: Duration) -> bool {
        if let Some(old) = self.predecessor.take()
            && old.is_like(self.is_masked(), embedding, [SAME_FACE, SAME_FACE_ACROSS])
        {
            self.take_over(*old);
        }
        self.frames_ago = 0;
        self.embedded = now;
        self.scores.clear();
        let mut is_same = true;
        if self.is_like(self.is_masked(), embedding, [SAME_ID; 2]) {
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

    /// Goes on with what is known of the same person under another id.
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

    /// Whether an embedding, of a face with a mask or without, is one of the face that was seen before: by its least
    /// cosine with the same mask state, and across a mask.
    fn is_like(
        &self,
        is_masked: bool,
        embedding: ArrayView1<f32>,
        [least, across]: [f32; 2],
    ) -> bool {
        let cosine = |evidence: &Evidence, least: f32| {
            (evidence.count > 0).then(|| evidence.mean.dot(&embedding) >= least)
        };
        let index = usize::from(is_masked);
        cosine(&self.evidence[index], least)
            .or_else(|| cosine(&self.evidence[1 - index], across))
            .unwrap_or(true)
    }

    /// Compares what is known of the face with everybody.
    fn score(&mut self, gallery: &Gallery) {
        let masked = usize::from(self.is_masked());
        // Just changed: the face as it was before says more than nothing.
        let index = if self.evidence[masked].count > 0 {
            masked
        } else {
            1 - masked
        };
        if self.evidence[index].count == 0 {
            self.scores.clear();
        } else if self.scores.is_empty() || self.scored_masked != (index == 1) {
            self.scored_masked = index == 1;
            self.scores = gallery.scores(self.evidence[index].mean.view(), self.scored_masked);
        }
    }

    /// Whether the face may have a name, and by how much it goes before others; the threshold is as the user has set it
    /// if `is_given`.
    fn claim(&self, label: usize, score: f32, threshold: f32, is_given: bool) -> Option<f32> {
        let count = self.evidence[usize::from(self.scored_masked)].count;
        match self.name {
            Some(name) if name.label == label => {
                let hold = if name.is_confirmed { HYSTERESIS } else { 0.0 };
                // A mask was put on or taken off: until it is known how the face looks now, nothing speaks against the name.
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
        let best = self.scores.iter().copied().fold(0.0, f32::max);
        let similarity = label.map_or(best, |label| self.scores[label]);
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
