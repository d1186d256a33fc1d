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
//! - the decision value of the SVM, which depends on the other people of the gallery.
//!
//! `docs/accuracy.md` states what each term contributes, and the weights.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::{Kind, Statistics};
use crate::gallery::svm::LinearSvm;

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

/// Weights for bare and for masked faces. The evidence of masked faces weighs less, because its model of how a mask
/// changes a face was estimated from synthetic masks.
const WEIGHTS: [Weights; 2] = [
    Weights {
        evidence: 0.007,
        cosine: 0.3,
        margin: 0.12,
        middle: 0.2,
        slope: 6.0,
    },
    Weights {
        evidence: 0.002,
        cosine: 0.3,
        margin: 0.12,
        middle: 0.23,
        slope: 12.0,
    },
];

/// Weight of the decision value relative to the cosine, for galleries without statistics.
const PLAIN_MARGIN_WEIGHT: f32 = 0.3;

/// Embeddings that are compared with every person in one matrix product, few enough that its result stays
/// in the cache for a few thousand people.
const TILE: usize = 64;

/// Photos of a person beyond which the evidence does not get stronger: photos are alike, and a person with
/// fifty should have no advantage over one with this many.
const MOST_PHOTOS: usize = 5;

/// The model that a gallery scores faces with.
#[derive(Debug, Clone, PartialEq)]
pub struct Scorer {
    svm: LinearSvm,
    /// `[K, D]`: means of the bare and of the masked embeddings of each person, of unit length.
    means: [Array2<f32>; 2],
    method: Method,
}

#[derive(Debug, Clone, PartialEq)]
enum Method {
    Evidence(Box<Evidence>),
    /// Without statistics: mean of all embeddings of each person, not scaled to unit length. The mean is shorter
    /// where a person's photos differ much, which is also where a stranger may come near.
    Plain {
        means: Array2<f32>,
    },
}

/// The logarithm of the likelihood ratio is `x²·quadratic[n] + x·linear[k] + constant[k]` with the
/// projected embedding x, its squares x², and the number n of photos of person k.
#[derive(Debug, Clone, PartialEq)]
struct Evidence {
    statistics: Statistics,
    /// `[MOST_PHOTOS, R]`, indexed by n − 1.
    quadratic: Array2<f32>,
    /// Row of `quadratic` of each person.
    photos: Vec<usize>,
    bare: Linear,
    masked: Linear,
}

#[derive(Debug, Clone, PartialEq)]
struct Linear {
    /// `[K, R]`
    weights: Array2<f32>,
    /// `[K]`
    constants: Array1<f32>,
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

impl Scorer {
    pub fn new(samples: Samples, svm: LinearSvm, statistics: Option<&Statistics>) -> Self {
        let bare = Means::of(samples, Some(false), |e, _| e.to_owned());
        let masked = Means::of(samples, Some(true), |e, _| e.to_owned());
        let all = Means::of(samples, None, |e, _| e.to_owned());
        let unit = |means: &Means| {
            let mut values = means.values.clone();
            values.rows_mut().into_iter().for_each(scale_to_unit);
            values
        };
        let method = match statistics {
            Some(statistics) => Method::Evidence(Box::new(Evidence::new(samples, statistics))),
            None => Method::Plain {
                means: all.values.clone(),
            },
        };
        Self {
            means: [unit(&bare.or(&masked)), unit(&masked.or(&bare))],
            svm,
            method,
        }
    }

    pub fn svm(&self) -> &LinearSvm {
        &self.svm
    }

    pub fn statistics(&self) -> Option<&Statistics> {
        match &self.method {
            Method::Evidence(evidence) => Some(&evidence.statistics),
            Method::Plain { .. } => None,
        }
    }

    /// Natural logarithm of the likelihood ratio of every person; None without statistics.
    #[cfg(test)]
    pub fn evidence(&self, embedding: ArrayView1<f32>, masked: bool) -> Option<Array1<f32>> {
        match &self.method {
            Method::Evidence(evidence) => Some(evidence.ratios(embedding, masked)),
            Method::Plain { .. } => None,
        }
    }

    /// The score of every person, 0…1; all are 0 for an embedding of another size or one without
    /// direction.
    pub fn scores(&self, embedding: ArrayView1<f32>, masked: bool) -> Vec<f32> {
        let usable = embedding.iter().all(|v| v.is_finite()) && embedding.dot(&embedding) > 0.0;
        let Some(margins) = self.svm.decide(embedding).filter(|_| usable) else {
            return vec![0.0; self.svm.bias.len()];
        };
        let scores: Array1<f32> = match &self.method {
            Method::Evidence(evidence) => {
                let weights = &WEIGHTS[usize::from(masked)];
                let cosines = self.means[usize::from(masked)].dot(&embedding);
                let sum = evidence.ratios(embedding, masked) * weights.evidence
                    + cosines * weights.cosine
                    + margins * weights.margin;
                sum.mapv(|sum| weights.score(sum))
            }
            Method::Plain { means } => {
                let lengths = means.map_axis(Axis(1), |mean| mean.dot(&mean).sqrt());
                (means.dot(&embedding) + lengths * margins * PLAIN_MARGIN_WEIGHT)
                    / (1.0 + PLAIN_MARGIN_WEIGHT)
            }
        };
        scores.into_iter().map(sound).collect()
    }

    /// The most similar person and the score for each of many embeddings, `[N, D]`; computed
    /// together and on all cores, which takes far less time than one by one.
    pub fn best(&self, embeddings: ArrayView2<f32>, masked: bool) -> Vec<Option<(usize, f32)>> {
        let rows = embeddings.nrows();
        let tile = |tile: usize| {
            let end = rows.min((tile + 1) * TILE);
            self.best_of_tile(embeddings.slice(s![tile * TILE..end, ..]), masked)
        };
        let tiles = (0..rows.div_ceil(TILE)).into_par_iter();
        tiles.flat_map_iter(tile).collect()
    }

    fn best_of_tile(&self, tile: ArrayView2<f32>, masked: bool) -> Vec<Option<(usize, f32)>> {
        let largest = |values: ArrayView1<f32>| {
            let values = values.into_iter().copied().enumerate();
            values.max_by(|(_, a), (_, b)| a.total_cmp(b))
        };
        let Method::Evidence(evidence) = &self.method else {
            let rows = tile.rows().into_iter();
            return rows
                .map(|row| largest(ArrayView1::from(&self.scores(row, masked))))
                .collect();
        };
        let weights = &WEIGHTS[usize::from(masked)];
        let mut sums = evidence.ratios_of(tile, masked);
        sums *= weights.evidence;
        sums.scaled_add(
            weights.cosine,
            &tile.dot(&self.means[usize::from(masked)].t()),
        );
        let margins = tile.dot(&self.svm.weights.t()) + &self.svm.bias;
        sums.scaled_add(weights.margin, &margins);
        // The score is a monotonic function of the sum.
        let best = sums.rows().into_iter().map(largest);
        best.map(|best| best.map(|(person, sum)| (person, sound(weights.score(sum)))))
            .collect()
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

impl Evidence {
    fn new(samples: Samples, statistics: &Statistics) -> Self {
        let centred = |e: ArrayView1<f32>, kind: Kind| statistics.centred(e, kind.is_masked());
        let bare = Means::of(samples, Some(false), centred);
        let masked = Means::of(samples, Some(true), centred);
        let photos: Vec<usize> = bare
            .counts
            .iter()
            .zip(&masked.counts)
            .map(|(&bare, &masked)| if bare > 0 { bare } else { masked }.clamp(1, MOST_PHOTOS) - 1)
            .collect();
        let between = &statistics.between;
        // Variance of a new image of a person with n known ones, and of a new image of anyone.
        let known = |n: usize| between / (between * n as f32 + 1.0) + 1.0;
        let anybody = between + 1.0;
        let mut quadratic = Array2::zeros((MOST_PHOTOS, statistics.rank()));
        for (n, mut row) in (1..).zip(quadratic.rows_mut()) {
            row.assign(&((1.0 / &anybody - 1.0 / known(n)) * 0.5));
        }
        let linear = |means: &Means| {
            let mut weights = means.values.dot(&statistics.projection);
            let mut constants = Array1::zeros(samples.people);
            let people = weights.rows_mut().into_iter().zip(&mut constants);
            for ((mut row, constant), &photos) in people.zip(&photos) {
                let n = photos + 1;
                let variance = known(n);
                // Posterior mean of the person given n images.
                let person = &row * between / (between + 1.0 / n as f32);
                row.assign(&(&person / &variance));
                *constant = -0.5 * person.dot(&row) + 0.5 * (&anybody / &variance).ln().sum();
            }
            Linear { weights, constants }
        };
        Self {
            bare: linear(&bare.or(&masked)),
            masked: linear(&masked.or(&bare)),
            statistics: statistics.clone(),
            quadratic,
            photos,
        }
    }

    /// Natural logarithm of the likelihood ratio of every person.
    fn ratios(&self, embedding: ArrayView1<f32>, masked: bool) -> Array1<f32> {
        let centred = self.statistics.centred(embedding, masked);
        let x = self.statistics.project(centred.view());
        let squares = self.quadratic.dot(&(&x * &x));
        let linear = if masked { &self.masked } else { &self.bare };
        let mut ratios = linear.weights.dot(&x) + &linear.constants;
        for (ratio, &photos) in ratios.iter_mut().zip(&self.photos) {
            *ratio += squares[photos];
        }
        ratios
    }

    /// The ratios of many embeddings, `[N, K]`.
    fn ratios_of(&self, embeddings: ArrayView2<f32>, masked: bool) -> Array2<f32> {
        let mut centred = embeddings.to_owned();
        for (mut to, row) in centred.rows_mut().into_iter().zip(embeddings.rows()) {
            to.assign(&self.statistics.centred(row, masked));
        }
        let x = centred.dot(&self.statistics.projection);
        let squares = (&x * &x).dot(&self.quadratic.t());
        let linear = if masked { &self.masked } else { &self.bare };
        let mut ratios = x.dot(&linear.weights.t()) + &linear.constants;
        for (mut row, squares) in ratios.rows_mut().into_iter().zip(squares.rows()) {
            for (ratio, &photos) in row.iter_mut().zip(&self.photos) {
                *ratio += squares[photos];
            }
        }
        ratios
    }
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
