//! How similar a face is to each person of a gallery: the single score by which candidates are ranked
//! and compared with the threshold.
//!
//! Bare faces are compared with bare photos of a person, masked ones with masked photos or copies.
//! The score is the sum of three terms with different information:
//!
//! - the evidence: the likelihood ratio of the face being this person rather than anyone, by the
//!   PLDA model of [`Statistics`]. It models how much faces differ in general, the mask included, and
//!   so rejects strangers even where a gallery holds a single person;
//! - the cosine to the mean of the person;
//! - the decision value of the SVM, which depends on the other people of the gallery. Large galleries do without.
//!
//! `docs/accuracy.md` states what each term contributes, and the weights.

mod fused;
mod index;
mod large;

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::{Kind, Statistics};
use crate::gallery::svm::LinearSvm;
use fused::FusedScorer;
pub use large::LargeScorer;

/// Weights of the three terms, and the midpoint and slope of the logistic function that maps their sum to 0…1. On LFW
/// with 150 people strangers then score about .17 bare and .12 masked on average, people of the gallery .87 and .75.
struct Weights {
    /// Natural logarithm of the likelihood ratio.
    evidence: f32,
    cosine: f32,
    margin: f32,
    middle: f32,
    slope: f32,
}

/// Photos of a person beyond which the evidence does not get stronger: photos are alike, and a person with
/// fifty should have no advantage over one with this many.
const MOST_PHOTOS: usize = 5;

/// The model that a gallery scores faces with.
#[derive(Debug, Clone, PartialEq)]
pub enum Scorer {
    /// With an SVM; every person is compared with.
    Fused(Box<FusedScorer>),
    /// Without one; the people who may be most similar are found first.
    Large(Box<LargeScorer>),
}

/// Embeddings of known people, of unit length (`[N, D]`), and for each the index of the person, below
/// `people`, and the kind of image that it was made from.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    pub embeddings: ArrayView2<'a, f32>,
    pub labels: &'a [usize],
    pub kinds: &'a [Kind],
    pub people: usize,
}

/// Similarities of a face to people of a gallery, 0…1: to everybody, or to the most similar people of a gallery
/// without an SVM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Similarities {
    /// Indices into the gallery's names, in rising order; None for everybody.
    labels: Option<Vec<u32>>,
    scores: Vec<f32>,
}

impl Similarities {
    /// People and their similarities, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        let scores = self.scores.iter().copied().enumerate();
        scores.map(|(place, score)| match &self.labels {
            Some(labels) => (labels[place] as usize, score),
            None => (place, score),
        })
    }

    /// The similarity to a person; None if that is not known, because others are more similar.
    pub fn get(&self, label: usize) -> Option<f32> {
        let place = match &self.labels {
            Some(labels) => labels.binary_search(&u32::try_from(label).ok()?).ok()?,
            None => label,
        };
        self.scores.get(place).copied()
    }

    /// The highest similarity; 0 if there is none.
    pub fn best(&self) -> f32 {
        self.scores.iter().copied().fold(0.0, f32::max)
    }

    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those to the people for whom `is_kept` holds.
    pub(super) fn kept(&self, is_kept: impl Fn(usize) -> bool) -> Self {
        let kept = self.iter().filter(|&(label, _)| is_kept(label));
        let (labels, scores) = kept.map(|(label, score)| (label as u32, score)).unzip();
        Self {
            labels: Some(labels),
            scores,
        }
    }
}

impl Scorer {
    /// The scorer with an SVM.
    pub fn fused(samples: Samples, svm: LinearSvm, statistics: Option<&Statistics>) -> Self {
        Self::Fused(Box::new(FusedScorer::new(samples, svm, statistics)))
    }

    /// The scorer without an SVM, of the people whose embeddings, `[N, D]`, these are.
    pub fn large(
        embeddings: Arc<Array2<f32>>,
        labels: &[usize],
        kinds: &[Kind],
        people: usize,
        statistics: Option<&Statistics>,
    ) -> Self {
        let scorer = LargeScorer::new(embeddings, labels, kinds, people, statistics);
        Self::Large(Box::new(scorer))
    }

    pub fn svm(&self) -> Option<&LinearSvm> {
        match self {
            Self::Fused(scorer) => Some(scorer.svm()),
            Self::Large(_) => None,
        }
    }

    pub fn statistics(&self) -> Option<&Statistics> {
        match self {
            Self::Fused(scorer) => scorer.statistics(),
            Self::Large(scorer) => scorer.statistics(),
        }
    }

    /// Number of people.
    pub fn people(&self) -> usize {
        match self {
            Self::Fused(scorer) => scorer.svm().bias.len(),
            Self::Large(scorer) => scorer.people(),
        }
    }

    /// The score of every person, 0…1; all are 0 for an embedding of another size or one without
    /// direction.
    pub fn scores(&self, embedding: ArrayView1<f32>, masked: bool) -> Vec<f32> {
        match self {
            Self::Fused(scorer) => scorer.scores(embedding, masked),
            Self::Large(scorer) => scorer.scores(embedding, masked),
        }
    }

    /// The scores of everybody, or of the most similar people and of `also`.
    pub fn similarities(
        &self,
        embedding: ArrayView1<f32>,
        masked: bool,
        also: Option<usize>,
    ) -> Similarities {
        match self {
            Self::Fused(scorer) => Similarities {
                labels: None,
                scores: scorer.scores(embedding, masked),
            },
            Self::Large(scorer) => {
                let mut nearest = scorer.nearest(embedding, masked, also);
                nearest.sort_unstable_by_key(|(_, label)| *label);
                let (scores, labels) = nearest.into_iter().unzip();
                Similarities {
                    labels: Some(labels),
                    scores,
                }
            }
        }
    }

    /// The most similar person and the score for each of many embeddings, `[N, D]`; computed
    /// together and on all cores, which takes far less time than one by one.
    pub fn best(&self, embeddings: ArrayView2<f32>, masked: bool) -> Vec<Option<(usize, f32)>> {
        match self {
            Self::Fused(scorer) => scorer.best(embeddings, masked),
            Self::Large(scorer) => {
                let best = scorer.best_sums(embeddings, masked).into_iter();
                best.map(|best| {
                    let mut sums: Vec<f32> = best.iter().map(|(_, sum)| *sum).collect();
                    let (person, _) = *best.first()?;
                    Some((person, scorer.first_score(masked, &mut sums)))
                })
                .collect()
            }
        }
    }

    /// Natural logarithm of the likelihood ratio of every person; None without statistics.
    #[cfg(test)]
    pub fn evidence(&self, embedding: ArrayView1<f32>, masked: bool) -> Option<Array1<f32>> {
        match self {
            Self::Fused(scorer) => scorer.evidence(embedding, masked),
            Self::Large(_) => None,
        }
    }
}

impl Weights {
    fn score(&self, sum: f32) -> f32 {
        1.0 / (1.0 + (-self.slope * (sum - self.middle)).exp())
    }
}

fn sound(score: f32) -> f32 {
    if score.is_finite() {
        score.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// Whether an embedding has a direction.
fn is_usable(embedding: ArrayView1<f32>) -> bool {
    embedding.iter().all(|v| v.is_finite()) && embedding.dot(&embedding) > 0.0
}

/// The mean of each person's embeddings.
struct Means {
    /// `[K, D]`, zero for a person without embeddings.
    values: Array2<f32>,
    counts: Vec<usize>,
}

impl Means {
    /// The means over the masked embeddings, the bare ones, or all, each transformed by `map` first.
    fn of(
        samples: Samples,
        masked: Option<bool>,
        map: impl Fn(ArrayView1<f32>, Kind) -> Array1<f32>,
    ) -> Self {
        let mut values = Array2::zeros((samples.people, samples.embeddings.ncols()));
        let mut counts = vec![0; samples.people];
        let rows = samples.embeddings.rows().into_iter();
        for ((row, &label), &kind) in rows.zip(samples.labels).zip(samples.kinds) {
            if masked.is_none_or(|masked| masked == kind.is_masked()) {
                let mut mean = values.row_mut(label);
                mean += &map(row, kind);
                counts[label] += 1;
            }
        }
        for (mut row, &count) in values.rows_mut().into_iter().zip(&counts) {
            row /= count.max(1) as f32;
        }
        Self { values, counts }
    }

    /// These means, with another's where a person has none.
    fn or(&self, other: &Self) -> Self {
        let mut values = self.values.clone();
        for (k, mut row) in values.rows_mut().into_iter().enumerate() {
            if self.counts[k] == 0 {
                row.assign(&other.values.row(k));
            }
        }
        Self {
            values,
            counts: self.counts.clone(),
        }
    }
}

fn scale_to_unit(mut row: ndarray::ArrayViewMut1<f32>) {
    let length = row.dot(&row).sqrt();
    if length > 0.0 {
        row /= length;
    }
}
