//! Grouping of faces by person without a gallery: agglomerative clustering by the terms of a gallery's score that need no
//! other people, the evidence and the cosine, with the weights that bare and masked faces have there.
//!
//! Two clusters are as similar as the pairs of their faces are on average. For the model of [`Statistics`] that is a scalar
//! product of their mean feature vectors, so no matrix of all pairs is kept: the memory is linear in the number of faces, the
//! time quadratic.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

use ndarray::{Array1, Array2, ArrayView1};
use rayon::prelude::*;

use super::Statistics;

/// Clusters that are compared with all others in one matrix product.
const TILE: usize = 128;

/// Most similar clusters that are remembered of each at the beginning of a round. Further ones are found in the next
/// round.
const NEIGHBOURS: usize = 32;

/// How a kind of pair is scored: `scale · (evidence · LLR + cosine · cos − threshold)`. Clusters are joined as long as the
/// mean is not below 0.
#[derive(Debug, Clone, Copy)]
struct PairWeights {
    /// Of the natural logarithm of the likelihood ratio.
    evidence: f32,
    cosine: f32,
    threshold: f32,
    scale: f32,
}

/// Two bare faces, a bare and a masked one, and two masked ones: the weights of a gallery's score and the slopes of its
/// logistic functions. The thresholds were chosen on 50 people and 400 strangers of LFW, bare and with painted masks
/// (docs/galleries.md).
const WEIGHTS: [PairWeights; 3] = [
    PairWeights {
        evidence: 0.007,
        cosine: 0.3,
        threshold: 0.22,
        scale: 6.0,
    },
    PairWeights {
        evidence: 0.002,
        cosine: 0.3,
        threshold: 0.16,
        scale: 12.0,
    },
    PairWeights {
        evidence: 0.002,
        cosine: 0.3,
        threshold: 0.18,
        scale: 12.0,
    },
];

/// Least mean cosine without statistics of faces, as for other networks, chosen on the same photos.
const PLAIN: PairWeights = PairWeights {
    evidence: 0.0,
    cosine: 1.0,
    threshold: 0.6,
    scale: 6.0,
};

/// A face to be grouped.
#[derive(Debug, Clone, PartialEq)]
pub struct LooseFace {
    /// `[D]`, of unit length.
    pub embedding: Array1<f32>,
    /// Whether a mask is worn.
    pub masked: bool,
    /// Number of the image. Faces of one image are different people.
    pub image: usize,
    /// Number of the track. Faces of one track are one person.
    pub track: Option<usize>,
}

/// Groups faces by person and returns for each the number of its group, from 0 in the order of the groups' first faces. Faces
/// of another length than the first one, and those without direction, are groups of their own.
pub fn group(faces: &[LooseFace], statistics: Option<&Statistics>) -> Vec<usize> {
    let mut clusters = Clusters::new(faces, statistics);
    // Neighbours beyond the first of each cluster are seen once these are joined.
    while clusters.join_neighbours() {}
    clusters.labels(faces.len())
}

/// Whether an embedding has this length and a direction.
fn is_sound(embedding: &Array1<f32>, dim: usize) -> bool {
    embedding.len() == dim
        && embedding.iter().all(|v| v.is_finite())
        && embedding.dot(embedding) > 0.0
}

/// Makes features of faces.
struct FeatureMaker<'s> {
    weights: [PairWeights; 3],
    ratio: Option<PairRatio<'s>>,
}

impl<'s> FeatureMaker<'s> {
    fn new(statistics: Option<&'s Statistics>) -> Self {
        Self {
            weights: match statistics {
                Some(_) => WEIGHTS,
                None => [PLAIN; 3],
            },
            ratio: statistics.map(PairRatio::of),
        }
    }

    /// What is added to the score of every pair: bare, mixed, masked.
    fn constants(&self) -> [f32; 3] {
        self.weights.map(|weights| {
            let evidence = self.ratio.as_ref().map_or(0.0, |ratio| ratio.constant);
            weights.scale * (weights.evidence * evidence - weights.threshold)
        })
    }

    /// The features of a face for the comparison with bare faces, and with masked ones.
    fn features(&self, face: &LooseFace) -> [Feature; 2] {
        // A mixed pair and a masked one differ by the threshold only.
        [0, 2].map(|kind| {
            let weights = &self.weights[kind];
            Feature::of(
                face.embedding.view(),
                face.masked,
                weights,
                self.ratio.as_ref(),
            )
        })
    }
}

/// The score of a pair is `vector · vector + scalar + scalar + constant`.
#[derive(Debug, Clone)]
struct Feature {
    /// `[R + D]`
    vector: Array1<f32>,
    scalar: f32,
}

/// The likelihood ratio of two images being of one person, by the PLDA model: its logarithm is
/// `Σ quadratic·(x² + y²) + Σ linear·x·y + constant` for projected embeddings x and y.
struct PairRatio<'s> {
    statistics: &'s Statistics,
    quadratic: Array1<f32>,
    /// The square root of the linear coefficients.
    linear: Array1<f32>,
    constant: f32,
}

impl<'s> PairRatio<'s> {
    fn of(statistics: &'s Statistics) -> Self {
        // Both images have the variance b + 1 and, of one person, the covariance b.
        let between = &statistics.between;
        let both = between.mapv(|b| 2.0 * b + 1.0);
        let quadratic = between.mapv(|b| 0.5 * (1.0 / (b + 1.0) - (b + 1.0) / (2.0 * b + 1.0)));
        let constant = between.mapv(|b| (b + 1.0).ln()).sum() - 0.5 * both.mapv(f32::ln).sum();
        Self {
            linear: (between / &both).mapv(f32::sqrt),
            statistics,
            quadratic,
            constant,
        }
    }
}

impl Feature {
    fn of(
        embedding: ArrayView1<f32>,
        masked: bool,
        weights: &PairWeights,
        ratio: Option<&PairRatio>,
    ) -> Self {
        let cosine = (weights.scale * weights.cosine).sqrt();
        let length = embedding.dot(&embedding).sqrt();
        let direct = embedding.mapv(|v| v / length * cosine);
        let Some(ratio) = ratio else {
            return Self {
                vector: direct,
                scalar: 0.0,
            };
        };
        let x = ratio
            .statistics
            .project(ratio.statistics.centred(embedding, masked).view());
        let evidence = weights.scale * weights.evidence;
        let projected = &x * &ratio.linear * evidence.sqrt();
        Self {
            vector: projected.iter().chain(&direct).copied().collect(),
            scalar: (&x * &x).dot(&ratio.quadratic) * evidence,
        }
    }
}

/// The sum of the features of several faces.
#[derive(Debug, Clone)]
struct Sum {
    count: f32,
    vector: Array1<f32>,
    scalar: f32,
}

impl Sum {
    fn empty(length: usize) -> Self {
        Self {
            count: 0.0,
            vector: Array1::zeros(length),
            scalar: 0.0,
        }
    }

    fn add(&mut self, feature: &Feature) {
        self.count += 1.0;
        self.vector += &feature.vector;
        self.scalar += feature.scalar;
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.vector += &other.vector;
        self.scalar += other.scalar;
    }

    /// The sum of the scores of all pairs of a face here and one there.
    fn pairs(&self, other: &Self, constant: f32) -> f32 {
        if self.count * other.count == 0.0 {
            return 0.0;
        }
        self.vector.dot(&other.vector)
            + self.scalar * other.count
            + other.scalar * self.count
            + constant * self.count * other.count
    }
}

/// Faces of one person.
#[derive(Debug, Clone)]
struct Cluster {
    faces: Vec<usize>,
    /// The images that they are in.
    images: BTreeSet<usize>,
    /// The bare faces, for the comparison with bare ones and with masked ones.
    bare: [Sum; 2],
    masked: Sum,
}

impl Cluster {
    fn empty(length: usize) -> Self {
        let sum = Sum::empty(length);
        Self {
            faces: Vec::new(),
            images: BTreeSet::new(),
            bare: [sum.clone(), sum.clone()],
            masked: sum,
        }
    }

    fn add(&mut self, index: usize, face: &LooseFace, features: &[Feature; 2]) {
        self.faces.push(index);
        self.images.insert(face.image);
        if face.masked {
            self.masked.add(&features[1]);
            return;
        }
        for (sum, feature) in self.bare.iter_mut().zip(features) {
            sum.add(feature);
        }
    }

    fn merge(&mut self, other: Self) {
        self.faces.extend(other.faces);
        self.images.extend(other.images);
        for (sum, other) in self.bare.iter_mut().zip(&other.bare) {
            sum.merge(other);
        }
        self.masked.merge(&other.masked);
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        let (few, many) = match self.images.len() < other.images.len() {
            true => (self, other),
            false => (other, self),
        };
        few.images.iter().any(|image| many.images.contains(image))
    }

    /// The mean score of all pairs of faces.
    fn similarity(&self, other: &Self, [bare, mixed, masked]: [f32; 3]) -> f32 {
        let sum = self.bare[0].pairs(&other.bare[0], bare)
            + self.bare[1].pairs(&other.masked, mixed)
            + self.masked.pairs(&other.bare[1], mixed)
            + self.masked.pairs(&other.masked, masked);
        sum / (self.faces.len() * other.faces.len()) as f32
    }

    /// This cluster's row of each of two matrices whose product has the similarities. With the vectors U and C of the bare
    /// faces and V of the masked ones it is `[U, V + C, C]·[U, V + C, −C]`, which is `U·U + V·V + V·C + C·V`; products of
    /// the scalars and counts follow.
    fn rows(&self, [bare, mixed, masked]: [f32; 3]) -> [Array1<f32>; 2] {
        let faces = self.faces.len() as f32;
        let ([u, c], v) = (&self.bare, &self.masked);
        let both = &v.vector + &c.vector;
        let join = |sign: f32, scalars: [f32; 6]| -> Array1<f32> {
            let vectors = u.vector.iter().copied().chain(both.iter().copied());
            let all = vectors
                .chain(c.vector.iter().map(|v| v * sign))
                .chain(scalars);
            all.map(|value| value / faces).collect()
        };
        let left = [
            u.scalar + bare * u.count,
            u.count,
            v.scalar + masked * v.count + c.scalar + mixed * c.count,
            v.scalar + mixed * v.count,
            v.count,
            c.count,
        ];
        let right = [
            u.count,
            u.scalar,
            v.count,
            c.count,
            v.scalar + c.scalar,
            v.scalar,
        ];
        [join(1.0, left), join(-1.0, right)]
    }
}

/// Two clusters that may be joined, in the order of their similarity.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Link {
    similarity: f32,
    clusters: [usize; 2],
}

impl Eq for Link {}

impl Ord for Link {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Ties go to the first clusters, so that the result does not depend on the number of threads.
        let own = self.similarity.total_cmp(&other.similarity);
        own.then_with(|| other.clusters.cmp(&self.clusters))
    }
}

impl PartialOrd for Link {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Clusters {
    /// None for those that were merged into others.
    all: Vec<Option<Cluster>>,
    /// Added to the scores of bare, mixed and masked pairs.
    constants: [f32; 3],
}

impl Clusters {
    /// A cluster for each track and for each other face.
    fn new(faces: &[LooseFace], statistics: Option<&Statistics>) -> Self {
        let dim = faces.first().map_or(0, |face| face.embedding.len());
        let statistics = statistics.filter(|statistics| statistics.dim() == dim);
        let length = statistics.map_or(0, Statistics::rank) + dim;
        let maker = FeatureMaker::new(statistics);
        let mut tracks = HashMap::new();
        let mut all: Vec<Option<Cluster>> = Vec::new();
        for (index, face) in faces.iter().enumerate() {
            if !is_sound(&face.embedding, dim) {
                continue;
            }
            let next = all.len();
            let at = match face.track {
                Some(track) => *tracks.entry(track).or_insert(next),
                None => next,
            };
            if at == next {
                all.push(Some(Cluster::empty(length)));
            }
            if let Some(cluster) = &mut all[at] {
                cluster.add(index, face, &maker.features(face));
            }
        }
        Self {
            all,
            constants: maker.constants(),
        }
    }

    /// Joins the most similar clusters first, as long as there are similar ones, and returns whether any were joined.
    fn join_neighbours(&mut self) -> bool {
        self.all.retain(Option::is_some);
        let links = self.links();
        let mut near: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.all.len()];
        for link in &links {
            let [a, b] = link.clusters;
            near[a].insert(b);
            near[b].insert(a);
        }
        let mut heap: BinaryHeap<Link> = links.into();
        let mut has_joined = false;
        while let Some(Link {
            clusters: [a, b], ..
        }) = heap.pop()
        {
            let (Some(left), Some(right)) = (&self.all[a], &self.all[b]) else {
                continue;
            };
            if left.is_apart_from(right) {
                continue;
            }
            let (Some(mut joined), Some(other)) = (self.all[a].take(), self.all[b].take()) else {
                continue;
            };
            joined.merge(other);
            has_joined = true;
            let new = self.all.len();
            let mut neighbours = std::mem::take(&mut near[a]);
            neighbours.append(&mut near[b]);
            neighbours.retain(|&other| self.all[other].is_some());
            for &other in &neighbours {
                let Some(cluster) = &self.all[other] else {
                    continue;
                };
                let similarity = joined.similarity(cluster, self.constants);
                if similarity >= 0.0 && !joined.is_apart_from(cluster) {
                    heap.push(Link {
                        similarity,
                        clusters: [other, new],
                    });
                }
                near[other].insert(new);
            }
            near.push(neighbours);
            self.all.push(Some(joined));
        }
        has_joined
    }

    /// The most similar clusters of each that may be joined with it. Every cluster is present.
    fn links(&self) -> Vec<Link> {
        let present: Vec<&Cluster> = self.all.iter().flatten().collect();
        let count = present.len();
        let Some(first) = present.first() else {
            return Vec::new();
        };
        let width = first.rows(self.constants)[0].len();
        let side = |clusters: &[&Cluster], side: usize| {
            let mut rows = Array2::zeros((clusters.len(), width));
            for (mut row, cluster) in rows.rows_mut().into_iter().zip(clusters) {
                row.assign(&cluster.rows(self.constants)[side]);
            }
            rows
        };
        let right = side(&present, 1);
        let tile = |tile: usize| {
            let rows = tile * TILE..count.min((tile + 1) * TILE);
            let scores = side(&present[rows.clone()], 0).dot(&right.t());
            rows.zip(scores.rows())
                .flat_map(|(row, scores)| nearest(&present, row, scores))
                .collect::<Vec<_>>()
        };
        let tiles = (0..count.div_ceil(TILE)).into_par_iter();
        let mut links: Vec<Link> = tiles.flat_map_iter(tile).collect();
        // The two products of a pair may differ in the last digit.
        links.sort_unstable_by(|a, b| a.clusters.cmp(&b.clusters).then(b.cmp(a)));
        links.dedup_by_key(|link| link.clusters);
        links
    }

    fn labels(&self, count: usize) -> Vec<usize> {
        let mut firsts: Vec<usize> = (0..count).collect();
        for cluster in self.all.iter().flatten() {
            let first = cluster.faces.iter().copied().min();
            for &face in &cluster.faces {
                firsts[face] = first.unwrap_or(face);
            }
        }
        let mut numbers = vec![0; count];
        let mut next = 0;
        let mut labels = Vec::with_capacity(count);
        for (face, &first) in firsts.iter().enumerate() {
            if first == face {
                numbers[face] = next;
                next += 1;
            }
            labels.push(numbers[first]);
        }
        labels
    }
}

/// The clusters that are most similar to one of them and may be joined with it.
fn nearest(present: &[&Cluster], row: usize, scores: ArrayView1<f32>) -> Vec<Link> {
    let others = scores.iter().enumerate();
    let others = others.filter(|&(other, &score)| other != row && score >= 0.0);
    let mut links: Vec<Link> = others
        .filter(|&(other, _)| !present[row].is_apart_from(present[other]))
        .map(|(other, &similarity)| Link {
            similarity,
            clusters: [row.min(other), row.max(other)],
        })
        .collect();
    if links.len() > NEIGHBOURS {
        links.select_nth_unstable_by(NEIGHBOURS, |a, b| b.cmp(a));
        links.truncate(NEIGHBOURS);
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::strangers::Normal;

    const DIM: usize = 16;

    fn statistics() -> Statistics {
        let centres = Array2::from_shape_fn((2, DIM), |(row, _)| 0.05 * row as f32);
        let projection = Array2::from_shape_fn((DIM, 8), |(i, j)| match i == j {
            true => 10.0,
            false => 0.3,
        });
        Statistics::new(centres, projection, Array1::from_elem(8, 4.0)).unwrap()
    }

    /// A face near the axis of a person.
    fn face(person: usize, image: usize, masked: bool, normal: &mut Normal) -> LooseFace {
        let mut embedding = Array1::from_shape_simple_fn(DIM, || normal.next() * 0.03);
        embedding[person] += 1.0;
        if masked {
            embedding += 0.05;
        }
        let length = embedding.dot(&embedding).sqrt();
        LooseFace {
            embedding: embedding / length,
            masked,
            image,
            track: None,
        }
    }

    /// Four faces, every other one masked, of each of these people.
    fn people(count: usize) -> Vec<LooseFace> {
        let mut normal = Normal::new(7);
        (0..count * 4)
            .map(|i| face(i % count, i, i / count % 2 == 1, &mut normal))
            .collect()
    }

    #[test]
    fn bare_and_masked_faces_of_a_person_are_one_group() {
        let labels = group(&people(6), Some(&statistics()));
        let expected: Vec<usize> = (0..24).map(|i| i % 6).collect();
        assert_eq!(labels, expected);
        // By cosines alone as well.
        assert_eq!(group(&people(6), None), expected);
    }

    #[test]
    fn faces_of_one_image_are_never_one_person_and_those_of_a_track_always() {
        let mut faces = people(2);
        // The third face of the first person is in the picture with the first one.
        faces[4].image = faces[0].image;
        let labels = group(&faces, Some(&statistics()));
        assert_ne!(labels[0], labels[4]);
        assert_eq!(labels[1], labels[3]);
        for face in &mut faces[..2] {
            face.track = Some(3);
        }
        let labels = group(&faces, Some(&statistics()));
        assert_eq!(labels[0], labels[1]);
    }

    #[test]
    fn the_similarity_is_the_mean_over_all_pairs() {
        let statistics = statistics();
        let faces = people(3);
        let maker = FeatureMaker::new(Some(&statistics));
        let cluster = |members: &[usize]| {
            let mut cluster = Cluster::empty(8 + DIM);
            for &i in members {
                cluster.add(i, &faces[i], &maker.features(&faces[i]));
            }
            cluster
        };
        let constants = maker.constants();
        let (left, right) = ([0, 3, 6, 4], [1, 5, 9]);
        let mut sum = 0.0;
        for a in left {
            for b in right {
                let (a, b) = (&faces[a], &faces[b]);
                let kind = usize::from(a.masked) + usize::from(b.masked);
                let weights = WEIGHTS[kind];
                let [x, y] = [a, b].map(|face| {
                    let centred = statistics.centred(face.embedding.view(), face.masked);
                    statistics.project(centred.view())
                });
                // The logarithm of the ratio of two normal densities, with covariance b and without.
                let b_ = 4.0f32;
                let ratio: f32 = x
                    .iter()
                    .zip(&y)
                    .map(|(x, y)| {
                        let determinant = 2.0 * b_ + 1.0;
                        let together =
                            ((b_ + 1.0) * (x * x + y * y) - 2.0 * b_ * x * y) / determinant;
                        let apart = (x * x + y * y) / (b_ + 1.0);
                        0.5 * (apart - together) + (b_ + 1.0).ln() - 0.5 * determinant.ln()
                    })
                    .sum();
                let cosine = a.embedding.dot(&b.embedding);
                let score = weights.evidence * ratio + weights.cosine * cosine - weights.threshold;
                sum += weights.scale * score;
            }
        }
        let (a, b) = (cluster(&left), cluster(&right));
        let expected = sum / 12.0;
        let close = |found: f32| assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        close(a.similarity(&b, constants));
        close(b.similarity(&a, constants));
        // The product of the rows, by which neighbours are found.
        close(a.rows(constants)[0].dot(&b.rows(constants)[1]));
        close(b.rows(constants)[0].dot(&a.rows(constants)[1]));
    }

    #[test]
    fn more_faces_of_a_person_than_neighbours_are_remembered_are_one_group() {
        let mut normal = Normal::new(3);
        let faces: Vec<_> = (0..4 * NEIGHBOURS)
            .map(|i| face(i % 2, i, false, &mut normal))
            .collect();
        let labels = group(&faces, Some(&statistics()));
        assert!(labels.iter().enumerate().all(|(i, &label)| label == i % 2));
    }

    #[test]
    fn faces_without_direction_and_of_another_length_are_alone() {
        let mut faces = people(2);
        faces[2].embedding.fill(0.0);
        faces[3].embedding[0] = f32::NAN;
        faces[5].embedding = Array1::zeros(3);
        let labels = group(&faces, Some(&statistics()));
        assert_eq!(labels, [0, 1, 2, 3, 0, 4, 0, 1]);
        assert!(group(&[], None).is_empty());
    }
}
