//! The arithmetic of the layers, for vectors of any length.

use pulp::{Simd, WithSimd};

use super::{Operation, Pool, Shape, Sum};

/// Places that are worked on together: what they share of the weights is read once.
const TILE: usize = 6;

/// How many numbers a vector of this CPU has.
pub struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// One operation for `count` windows.
pub struct Run<'a> {
    pub operation: &'a Operation,
    pub from: &'a [f32],
    /// The second input, of what has two.
    pub other: &'a [f32],
    pub to: &'a mut [f32],
    pub count: usize,
}

impl WithSimd for Run<'_> {
    type Output = ();

    // All that is called from here must be inlined to be compiled for the vectors of `S`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            operation,
            from,
            other,
            to,
            count,
        } = self;
        match operation {
            Operation::Sum(sum) => match sum.block / S::F32_LANES {
                1 => sums::<S, 1>(simd, sum, from, to, count),
                2 => sums::<S, 2>(simd, sum, from, to, count),
                3 => sums::<S, 3>(simd, sum, from, to, count),
                4 => sums::<S, 4>(simd, sum, from, to, count),
                _ => sums::<S, 16>(simd, sum, from, to, count),
            },
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

/// A convolution in one window, or a dense layer, which has one place, in `count`.
#[inline(always)]
fn sums<S: Simd, const V: usize>(simd: S, sum: &Sum, from: &[f32], to: &mut [f32], count: usize) {
    let window = from.len() / count.max(1);
    let total = if sum.places.len() == 1 {
        count
    } else {
        sum.places.len()
    };
    let place = |number: usize| match sum.places[..] {
        [place] => place + number.min(total - 1) * window,
        ref places => places[number.min(total - 1)],
    };
    let blocks = sum.channels / sum.block;
    let length = sum.rows * sum.run * sum.block;
    for block in 0..blocks {
        let taps = &sum.taps[block * length..][..length];
        let channels = block * sum.block..(block + 1) * sum.block;
        let bias = S::as_simd_f32s(&sum.bias[channels.clone()]).0;
        for first in (0..total).step_by(TILE) {
            // The last tile sums its last place up several times.
            let places: [usize; TILE] = std::array::from_fn(|i| place(first + i));
            let mut tile = [[simd.splat_f32s(0.0); V]; TILE];
            for sums in &mut tile {
                sums.copy_from_slice(&bias[..V]);
            }
            for row in 0..sum.rows {
                let [a, b, c, d, e, f] = places.map(|p| &from[p + row * sum.stride..][..sum.run]);
                let taps = &taps[row * sum.run * sum.block..][..sum.run * sum.block];
                let taps = S::as_simd_f32s(taps).0.as_chunks::<V>().0;
                let values = a.iter().zip(b).zip(c.iter().zip(d)).zip(e.iter().zip(f));
                for (taps, (((a, b), (c, d)), (e, f))) in taps.iter().zip(values) {
                    let values = [a, b, c, d, e, f];
                    for i in 0..TILE {
                        let value = simd.splat_f32s(*values[i]);
                        for v in 0..V {
                            tile[i][v] = simd.mul_add_e_f32s(value, taps[v], tile[i][v]);
                        }
                    }
                }
            }
            let bend = sum.bend.as_ref().map(|(above, below)| {
                let slopes = |all| S::as_simd_f32s(&Vec::as_slice(all)[channels.clone()]).0;
                (slopes(above), slopes(below))
            });
            // Unrolled, or the tile would live in memory.
            for (i, sums) in tile.iter().enumerate() {
                let at = (first + i) * sum.channels;
                let Some(to) = to.get_mut(at + channels.start..at + channels.end) else {
                    break;
                };
                for (v, to) in S::as_mut_simd_f32s(to).0.iter_mut().enumerate().take(V) {
                    *to = sums[v];
                    if let Some((above, below)) = bend {
                        let zero = simd.splat_f32s(0.0);
                        let low = simd.mul_f32s(below[v], simd.min_f32s(*to, zero));
                        *to = simd.mul_add_e_f32s(above[v], simd.max_f32s(*to, zero), low);
                    }
                }
            }
        }
    }
}

/// Squares at the lower and right border are cut off by it.
#[inline(always)]
fn largest<S: Simd>(simd: S, pool: &Pool, from: &[f32], to: &mut [f32]) {
    let Pool {
        size,
        from: shape,
        to: out,
    } = *pool;
    for (y, row) in to.chunks_exact_mut(out.row()).enumerate() {
        for (x, to) in row.chunks_exact_mut(out.channels).enumerate() {
            let to = S::as_mut_simd_f32s(to).0;
            let pixel = |x: usize, y: usize| {
                S::as_simd_f32s(&from[(y * shape.width + x) * shape.channels..][..shape.channels]).0
            };
            to.copy_from_slice(pixel(2 * x, 2 * y));
            for y in 2 * y..(2 * y + size).min(shape.height) {
                for x in 2 * x..(2 * x + size).min(shape.width) {
                    for (to, from) in to.iter_mut().zip(pixel(x, y)) {
                        *to = simd.max_f32s(*to, *from);
                    }
                }
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
