//! The arithmetic of the layers, for vectors of any length.

use pulp::Simd;

use super::rounded::Rounded;
use super::{Operation, Pool, Shape, Sum, Taps};
use crate::simd::cpu::Task;
use crate::simd::pairs::{Floats, Pairs, Products};

/// Places that are worked on together: what they share of the weights is read once.
const TILE: usize = 6;

/// One operation for `count` windows.
pub struct Run<'a> {
    pub operation: &'a Operation,
    pub from: &'a [f32],
    /// The second input, of what has two.
    pub other: &'a [f32],
    pub to: &'a mut [f32],
    pub count: usize,
    /// For sums of pairs of integers.
    pub rounded: &'a mut Rounded,
}

impl Task for Run<'_> {
    // All that is called from here must be inlined to be compiled for the vectors of `S`.
    #[inline(always)]
    fn by_numbers<S: Simd>(self, simd: S) {
        // No weights are in pairs where these vectors are the best.
        if let Operation::Sum(sum) = self.operation {
            if let Taps::Numbers(taps) = &sum.taps {
                let numbers = Numbers {
                    from: self.from,
                    taps,
                };
                layer(simd, numbers, sum, self.to, self.count);
            }
        } else {
            self.rest(simd);
        }
    }

    #[inline(always)]
    fn by_pairs<S: Pairs>(self, simd: S) {
        if let Operation::Sum(sum) = self.operation
            && let Taps::Pairs(taps) = &sum.taps
        {
            let pairs = self.rounded.round(simd, self.from, taps, self.count);
            layer(simd, pairs, sum, self.to, self.count);
        } else {
            self.by_numbers(simd);
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn rest<S: Simd>(self, simd: S) {
        let Self {
            operation,
            from,
            other,
            to,
            count,
            ..
        } = self;
        match operation {
            Operation::Sum(_) => {}
            Operation::Pool(pool) => largest(simd, pool, from, to),
            Operation::Pad(shape, by) => middle(*shape, *by, from, to),
            Operation::Bend(above, below) => {
                let channels = above.len();
                for (from, to) in from
                    .chunks_exact(channels)
                    .zip(to.chunks_exact_mut(channels))
                {
                    let slopes = above.iter().zip(below);
                    for ((from, to), (above, below)) in from.iter().zip(to).zip(slopes) {
                        *to = above * from.max(0.0) + below * from.min(0.0);
                    }
                }
            }
            Operation::Add(_) => {
                for ((to, a), b) in to.iter_mut().zip(from).zip(other) {
                    *to = a + b;
                }
            }
            Operation::Softmax(width) => {
                let size = from.len() / count.max(1);
                let rows = from.chunks_exact(size).zip(to.chunks_exact_mut(size));
                for (from, to) in rows {
                    softmax(&from[..*width], &mut to[..*width]);
                }
            }
        }
    }
}

fn softmax(from: &[f32], to: &mut [f32]) {
    let most = from.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (to, from) in to.iter_mut().zip(from) {
        *to = (from - most).exp();
    }
    let sum: f32 = to.iter().sum();
    for to in to {
        *to /= sum;
    }
}

/// Inputs and weights, and what becomes of their sums.
pub trait Arithmetic<S: Simd>: Copy {
    type By: Products<S>;

    fn from(&self) -> &[<Self::By as Products<S>>::Value];
    fn taps(&self) -> &[<Self::By as Products<S>>::Value];
    /// The sums of a window with the bias, in vector `channels` of the output.
    fn end(
        self,
        simd: S,
        sums: <Self::By as Products<S>>::Sums,
        window: usize,
        channels: usize,
        bias: S::f32s,
    ) -> S::f32s;
}

#[derive(Clone, Copy)]
struct Numbers<'a> {
    from: &'a [f32],
    taps: &'a [f32],
}

impl<S: Simd> Arithmetic<S> for Numbers<'_> {
    type By = Floats;

    #[inline(always)]
    fn from(&self) -> &[f32] {
        self.from
    }

    #[inline(always)]
    fn taps(&self) -> &[f32] {
        self.taps
    }

    #[inline(always)]
    fn end(self, simd: S, sums: S::f32s, _: usize, _: usize, bias: S::f32s) -> S::f32s {
        simd.add_f32s(sums, bias)
    }
}

#[inline(always)]
fn layer<S: Simd, A: Arithmetic<S>>(simd: S, by: A, sum: &Sum, to: &mut [f32], count: usize) {
    match sum.block / S::F32_LANES {
        1 => sums::<S, A, 1>(simd, by, sum, to, count),
        2 => sums::<S, A, 2>(simd, by, sum, to, count),
        3 => sums::<S, A, 3>(simd, by, sum, to, count),
        4 => sums::<S, A, 4>(simd, by, sum, to, count),
        _ => sums::<S, A, 16>(simd, by, sum, to, count),
    }
}

/// A convolution in one window, or a dense layer, which has one place, in `count`.
#[inline(always)]
fn sums<S: Simd, A: Arithmetic<S>, const V: usize>(
    simd: S,
    by: A,
    sum: &Sum,
    to: &mut [f32],
    count: usize,
) {
    let from = by.from();
    let size = from.len() / count.max(1);
    let is_dense = sum.places.len() == 1;
    let total = if is_dense { count } else { sum.places.len() };
    let window = |number: usize| if is_dense { number } else { 0 };
    let blocks = sum.channels / sum.block;
    let length = sum.steps.len() * V;
    for block in 0..blocks {
        let taps = A::By::vectors(by.taps());
        let taps = taps[block * length..][..length].as_chunks::<V>().0;
        let channels = block * sum.block;
        let vectors = |all| -> [S::f32s; V] {
            let all = &Vec::as_slice(all)[channels..][..sum.block];
            S::as_simd_f32s(all).0.as_chunks::<V>().0[0]
        };
        let (bias, above, below) = (
            vectors(&sum.bias),
            vectors(&sum.bend.0),
            vectors(&sum.bend.1),
        );
        for first in (0..total).step_by(TILE) {
            // The last tile sums its last place up several times.
            // Loops, since what the methods of arrays take is not compiled for these vectors.
            let mut numbers = [0; TILE];
            let mut inputs = [from; TILE];
            for i in 0..TILE {
                numbers[i] = (first + i).min(total - 1);
                let place = if is_dense {
                    numbers[i] * size
                } else {
                    sum.places[numbers[i]]
                };
                // Of one length, so that one look at a step is enough for all.
                inputs[i] = &from[place..][..sum.span];
            }
            let mut tile = [[A::By::zero(simd); V]; TILE];
            for (&step, taps) in sum.steps.iter().zip(taps) {
                for i in 0..TILE {
                    let value = A::By::splat(simd, inputs[i][step as usize]);
                    for v in 0..V {
                        tile[i][v] = A::By::add(simd, value, taps[v], tile[i][v]);
                    }
                }
            }
            // Nothing here depends on where the tile ends: unrolled, it never leaves the registers.
            for i in 0..TILE {
                let at = numbers[i] * sum.channels + channels;
                let to = &mut S::as_mut_simd_f32s(&mut to[at..][..sum.block]).0[..V];
                for v in 0..V {
                    let value =
                        by.end(simd, tile[i][v], window(numbers[i]), block * V + v, bias[v]);
                    let zero = simd.splat_f32s(0.0);
                    let low = simd.mul_f32s(below[v], simd.min_f32s(value, zero));
                    to[v] = simd.mul_add_e_f32s(above[v], simd.max_f32s(value, zero), low);
                }
            }
        }
    }
}

#[inline(always)]
fn largest<S: Simd>(simd: S, pool: &Pool, from: &[f32], to: &mut [f32]) {
    let vectors = pool.from.channels / S::F32_LANES;
    match (1..=4).rev().find(|v| vectors.is_multiple_of(*v)) {
        Some(4) => largest_of::<S, 4>(simd, pool, from, to),
        Some(3) => largest_of::<S, 3>(simd, pool, from, to),
        Some(2) => largest_of::<S, 2>(simd, pool, from, to),
        _ => largest_of::<S, 1>(simd, pool, from, to),
    }
}

/// Squares at the lower and right border are cut off by it.
#[inline(always)]
fn largest_of<S: Simd, const V: usize>(simd: S, pool: &Pool, from: &[f32], to: &mut [f32]) {
    let Pool {
        size,
        from: shape,
        to: out,
    } = *pool;
    let blocks = shape.channels / (V * S::F32_LANES);
    let row = shape.width * blocks;
    let from = S::as_simd_f32s(from).0.as_chunks::<V>().0;
    let to = S::as_mut_simd_f32s(to).0.as_chunks_mut::<V>().0;
    for (y, to) in to.chunks_exact_mut(out.width * blocks).enumerate() {
        let rows = &from[2 * y * row..(2 * y + size).min(shape.height) * row];
        for (x, to) in to.chunks_exact_mut(blocks).enumerate() {
            let columns = 2 * x * blocks..(2 * x + size).min(shape.width) * blocks;
            for (block, to) in to.iter_mut().enumerate() {
                let mut most = [simd.splat_f32s(f32::NEG_INFINITY); V];
                for row in rows.chunks_exact(row) {
                    for pixel in row[columns.clone()][block..].iter().step_by(blocks) {
                        for v in 0..V {
                            most[v] = simd.max_f32s(pixel[v], most[v]);
                        }
                    }
                }
                *to = most;
            }
        }
    }
}

/// The border of `to` is zero and stays so.
fn middle(shape: Shape, by: usize, from: &[f32], to: &mut [f32]) {
    let row = (shape.width + 2 * by) * shape.channels;
    for (y, from) in from.chunks_exact(shape.row()).enumerate() {
        to[(y + by) * row + by * shape.channels..][..shape.row()].copy_from_slice(from);
    }
}
