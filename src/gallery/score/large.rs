//! The score of galleries without an SVM, in two steps: an [`Index`] finds the people who may be most similar, and these
//! are compared exactly, by their embeddings. Nothing depends on who else is in the gallery.
//!
//! Embeddings lie in the R dimensions of [`Statistics`] but for very little, so that the cosine is a linear function of the
//! projected face just as the evidence is: the index has the sum of both.

use std::borrow::Cow;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use pulp::Simd;
use rayon::prelude::*;

use super::index::{CLASSES, Index, Query};
use super::{MOST_PHOTOS, is_usable, sound};
use crate::gallery::{Kind, Statistics, strangers};
use crate::nn::Isa;
use crate::nn::simd::{Kernel, Level};

/// How the two terms are weighed, for bare and for masked faces. Among thousands of people the evidence weighs less than in
/// small galleries. Part of what an SVM gives is that somebody must be more similar than everybody else: here, for bare faces, the
/// mean of those who come next is subtracted. docs/galleries.md states the measurement.
struct LargeWeights {
    /// Natural logarithm of the likelihood ratio.
    evidence: f32,
    cosine: f32,
    /// Share of the mean of the [`NEXT`] people after the most similar one.
    next: f32,
    middle: f32,
    slope: f32,
}

const WEIGHTS: [LargeWeights; 2] = [
    LargeWeights {
        evidence: 0.0005,
        cosine: 0.3,
        next: 0.4,
        middle: 0.155,
        slope: 40.0,
    },
    LargeWeights {
        evidence: 0.0005,
        cosine: 0.3,
        next: 0.0,
        middle: 0.21,
        slope: 40.0,
    },
];

/// People after the most similar one whose mean is subtracted.
const NEXT: usize = 10;

/// What those score on average whom a gallery of few people lacks.
const USUAL_NEXT: f32 = 0.15;

/// People who are compared exactly with a face: one of so many, within these bounds. The first candidate is among the first ten
/// of the index nearly always; more of them count where faces of one picture compete for names.
const ONE_OF: usize = 150;
const FEWEST_CANDIDATES: usize = 64;
const MOST_CANDIDATES: usize = 128;

/// The same where just the best of them is asked for.
const CANDIDATES_OF_MANY: usize = 32;

/// Faces, or people, that are dealt with at once.
const TILE: usize = 64;

// Each number of photos is a class of the index.
const _: () = assert!(MOST_PHOTOS == CLASSES);

#[derive(Debug, Clone, PartialEq)]
pub struct LargeScorer {
    /// `[N, D]`
    embeddings: Arc<Array2<f32>>,
    rows: Rows,
    /// None without statistics: the score is the cosine to the mean of all embeddings of a person, times its length.
    evidence: Option<Box<Evidence>>,
    /// Of bare and of masked faces; without statistics just one, of all.
    sides: Vec<Side>,
}

/// The embeddings of each person, the bare ones first.
#[derive(Debug, Clone, PartialEq)]
struct Rows {
    order: Vec<u32>,
    /// `[K + 1]`, where a person's begin.
    starts: Vec<u32>,
    /// `[K]`, where those with a mask begin.
    masked: Vec<u32>,
}

/// The parts of the evidence that both sides share. Its logarithm is `x²·quadratic[n] + x·(gain[n]·mean) + constant[k]` with
/// the projected face x, and the projected mean and the number n of photos of person k.
#[derive(Debug, Clone, PartialEq)]
struct Evidence {
    statistics: Statistics,
    /// `[R, D]`, the projection by rows, which products need.
    transposed: Array2<f32>,
    /// Which numbers of photos, less one, people have, or may have without some of their photos.
    present: [bool; MOST_PHOTOS],
    /// `[MOST_PHOTOS, R]`, indexed by n − 1.
    quadratic: Array2<f32>,
    gain: Array2<f32>,
    /// `[MOST_PHOTOS]`, half the logarithm of the ratio of both variances.
    ratio: [f32; MOST_PHOTOS],
    /// n − 1 of each person.
    photos: Vec<u8>,
    /// For each embedding 1 divided by the length that it has without the mean of bare or of masked faces.
    lengths: Vec<f32>,
}

/// What faces of one kind, bare or masked, are compared with.
#[derive(Debug, Clone, PartialEq)]
struct Side {
    index: Index,
    /// `[K]`, the constants of the evidence.
    constants: Vec<f32>,
    /// `[K]`, 1 divided by the length of the sum of a person's embeddings.
    norms: Vec<f32>,
}

/// A face that is compared.
struct Face<'a> {
    embedding: Cow<'a, [f32]>,
    is_masked: bool,
    query: Query,
    /// For each number of photos `x²·quadratic[n]`.
    squares: [f32; MOST_PHOTOS],
    /// `[MOST_PHOTOS, D]`, rows that give `x·gain[n]·mean` as products with the mean before it is projected.
    directions: Vec<f32>,
    /// Products of these with the means of bare and of masked faces.
    centres: [[f32; 2]; MOST_PHOTOS],
}

impl Rows {
    fn of(labels: &[usize], kinds: &[Kind], people: usize) -> Self {
        let mut starts = vec![0u32; people + 1];
        let mut bare = vec![0u32; people];
        for (&label, kind) in labels.iter().zip(kinds) {
            starts[label + 1] += 1;
            bare[label] += u32::from(!kind.is_masked());
        }
        for k in 0..people {
            starts[k + 1] += starts[k];
        }
        let masked: Vec<u32> = starts
            .iter()
            .zip(&bare)
            .map(|(start, n)| start + n)
            .collect();
        let mut next = [starts[..people].to_vec(), masked.clone()];
        let mut order = vec![0; labels.len()];
        for (row, (&label, kind)) in labels.iter().zip(kinds).enumerate() {
            let place = &mut next[usize::from(kind.is_masked())][label];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        Self {
            order,
            starts,
            masked,
        }
    }

    fn all(&self, person: usize) -> &[u32] {
        &self.order[self.starts[person] as usize..self.starts[person + 1] as usize]
    }

    /// The bare and the masked ones.
    fn split(&self, person: usize) -> (&[u32], &[u32]) {
        let bare = self.masked[person] - self.starts[person];
        self.all(person).split_at(bare as usize)
    }

    /// Those with which masked, or bare, faces are compared.
    fn side(&self, person: usize, masked: bool) -> &[u32] {
        let (bare, covered) = self.split(person);
        side(bare, covered, masked)
    }
}

/// Masked faces are compared with masked ones, bare ones with bare ones, unless there are none.
fn side<'a>(bare: &'a [u32], covered: &'a [u32], masked: bool) -> &'a [u32] {
    let (first, second) = if masked {
        (covered, bare)
    } else {
        (bare, covered)
    };
    if first.is_empty() { second } else { first }
}

/// The number of photos that the evidence counts, less one.
fn photos(bare: usize, masked: usize) -> u8 {
    let count = if bare > 0 { bare } else { masked };
    (count.clamp(1, MOST_PHOTOS) - 1) as u8
}

/// The numbers of photos up to the largest one of these.
fn present(photos: &[u8]) -> [bool; MOST_PHOTOS] {
    let most = photos.iter().copied().max().unwrap_or(0);
    std::array::from_fn(|n| n <= usize::from(most))
}

impl LargeScorer {
    pub fn new(
        embeddings: Arc<Array2<f32>>,
        labels: &[usize],
        kinds: &[Kind],
        people: usize,
        statistics: Option<&Statistics>,
    ) -> Self {
        let rows = Rows::of(labels, kinds, people);
        // The arrays of a file may be stored by columns.
        let embeddings = match embeddings.is_standard_layout() {
            true => embeddings,
            false => Arc::new(embeddings.as_standard_layout().into_owned()),
        };
        let Some(statistics) = statistics else {
            let index = plain_index(&embeddings, &rows, people);
            return Self {
                sides: vec![Side {
                    index,
                    constants: Vec::new(),
                    norms: Vec::new(),
                }],
                embeddings,
                rows,
                evidence: None,
            };
        };
        let evidence = Evidence::new(&embeddings, kinds, &rows, people, statistics);
        let sides = [false, true].map(|masked| evidence.side(&embeddings, &rows, masked));
        Self {
            embeddings,
            rows,
            evidence: Some(Box::new(evidence)),
            sides: sides.into(),
        }
    }

    pub fn statistics(&self) -> Option<&Statistics> {
        self.evidence.as_ref().map(|evidence| &evidence.statistics)
    }

    pub fn people(&self) -> usize {
        self.rows.masked.len()
    }

    /// The score of every person; see [`super::Scorer::scores`].
    pub fn scores(&self, embedding: ArrayView1<f32>, masked: bool) -> Vec<f32> {
        match self.face(embedding, masked) {
            None => vec![0.0; self.people()],
            Some(face) => {
                let people = 0..self.people();
                let mut scores: Vec<f32> = people.map(|person| self.sum(&face, person)).collect();
                let mut best = scores.clone();
                if best.len() > NEXT + 1 {
                    best.select_nth_unstable_by(NEXT, |a, b| b.total_cmp(a));
                    best.truncate(NEXT + 1);
                }
                let next = self.next(&mut best);
                for score in &mut scores {
                    *score = self.score(masked, *score, next);
                }
                scores
            }
        }
    }

    /// The scores of the most similar people, and of `also`, in no order.
    pub fn nearest(
        &self,
        embedding: ArrayView1<f32>,
        masked: bool,
        also: Option<usize>,
    ) -> Vec<(f32, u32)> {
        let count = (self.people() / ONE_OF).clamp(FEWEST_CANDIDATES, MOST_CANDIDATES);
        let face = self.face(embedding, masked);
        let mut found = match &face {
            Some(face) => self.side(masked).index.nearest(&face.query, count),
            // Everybody is as unlike as the first ones.
            None => (0..self.people().min(count))
                .map(|person| (0.0, person as u32))
                .collect(),
        };
        let also = also
            .filter(|&also| also < self.people())
            .map(|also| also as u32);
        if let Some(also) = also
            && !found.iter().any(|(_, person)| *person == also)
        {
            found.push((0.0, also));
        }
        if let Some(face) = &face {
            for (score, person) in &mut found {
                *score = self.sum(face, *person as usize);
            }
            let next = self.next(&mut found.iter().map(|(score, _)| *score).collect::<Vec<_>>());
            for (score, _) in &mut found {
                *score = self.score(masked, *score, next);
            }
        }
        found
    }

    /// The mean of those who come after the first one of these sums, in any order.
    fn next(&self, sums: &mut [f32]) -> f32 {
        sums.sort_unstable_by(|a, b| b.total_cmp(a));
        let next = sums.iter().skip(1).take(NEXT);
        let missing = NEXT - next.len();
        (next.sum::<f32>() + missing as f32 * USUAL_NEXT) / NEXT as f32
    }

    /// The score, 0…1, of a weighted sum.
    fn score(&self, masked: bool, sum: f32, next: f32) -> f32 {
        if self.evidence.is_none() {
            return sound(sum);
        }
        let weights = &WEIGHTS[usize::from(masked)];
        let sum = sum - weights.next * next;
        sound(1.0 / (1.0 + (-weights.slope * (sum - weights.middle)).exp()))
    }

    /// The score of the first of these weighted sums, in falling order, given the others.
    pub fn first_score(&self, masked: bool, sums: &mut [f32]) -> f32 {
        let next = self.next(sums);
        sums.first()
            .map_or(0.0, |&sum| self.score(masked, sum, next))
    }

    /// The [`NEXT`] + 2 most similar people, best first, and their weighted sums, for each of many embeddings; none for an
    /// embedding that is not usable.
    pub fn best_sums(&self, embeddings: ArrayView2<f32>, masked: bool) -> Vec<Vec<(usize, f32)>> {
        let tile = |tile: usize| {
            let end = embeddings.nrows().min((tile + 1) * TILE);
            let tile = embeddings.slice(s![tile * TILE..end, ..]);
            let faces: Vec<Option<Face>> = tile
                .rows()
                .into_iter()
                .map(|row| self.face(row, masked))
                .collect();
            let queries: Vec<Query> = faces.iter().flatten().map(|f| f.query.clone()).collect();
            let index = &self.side(masked).index;
            let mut found = index
                .nearest_of_many(&queries, CANDIDATES_OF_MANY)
                .into_iter();
            let best = |face: &Option<Face>| {
                let Some(face) = face else {
                    return Vec::new();
                };
                let people = found.next().unwrap_or_default().into_iter();
                let mut sums: Vec<(usize, f32)> = people
                    .map(|(_, person)| (person as usize, self.sum(face, person as usize)))
                    .collect();
                sums.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                sums.truncate(NEXT + 2);
                sums
            };
            faces.iter().map(best).collect::<Vec<_>>()
        };
        let tiles = (0..embeddings.nrows().div_ceil(TILE)).into_par_iter();
        tiles.flat_map_iter(tile).collect()
    }

    /// The weighted sum of a face with a person who has just these embeddings, rows of the gallery.
    pub fn sum_with(&self, embedding: ArrayView1<f32>, masked: bool, rows: &[u32]) -> f32 {
        let Some(face) = self.face(embedding, masked) else {
            return 0.0;
        };
        let Some(evidence) = &self.evidence else {
            return self.plain_sum(&face, rows);
        };
        let is_bare = |row: &u32| evidence.is_bare(*row);
        let (bare, covered): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| is_bare(row));
        // Nobody counts as having more photos than somebody of the gallery has.
        let most = evidence.present.iter().filter(|present| **present).count();
        let photos = usize::from(photos(bare.len(), covered.len())).min(most.max(1) - 1);
        let rows = side(&bare, &covered, masked);
        let mean = evidence.mean(&self.embeddings, rows);
        let projected = evidence.project(mean.view());
        let constant = evidence.constant(projected.view(), photos);
        let sum = sum_of(&self.embeddings, rows);
        let norm = inverse(sum.dot(&sum).sqrt());
        self.weighted(&face, rows, photos, constant, norm)
    }

    fn side(&self, masked: bool) -> &Side {
        &self.sides[usize::from(masked).min(self.sides.len() - 1)]
    }

    /// None for an embedding of another size or without direction.
    fn face<'a>(&self, embedding: ArrayView1<'a, f32>, masked: bool) -> Option<Face<'a>> {
        if embedding.len() != self.embeddings.ncols() || !is_usable(embedding) {
            return None;
        }
        let values = match embedding.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(embedding.to_vec()),
        };
        let index = &self.side(masked).index;
        Some(match &self.evidence {
            Some(evidence) => evidence.face(values, masked, index),
            None => Face {
                is_masked: masked,
                query: index.query(&values, [0.0; CLASSES]),
                embedding: values,
                squares: [0.0; MOST_PHOTOS],
                directions: Vec::new(),
                centres: [[0.0; 2]; MOST_PHOTOS],
            },
        })
    }

    /// The weighted sum of a face with a person.
    fn sum(&self, face: &Face, person: usize) -> f32 {
        let Some(evidence) = &self.evidence else {
            return self.plain_sum(face, self.rows.all(person));
        };
        let side = self.side(face.is_masked);
        let rows = self.rows.side(person, face.is_masked);
        let photos = usize::from(evidence.photos[person]);
        self.weighted(
            face,
            rows,
            photos,
            side.constants[person],
            side.norms[person],
        )
    }

    /// The weighted sum of a face with a person who has these rows on its side.
    fn weighted(&self, face: &Face, rows: &[u32], photos: usize, constant: f32, norm: f32) -> f32 {
        let Some(evidence) = &self.evidence else {
            return 0.0;
        };
        let dim = face.embedding.len();
        let direction = &face.directions[photos * dim..][..dim];
        let (mut linear, mut cosine) = (0.0, 0.0);
        for &row in rows {
            let values = self.embeddings.row(row as usize);
            let values = values.to_slice().unwrap_or_default();
            let [along, own] = products(values, direction, &face.embedding);
            let centre = face.centres[photos][usize::from(!evidence.is_bare(row))];
            linear += (along - centre) * evidence.lengths[row as usize].abs();
            cosine += own;
        }
        let weights = &WEIGHTS[usize::from(face.is_masked)];
        let ratio = linear / rows.len().max(1) as f32 + constant + face.squares[photos];
        weights.evidence * ratio + weights.cosine * cosine * norm
    }

    /// Without statistics: the product with the mean of the person's embeddings.
    fn plain_sum(&self, face: &Face, rows: &[u32]) -> f32 {
        let products = rows.iter().map(|&row| {
            let values = self.embeddings.row(row as usize);
            let values = values.to_slice().unwrap_or_default();
            products(values, &face.embedding, &[])[0]
        });
        products.sum::<f32>() / rows.len().max(1) as f32
    }

    /// The embeddings of a person, rows of the gallery.
    pub fn rows(&self, person: usize) -> &[u32] {
        self.rows.all(person)
    }
}

fn inverse(length: f32) -> f32 {
    if length > 0.0 { 1.0 / length } else { 0.0 }
}

fn sum_of(embeddings: &Array2<f32>, rows: &[u32]) -> Array1<f32> {
    let mut sum = Array1::zeros(embeddings.ncols());
    rows.iter()
        .for_each(|&row| sum += &embeddings.row(row as usize));
    sum
}

/// The index of means of all embeddings of each person.
fn plain_index(embeddings: &Array2<f32>, rows: &Rows, people: usize) -> Index {
    let mut means = Vec::with_capacity(people * embeddings.ncols());
    for person in 0..people {
        let rows = rows.all(person);
        means.extend(sum_of(embeddings, rows) / rows.len().max(1) as f32);
    }
    let dim = embeddings.ncols();
    Index::new(&means, dim, &vec![0.0; people], &vec![0; people])
}

impl Evidence {
    fn new(
        embeddings: &Array2<f32>,
        kinds: &[Kind],
        rows: &Rows,
        people: usize,
        statistics: &Statistics,
    ) -> Self {
        let between = &statistics.between;
        // Variance of a new image of a person with n known ones, and of a new image of anyone.
        let known = |n: usize| between / (between * n as f32 + 1.0) + 1.0;
        let anybody = between + 1.0;
        let shape = (MOST_PHOTOS, statistics.rank());
        let (mut quadratic, mut gain) = (Array2::zeros(shape), Array2::zeros(shape));
        let mut ratio = [0.0; MOST_PHOTOS];
        for n in 1..=MOST_PHOTOS {
            let variance = known(n);
            quadratic
                .row_mut(n - 1)
                .assign(&((1.0 / &anybody - 1.0 / &variance) * 0.5));
            // The posterior mean of the person given n images, divided by the variance.
            gain.row_mut(n - 1)
                .assign(&(between / (between + 1.0 / n as f32) / &variance));
            ratio[n - 1] = 0.5 * (&anybody / &variance).ln().sum();
        }
        let squared = [0, 1].map(|side| {
            let centre = statistics.centres.row(side);
            centre.dot(&centre)
        });
        // Bare ones have positive numbers, masked ones negative ones.
        let length = |row: usize| {
            let (embedding, side) = (embeddings.row(row), usize::from(kinds[row].is_masked()));
            let along = embedding.dot(&statistics.centres.row(side));
            let length = (embedding.dot(&embedding) - 2.0 * along + squared[side]).max(0.0);
            let inverse = inverse(length.sqrt()).max(f32::MIN_POSITIVE);
            if side == 0 { inverse } else { -inverse }
        };
        let photos = (0..people).map(|person| {
            let (bare, masked) = rows.split(person);
            photos(bare.len(), masked.len())
        });
        let photos: Vec<u8> = photos.collect();
        Self {
            transposed: statistics.projection.t().as_standard_layout().into_owned(),
            present: present(&photos),
            photos,
            lengths: (0..kinds.len()).into_par_iter().map(length).collect(),
            statistics: statistics.clone(),
            quadratic,
            gain,
            ratio,
        }
    }

    fn is_bare(&self, row: u32) -> bool {
        self.lengths[row as usize] > 0.0
    }

    /// The mean of these embeddings, each without the mean of bare or of masked faces and of unit length.
    fn mean(&self, embeddings: &Array2<f32>, rows: &[u32]) -> Array1<f32> {
        let mut mean: Array1<f32> = Array1::zeros(embeddings.ncols());
        for &row in rows {
            let length = self.lengths[row as usize];
            let centre = self.statistics.centres.row(usize::from(length < 0.0));
            mean.scaled_add(length.abs(), &embeddings.row(row as usize));
            mean.scaled_add(-length.abs(), &centre);
        }
        mean / rows.len().max(1) as f32
    }

    /// Projects a centred embedding, or a mean of several.
    fn project(&self, centred: ArrayView1<f32>) -> Array1<f32> {
        let centred = centred.to_slice().unwrap_or_default();
        let rows = self.transposed.rows().into_iter();
        rows.map(|row| products(row.to_slice().unwrap_or_default(), centred, &[])[0])
            .collect()
    }

    /// The constant of a person with this projected mean.
    fn constant(&self, projected: ArrayView1<f32>, photos: usize) -> f32 {
        let between = &self.statistics.between;
        let weights = &projected * &self.gain.row(photos);
        let person = &projected * between / (between + 1.0 / (photos + 1) as f32);
        -0.5 * person.dot(&weights) + self.ratio[photos]
    }

    /// Maps coordinates of the model back to embeddings, `[D, R]`: what a projected face adds to the cosine.
    fn back(&self) -> Array2<f32> {
        let projection = &self.statistics.projection;
        match strangers::invert(&projection.t().dot(projection)) {
            Some(inverse) => projection.dot(&inverse),
            // The candidates are found by the evidence alone then.
            None => Array2::zeros(projection.dim()),
        }
    }

    fn side(&self, embeddings: &Array2<f32>, rows: &Rows, masked: bool) -> Side {
        let (dim, rank) = self.statistics.projection.dim();
        let people = self.photos.len();
        let weights = &WEIGHTS[usize::from(masked)];
        let back = self.back();
        let centre = self.statistics.centres.row(usize::from(masked));
        // The length that a face has on average without the mean.
        let length = (1.0 - centre.dot(&centre)).max(0.0).sqrt();
        let mut linear = vec![0.0; people * rank];
        let mut constants = vec![0.0; people];
        let mut norms = vec![0.0; people];
        let mut offsets = vec![0.0; people];
        linear
            .par_chunks_mut(TILE * rank)
            .zip(constants.par_chunks_mut(TILE))
            .zip(norms.par_chunks_mut(TILE))
            .zip(offsets.par_chunks_mut(TILE))
            .enumerate()
            .for_each(|(tile, (((out, constants), norms), offsets))| {
                let count = constants.len();
                let mut means = Array2::zeros((count, dim));
                let mut units = Array2::zeros((count, dim));
                for (i, norm) in norms.iter_mut().enumerate() {
                    let rows = rows.side(tile * TILE + i, masked);
                    means.row_mut(i).assign(&self.mean(embeddings, rows));
                    let sum = sum_of(embeddings, rows);
                    *norm = inverse(sum.dot(&sum).sqrt());
                    units.row_mut(i).assign(&(sum * *norm));
                }
                let projected = means.dot(&self.statistics.projection);
                let mut linear = units.dot(&back) * (weights.cosine * length);
                for i in 0..count {
                    let photos = usize::from(self.photos[tile * TILE + i]);
                    constants[i] = self.constant(projected.row(i), photos);
                    offsets[i] = weights.evidence * constants[i]
                        + weights.cosine * units.row(i).dot(&centre);
                    let evidence = &projected.row(i) * &self.gain.row(photos);
                    linear.row_mut(i).scaled_add(weights.evidence, &evidence);
                }
                for (out, value) in out.iter_mut().zip(&linear) {
                    *out = *value;
                }
            });
        Side {
            index: Index::new(&linear, rank, &offsets, &self.photos),
            constants,
            norms,
        }
    }

    fn face<'a>(&self, embedding: Cow<'a, [f32]>, masked: bool, index: &Index) -> Face<'a> {
        let statistics = &self.statistics;
        let centred = statistics.centred(ArrayView1::from(&*embedding), masked);
        let x = self.project(centred.view());
        let squares = self.quadratic.dot(&(&x * &x));
        let squares: [f32; MOST_PHOTOS] = std::array::from_fn(|n| squares[n]);
        let directions = self.directions(&x);
        let weight = WEIGHTS[usize::from(masked)].evidence;
        let query = index.query(
            x.as_slice().unwrap_or_default(),
            squares.map(|s| s * weight),
        );
        Face {
            embedding,
            is_masked: masked,
            query,
            squares,
            centres: std::array::from_fn(|n| {
                [0, 1].map(|side| directions.row(n).dot(&statistics.centres.row(side)))
            }),
            directions: directions.into_raw_vec_and_offset().0,
        }
    }

    /// `[MOST_PHOTOS, D]`; zero for numbers of photos that nobody has.
    fn directions(&self, x: &Array1<f32>) -> Array2<f32> {
        let mut directions = Array2::zeros((MOST_PHOTOS, self.transposed.ncols()));
        for (n, mut direction) in directions.rows_mut().into_iter().enumerate() {
            if self.present[n] {
                let weights = &self.gain.row(n) * x;
                for (weight, row) in weights.iter().zip(self.transposed.rows()) {
                    direction.scaled_add(*weight, &row);
                }
            }
        }
        directions
    }
}

/// Products of a row with two vectors, the second of which may be empty.
fn products(row: &[f32], first: &[f32], second: &[f32]) -> [f32; 2] {
    struct Products<'a>(&'a [f32], &'a [f32], &'a [f32]);
    impl Kernel for Products<'_> {
        type Output = [f32; 2];

        #[inline(always)]
        fn run<L: Level>(self, simd: L::Simd) -> [f32; 2] {
            [dot(simd, self.0, self.1), dot(simd, self.0, self.2)]
        }
    }
    isa().dispatch(Products(row, first, second))
}

fn isa() -> Isa {
    super::index::isa()
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = S::as_simd_f32s(a);
    let (b, b_rest) = S::as_simd_f32s(b);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, a_left) = a.as_chunks::<4>();
    let (b_fours, b_left) = b.as_chunks::<4>();
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..4 {
            sums[i] = simd.mul_add_e_f32s(a[i], b[i], sums[i]);
        }
    }
    for (&a, &b) in a_left.iter().zip(b_left) {
        sums[0] = simd.mul_add_e_f32s(a, b, sums[0]);
    }
    let low = simd.add_f32s(sums[0], sums[1]);
    let high = simd.add_f32s(sums[2], sums[3]);
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(simd.add_f32s(low, high)) + rest
}
