//! Convolutions and fully connected layers on float32, computed in float32 or in i16 pairs.

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use super::{Run, needs_staging};
use crate::nn::pack::{FloatConv, I16Weights};
use crate::nn::simd::{F32, I16, IntSimd, Kernel, Level, Products};

/// Pixels in a register tile, for which each weight is loaded once.
const TILE: usize = 6;

/// A layer computed in float32.
pub struct F32Conv<'a> {
    pub conv: &'a FloatConv,
    pub weights: &'a [f32],
    pub run: Run<'a>,
}

impl Kernel for F32Conv<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        let sums = F32Sums {
            from: cast_slice(values(&self.run)),
            weights: self.weights,
        };
        layer(simd, sums, self.conv, self.run);
    }
}

/// A layer computed in i16 pairs.
pub struct I16Conv<'a> {
    pub conv: &'a FloatConv,
    pub weights: &'a I16Weights,
    pub run: Run<'a>,
}

impl Kernel for I16Conv<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        let sums = I16Sums {
            from: values(&self.run),
            scales: &self.run.staged.scales,
            weights: self.weights,
        };
        layer(simd, sums, self.conv, self.run);
    }
}

#[inline(always)]
fn values<'a>(run: &Run<'a>) -> &'a [i32] {
    match needs_staging(run.op) {
        true => &run.staged.values,
        false => run.inputs[0].words,
    }
}

/// Inputs and weights of a layer, and the conversion of its accumulators to outputs.
trait Sums<S: Simd>: Copy {
    type By: Products<S>;

    fn from(&self) -> &[<Self::By as Products<S>>::Value];
    fn weights(&self) -> &[<Self::By as Products<S>>::Value];
    /// Converts an accumulator of an item to float32 and adds the bias, for one vector of output channels.
    fn end(
        self,
        simd: S,
        acc: <Self::By as Products<S>>::Acc,
        item: usize,
        vector: usize,
        bias: S::f32s,
    ) -> S::f32s;
}

#[derive(Clone, Copy)]
struct F32Sums<'a> {
    from: &'a [f32],
    weights: &'a [f32],
}

impl<S: Simd> Sums<S> for F32Sums<'_> {
    type By = F32;

    #[inline(always)]
    fn from(&self) -> &[f32] {
        self.from
    }

    #[inline(always)]
    fn weights(&self) -> &[f32] {
        self.weights
    }

    #[inline(always)]
    fn end(self, simd: S, acc: S::f32s, _: usize, _: usize, bias: S::f32s) -> S::f32s {
        simd.add_f32s(acc, bias)
    }
}

#[derive(Clone, Copy)]
struct I16Sums<'a> {
    from: &'a [i32],
    scales: &'a [f32],
    weights: &'a I16Weights,
}

impl<S: IntSimd> Sums<S> for I16Sums<'_> {
    type By = I16;

    #[inline(always)]
    fn from(&self) -> &[i32] {
        self.from
    }

    #[inline(always)]
    fn weights(&self) -> &[i32] {
        &self.weights.pairs
    }

    #[inline(always)]
    fn end(self, simd: S, acc: S::i32s, item: usize, vector: usize, bias: S::f32s) -> S::f32s {
        let scale = S::as_simd_f32s(&self.weights.scales).0[vector];
        let scale = simd.mul_f32s(scale, simd.splat_f32s(self.scales[item]));
        simd.mul_add_e_f32s(simd.i32_to_f32(acc), scale, bias)
    }
}

#[inline(always)]
fn layer<S: Simd, A: Sums<S>>(simd: S, by: A, conv: &FloatConv, run: Run) {
    match conv.block / S::F32_LANES {
        1 => sized::<S, A, 1>(simd, by, conv, run),
        2 => sized::<S, A, 2>(simd, by, conv, run),
        3 => sized::<S, A, 3>(simd, by, conv, run),
        4 => sized::<S, A, 4>(simd, by, conv, run),
        _ => sized::<S, A, 16>(simd, by, conv, run),
    }
}

/// Uses a tile of one pixel if there is only one, as in a fully connected layer of one item.
#[inline(always)]
fn sized<S: Simd, A: Sums<S>, const V: usize>(simd: S, by: A, conv: &FloatConv, run: Run) {
    match run.pixels.len() {
        1 => tiles::<S, A, V, 1>(simd, by, conv, run),
        _ => tiles::<S, A, V, TILE>(simd, by, conv, run),
    }
}

/// Computes register tiles of `V` channel vectors by `T` pixels.
#[inline(always)]
fn tiles<S: Simd, A: Sums<S>, const V: usize, const T: usize>(
    simd: S,
    by: A,
    conv: &FloatConv,
    mut run: Run,
) {
    let count = run.inputs[0].count;
    let pixels = run.pixels.clone();
    let from = by.from();
    let item_len = from.len() / count.max(1);
    let origins = &conv.windows.origins[..];
    // The common cases avoid the division, which for each pixel would cost as much as a small layer.
    let locate = |pixel: usize| match (origins.len(), count) {
        (1, _) => (pixel, origins[0]),
        (_, 1) => (0, origins[pixel]),
        (each, _) => (pixel / each, origins[pixel % each]),
    };
    let (span, offsets) = (conv.windows.span(), &conv.windows.offsets[..]);
    let out = run.out_f32s();
    let blocks = conv.channels / conv.block;
    let len = offsets.len() * V;
    for block in 0..blocks {
        let weights = A::By::vectors(by.weights());
        let weights = weights[block * len..][..len].as_chunks::<V>().0;
        let channels = block * conv.block;
        let vectors = |all: &[f32]| -> [S::f32s; V] {
            S::as_simd_f32s(&all[channels..][..conv.block])
                .0
                .as_chunks::<V>()
                .0[0]
        };
        let (bias, above, below) = (
            vectors(&conv.bias),
            vectors(&conv.slopes.above),
            vectors(&conv.slopes.below),
        );
        for first in pixels.clone().step_by(T) {
            // The last tile computes its last pixel several times. Loops are used because closures passed to array
            // methods are not compiled for the instruction set.
            let mut numbers = [0; T];
            let mut items = [0; T];
            let mut inputs = [from; T];
            for i in 0..T {
                numbers[i] = (first + i).min(pixels.end - 1);
                let (item, origin) = locate(numbers[i]);
                items[i] = item;
                // All slices have the same length, so that one bounds check of an offset covers them all.
                inputs[i] = &from[item * item_len + origin..][..span];
            }
            let mut tile = [[A::By::zero(simd); V]; T];
            for (&offset, weights) in offsets.iter().zip(weights) {
                for i in 0..T {
                    let value = A::By::splat(simd, inputs[i][offset as usize]);
                    for v in 0..V {
                        tile[i][v] = A::By::mul_add(simd, value, weights[v], tile[i][v]);
                    }
                }
            }
            // The bounds are constant, so that the loops are unrolled and the tile stays in registers.
            for i in 0..T {
                let at = (numbers[i] - pixels.start) * conv.channels + channels;
                let to = &mut S::as_mut_simd_f32s(&mut out[at..][..conv.block]).0[..V];
                for v in 0..V {
                    let value = by.end(simd, tile[i][v], items[i], block * V + v, bias[v]);
                    let zero = simd.splat_f32s(0.0);
                    let low = simd.mul_f32s(below[v], simd.min_f32s(value, zero));
                    to[v] = simd.mul_add_e_f32s(above[v], simd.max_f32s(value, zero), low);
                }
            }
        }
    }
}
