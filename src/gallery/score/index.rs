//! Finds the people whose linear scores with a face are highest, among up to a million, in one pass over 8-bit weights.
//!
//! The weights of sixteen people lie together, four dimensions of a person in a 32-bit lane, as the dot products of
//! `nn::simd` read them. The pass is limited by the memory that it reads, about a hundred bytes a person.

use std::ops::Range;
use std::sync::OnceLock;

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use crate::nn::Isa;
use crate::nn::simd::{DotU8I8, IntSimd, Kernel, Level};

/// People in a block.
const BLOCK: usize = 16;

/// Blocks that a kernel may read at once; their number is a multiple of it.
const GROUP: usize = 4;

/// Blocks that all faces of a batch are compared with before the next ones are read: as many as stay in the cache.
const PIECE: usize = 256;

/// Weights are −127…127.
const LARGEST: f32 = 127.0;

/// The zero point of the query's bytes.
const ZERO: i32 = 128;

/// What a person's score is raised by depends on the class of the person and the face alone.
pub const CLASSES: usize = 5;

/// The instruction set in use: the same for the weights and for all queries.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(Isa::best)
}

/// Linear scores of K people with D dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// 32-bit words of a person's weights: D divided by four, rounded up.
    words: usize,
    /// `[D]`, the value of weight 1 in each dimension.
    scales: Vec<f32>,
    /// Each block: `[words, BLOCK]` of four weights, `[BLOCK]` the sum that is due to the zero point, `[BLOCK]` constants
    /// as the bits of float32.
    blocks: Vec<i32>,
    /// For each place in the blocks the person; `u32::MAX` where there is none.
    people: Vec<u32>,
    /// For each block the class of its people.
    classes: Vec<u8>,
}

/// A face as it is compared with the people of an [`Index`].
#[derive(Debug, Clone)]
pub struct Query {
    /// Four dimensions in each.
    activations: Vec<i32>,
    scale: f32,
    /// For each class.
    offsets: [f32; CLASSES],
}

impl Index {
    /// People with these weights `[K, dim]`, constants `[K]` and classes `[K]`, each below [`CLASSES`].
    pub fn new(weights: &[f32], dim: usize, constants: &[f32], classes: &[u8]) -> Self {
        let words = dim.div_ceil(4);
        let mut scales = vec![f32::MIN_POSITIVE; dim];
        for row in weights.chunks_exact(dim) {
            for (scale, weight) in scales.iter_mut().zip(row) {
                *scale = scale.max(weight.abs() / LARGEST);
            }
        }
        let mut order: Vec<Vec<u32>> = vec![Vec::new(); CLASSES];
        for person in 0..constants.len() {
            order[usize::from(classes[person]).min(CLASSES - 1)].push(person as u32);
        }
        let mut index = Self {
            words,
            scales,
            blocks: Vec::new(),
            people: Vec::new(),
            classes: Vec::new(),
        };
        let blocks: usize = order
            .iter()
            .map(|people| people.len().div_ceil(BLOCK))
            .sum();
        index
            .blocks
            .reserve_exact(blocks.next_multiple_of(GROUP) * index.stride());
        for (class, people) in order.iter().enumerate() {
            for people in people.chunks(BLOCK) {
                index.push(weights, constants, people, class as u8);
            }
        }
        while !index.classes.len().is_multiple_of(GROUP) {
            index.push(weights, constants, &[], 0);
        }
        index
    }

    /// Number of words of a block.
    fn stride(&self) -> usize {
        (self.words + 2) * BLOCK
    }

    fn push(&mut self, weights: &[f32], constants: &[f32], people: &[u32], class: u8) {
        let start = self.blocks.len();
        self.blocks.resize(start + self.stride(), 0);
        let block = &mut self.blocks[start..];
        let is_signed = isa().signed_activations();
        for lane in 0..BLOCK {
            let (sum, constant) = match people.get(lane) {
                // A score that no other one is below.
                None => (0, f32::NEG_INFINITY),
                Some(&person) => {
                    let mut sum = 0;
                    let dim = self.scales.len();
                    let row = &weights[person as usize * dim..][..dim];
                    for word in 0..self.words {
                        let bytes = [0, 1, 2, 3].map(|i| {
                            let dim = 4 * word + i;
                            let Some(weight) = row.get(dim) else { return 0 };
                            let weight = (weight / self.scales[dim]).round_ties_even() as i8;
                            sum -= ZERO * i32::from(weight);
                            weight as u8
                        });
                        block[word * BLOCK + lane] = i32::from_le_bytes(bytes);
                    }
                    (sum, constants[person as usize])
                }
            };
            block[self.words * BLOCK + lane] = if is_signed { 0 } else { sum };
            block[(self.words + 1) * BLOCK + lane] = constant.to_bits() as i32;
        }
        self.people
            .extend((0..BLOCK).map(|lane| people.get(lane).copied().unwrap_or(u32::MAX)));
        self.classes.push(class);
    }

    /// The query whose score with each person is the dot product of `face`, `[D]`, with the weights, plus the constant, plus
    /// the offset of the class.
    pub fn query(&self, face: &[f32], offsets: [f32; CLASSES]) -> Query {
        let scaled: Vec<f32> = face.iter().zip(&self.scales).map(|(x, s)| x * s).collect();
        let largest = scaled.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
        let mut bytes = vec![ZERO as u8; 4 * self.words];
        for (byte, x) in bytes.iter_mut().zip(&scaled) {
            *byte = (x / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8 as u8 ^ 0x80;
        }
        let activations = bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b));
        Query {
            activations: activations.collect(),
            scale,
            offsets,
        }
    }

    /// The `count` people with the highest scores, in no order.
    pub fn nearest(&self, query: &Query, count: usize) -> Vec<(f32, u32)> {
        let mut best = Best::new(count);
        self.scan(0..self.classes.len(), query, &mut best);
        best.finish()
    }

    /// [`nearest`](Self::nearest) for many queries.
    pub fn nearest_of_many(&self, queries: &[Query], count: usize) -> Vec<Vec<(f32, u32)>> {
        let mut best: Vec<Best> = queries.iter().map(|_| Best::new(count)).collect();
        let blocks = self.classes.len();
        for start in (0..blocks).step_by(PIECE) {
            for (query, best) in queries.iter().zip(&mut best) {
                self.scan(start..blocks.min(start + PIECE), query, best);
            }
        }
        best.into_iter().map(Best::finish).collect()
    }

    fn scan(&self, blocks: Range<usize>, query: &Query, best: &mut Best) {
        isa().dispatch(Scan {
            index: self,
            blocks,
            query,
            best,
        });
    }
}

/// The best scores so far.
struct Best {
    count: usize,
    /// Scores that are not above it are not among the best.
    least: f32,
    found: Vec<(f32, u32)>,
}

impl Best {
    fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            count,
            least: f32::NEG_INFINITY,
            found: Vec::with_capacity(2 * count),
        }
    }

    #[inline(always)]
    fn add(&mut self, score: f32, person: u32) {
        if score > self.least {
            self.found.push((score, person));
            if self.found.len() == 2 * self.count {
                self.prune();
            }
        }
    }

    #[inline(never)]
    fn prune(&mut self) {
        if self.found.len() > self.count {
            self.found.select_nth_unstable_by(self.count - 1, |a, b| {
                b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
            });
            self.found.truncate(self.count);
            self.least = self.found[self.count - 1].0;
        }
    }

    fn finish(mut self) -> Vec<(f32, u32)> {
        self.prune();
        self.found
    }
}

/// Compares a face with the people of some blocks.
struct Scan<'a> {
    index: &'a Index,
    blocks: Range<usize>,
    query: &'a Query,
    best: &'a mut Best,
}

impl Kernel for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        match <L::Simd as Simd>::F32_LANES {
            1 => scan::<L, 16, 1>(simd, self),
            4 => scan::<L, 4, 2>(simd, self),
            8 => scan::<L, 2, 4>(simd, self),
            _ => scan::<L, 1, 4>(simd, self),
        }
    }
}

/// `V` vectors make a block; `B` blocks, a divisor of [`GROUP`], are compared at once.
#[inline(always)]
fn scan<L: Level, const V: usize, const B: usize>(simd: L::Simd, scan: Scan) {
    let Scan {
        index,
        blocks,
        query,
        best,
    } = scan;
    let (count, stride) = (index.words, index.stride());
    let scale = simd.splat_f32s(query.scale);
    let mut scores = [[0.0f32; BLOCK]; B];
    for first in blocks.step_by(B) {
        let data: [&[i32]; B] =
            std::array::from_fn(|b| &index.blocks[(first + b) * stride..][..stride]);
        let words = data.map(|data| L::Simd::as_simd_i32s(data).0);
        let mut sums: [[_; V]; B] =
            std::array::from_fn(|b| std::array::from_fn(|v| words[b][count * V + v]));
        for (word, &activation) in query.activations.iter().enumerate() {
            let activation = L::Wide::broadcast(simd, activation);
            for b in 0..B {
                for v in 0..V {
                    let weights = words[b][word * V + v];
                    sums[b][v] = L::Wide::dot(simd, sums[b][v], activation, weights);
                }
            }
        }
        for b in 0..B {
            let constants: &[f32] = cast_slice(data[b]);
            let constants = L::Simd::as_simd_f32s(constants).0;
            let offset = query.offsets[usize::from(index.classes[first + b])];
            let offset = simd.splat_f32s(offset);
            let out = L::Simd::as_mut_simd_f32s(&mut scores[b]).0;
            for v in 0..V {
                let constant = simd.add_f32s(constants[(count + 1) * V + v], offset);
                out[v] = simd.mul_add_e_f32s(simd.i32_to_f32(sums[b][v]), scale, constant);
            }
        }
        for (b, scores) in scores.iter().enumerate() {
            // Most blocks hold nobody of interest.
            if scores.iter().any(|&score| score > best.least) {
                let people = &index.people[(first + b) * BLOCK..][..BLOCK];
                for (&score, &person) in scores.iter().zip(people) {
                    best.add(score, person);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::strangers::Normal;
    use super::*;
    use ndarray::Array2;

    /// People with random weights, and a random face.
    fn random(count: usize, dim: usize) -> (Array2<f32>, Vec<f32>, Vec<u8>, Vec<f32>) {
        let mut normal = Normal::new(7);
        let weights = Array2::from_shape_simple_fn((count, dim), || normal.next());
        let constants = (0..count).map(|_| normal.next()).collect();
        let classes = (0..count).map(|k| (k % CLASSES) as u8).collect();
        let face = (0..dim).map(|_| normal.next()).collect();
        (weights, constants, classes, face)
    }

    const OFFSETS: [f32; CLASSES] = [0.0, 1.0, -2.0, 3.0, -4.0];

    #[test]
    fn the_best_are_found_with_scores_that_are_right_to_a_hundredth_of_their_spread() {
        for (count, dim) in [(1, 1), (15, 3), (16, 4), (17, 83), (3000, 83), (4097, 130)] {
            let (weights, constants, classes, face) = random(count, dim);
            let exact: Vec<f32> = (0..count)
                .map(|k| {
                    let dot = weights
                        .row(k)
                        .iter()
                        .zip(&face)
                        .map(|(w, x)| w * x)
                        .sum::<f32>();
                    dot + constants[k] + OFFSETS[usize::from(classes[k])]
                })
                .collect();
            let index = Index::new(
                weights.as_slice().unwrap(),
                weights.ncols(),
                &constants,
                &classes,
            );
            let query = index.query(&face, OFFSETS);
            let mut all = index.nearest(&query, count);
            all.sort_by_key(|(_, person)| *person);
            assert_eq!(all.len(), count);
            let spread = (dim as f32).sqrt() + 4.0;
            for (k, (score, person)) in all.iter().enumerate() {
                assert_eq!(*person as usize, k);
                let difference = (score - exact[k]).abs();
                assert!(
                    difference < 0.03 * spread,
                    "{difference} of {spread}, {dim}"
                );
            }
            let few = index.nearest(&query, 10);
            let least = few.iter().map(|f| f.0).fold(f32::INFINITY, f32::min);
            let better = all.iter().filter(|(score, _)| *score > least).count();
            assert_eq!(few.len(), count.min(10));
            assert!(better < 10);
            let queries = vec![query; 3];
            for mut found in index.nearest_of_many(&queries, 10) {
                let mut few = few.clone();
                few.sort_by_key(|f| f.1);
                found.sort_by_key(|f| f.1);
                assert_eq!(found, few);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_sums() {
        let (weights, constants, classes, face) = random(200, 83);
        let index = Index::new(
            weights.as_slice().unwrap(),
            weights.ncols(),
            &constants,
            &classes,
        );
        let query = index.query(&face, OFFSETS);
        let expected = {
            let mut found = index.nearest(&query, 200);
            found.sort_by_key(|f| f.1);
            found
        };
        for isa in Isa::available() {
            // The sums for the zero point are those of the instruction set that the weights were made for.
            if isa.signed_activations() != self::isa().signed_activations() {
                continue;
            }
            let mut best = Best::new(200);
            isa.dispatch(Scan {
                index: &index,
                blocks: 0..index.classes.len(),
                query: &query,
                best: &mut best,
            });
            let mut found = best.finish();
            found.sort_by_key(|f| f.1);
            for (a, b) in found.iter().zip(&expected) {
                assert_eq!(a.1, b.1);
                assert!((a.0 - b.0).abs() < 1e-4, "{isa:?}: {} {}", a.0, b.0);
            }
        }
    }
}
