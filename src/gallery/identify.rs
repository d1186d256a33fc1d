//! Which person an embedding belongs to: the score of `score.rs` ranks, the gallery's threshold decides.

use std::collections::HashSet;

use ndarray::{ArrayView1, ArrayView2};

use super::{Gallery, Similarities};

/// Maximum number of candidates that are returned.
pub const MAX_CANDIDATES: usize = 5;

/// A person a face may belong to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Index into the gallery's names.
    pub label: usize,
    /// 0…1, higher is more certain.
    pub similarity: f32,
}

/// The result of identifying a face.
#[derive(Debug, Clone, PartialEq)]
pub struct Identification {
    /// Index into the gallery's names; None for unknown.
    pub label: Option<usize>,
    /// Similarity of the person named, or of the best candidate if unknown: 0…1, higher is more certain.
    /// This is compared with the threshold.
    pub similarity: f32,
    /// Probability, 0…1, that the answer (the name, or unknown) is right.
    pub confidence: f32,
    /// The [`MAX_CANDIDATES`] most similar people, best first, also for an unknown face.
    pub candidates: Vec<Candidate>,
}

impl Gallery {
    /// Identifies a face, with or without a mask. Below `threshold` (None: the gallery's own for such
    /// faces) it is unknown.
    pub fn identify(
        &self,
        embedding: ArrayView1<f32>,
        masked: bool,
        threshold: Option<f32>,
    ) -> Identification {
        let rows = embedding.insert_axis(ndarray::Axis(0));
        self.identify_frame(rows, &[masked], threshold)
            .pop()
            .unwrap_or_else(|| self.answer(None, masked, Vec::new()))
    }

    /// Identifies the faces of one frame, `[faces, D]`; `masked` states for each whether it wears a
    /// mask, and faces without an entry count as bare. A person is at most once in a frame: of two faces
    /// most similar to the same person the more similar one gets the name, the other its next candidate above
    /// the threshold, or none.
    pub fn identify_frame(
        &self,
        embeddings: ArrayView2<f32>,
        masked: &[bool],
        threshold: Option<f32>,
    ) -> Vec<Identification> {
        let is_masked = |face: usize| masked.get(face).copied().unwrap_or(false);
        let rows = embeddings.rows().into_iter().enumerate();
        let scores: Vec<Similarities> = rows
            .map(|(face, row)| self.similarities(row, is_masked(face), None))
            .collect();
        let mut pairs: Vec<(usize, usize, f32)> = scores
            .iter()
            .enumerate()
            .flat_map(|(face, scores)| {
                let own = self.thresholds[usize::from(is_masked(face))];
                let threshold = threshold.unwrap_or(own);
                let named = scores.iter().filter(move |&(_, s)| s >= threshold);
                named.map(move |(label, score)| (face, label, score))
            })
            .collect();
        pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
        let mut labels = vec![None; scores.len()];
        let mut taken = HashSet::new();
        for (face, label, _) in pairs {
            if labels[face].is_none() && taken.insert(label) {
                labels[face] = Some(label);
            }
        }
        labels
            .into_iter()
            .zip(&scores)
            .enumerate()
            .map(|(face, (label, scores))| self.answer(label, is_masked(face), candidates(scores)))
            .collect()
    }

    /// Similarity, 0…1, of a face, with or without a mask, to the people of the gallery: to everybody, or in a gallery without
    /// an SVM to the most similar people and `also`. People who have expired are left out.
    pub fn similarities(
        &self,
        embedding: ArrayView1<f32>,
        masked: bool,
        also: Option<usize>,
    ) -> Similarities {
        let all = self.scorer.similarities(embedding, masked, also);
        match self.expiry.is_due() {
            true => all.kept(|label| !self.expiry.has_expired(label)),
            false => all,
        }
    }

    /// Similarity, 0…1, of a face, with or without a mask, to every person, in the order of the names.
    pub fn scores(&self, embedding: ArrayView1<f32>, masked: bool) -> Vec<f32> {
        self.scorer.scores(embedding, masked)
    }

    /// Probability, 0…1, that a face with this similarity to a person is that person.
    pub fn probability(&self, masked: bool, similarity: f32) -> f32 {
        self.calibration[usize::from(masked)].probability(similarity)
    }

    fn answer(
        &self,
        label: Option<usize>,
        masked: bool,
        candidates: Vec<Candidate>,
    ) -> Identification {
        let own = candidates.iter().find(|c| Some(c.label) == label);
        let similarity = own.or(candidates.first()).map_or(0.0, |c| c.similarity);
        let probability = self.probability(masked, similarity);
        Identification {
            label,
            similarity,
            confidence: if label.is_some() {
                probability
            } else {
                1.0 - probability
            },
            candidates,
        }
    }
}

fn candidates(scores: &Similarities) -> Vec<Candidate> {
    let mut candidates: Vec<_> = scores
        .iter()
        .map(|(label, similarity)| Candidate { label, similarity })
        .collect();
    let better = |a: &Candidate, b: &Candidate| b.similarity.total_cmp(&a.similarity);
    if candidates.len() > MAX_CANDIDATES {
        candidates.select_nth_unstable_by(MAX_CANDIDATES, better);
        candidates.truncate(MAX_CANDIDATES);
    }
    candidates.sort_by(better);
    candidates
}
