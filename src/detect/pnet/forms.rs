//! What lies between the layers, and how it is summed up: numbers, or pairs of integers.

use pulp::Simd;

use super::Rings;
use super::weights::Weights;
use crate::detect::pairs::Pairs;

/// Layers are counted from 0; only the first one reads pixels and has sums of its own.
pub trait Form<S: Simd>: Copy {
    /// Of so many channels side by side.
    type Value: Copy + Default;
    const CHANNELS: usize;
    type Sums: Copy;

    /// After the first layer and after the second one.
    fn rings(rings: &mut Rings) -> &mut [Vec<Self::Value>; 2];
    /// The weights of a layer, in vectors of the output's channels.
    fn taps(&self, layer: usize) -> &[Self::Sums];
    fn zero(self, simd: S) -> Self::Sums;
    fn splat(self, simd: S, value: Self::Value) -> Self::Sums;
    fn add(self, simd: S, value: Self::Sums, taps: Self::Sums, sums: Self::Sums) -> Self::Sums;
    /// With the bias, in vector `v` of a layer's channels.
    fn end(self, simd: S, layer: usize, sums: Self::Sums, v: usize) -> S::f32s;
    /// What comes out of a layer for one column. What follows it in `to` may be overwritten, up to a block's length.
    fn store<const V: usize>(
        self,
        simd: S,
        layer: usize,
        values: [S::f32s; V],
        to: &mut [Self::Value],
    );
}

#[derive(Clone, Copy)]
pub struct Numbers<'a>(pub &'a Weights);

impl<S: Simd> Form<S> for Numbers<'_> {
    type Value = f32;
    const CHANNELS: usize = 1;
    type Sums = S::f32s;

    #[inline(always)]
    fn rings(rings: &mut Rings) -> &mut [Vec<f32>; 2] {
        &mut rings.numbers
    }

    #[inline(always)]
    fn taps(&self, layer: usize) -> &[S::f32s] {
        S::as_simd_f32s(&self.0.taps[layer - 1]).0
    }

    #[inline(always)]
    fn zero(self, simd: S) -> S::f32s {
        simd.splat_f32s(0.0)
    }

    #[inline(always)]
    fn splat(self, simd: S, value: f32) -> S::f32s {
        simd.splat_f32s(value)
    }

    #[inline(always)]
    fn add(self, simd: S, value: S::f32s, taps: S::f32s, sums: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(value, taps, sums)
    }

    #[inline(always)]
    fn end(self, simd: S, layer: usize, sums: S::f32s, v: usize) -> S::f32s {
        let bias = S::as_simd_f32s(&self.0.bends[layer].bias).0;
        simd.add_f32s(sums, bias[v])
    }

    #[inline(always)]
    fn store<const V: usize>(self, _: S, _: usize, values: [S::f32s; V], to: &mut [f32]) {
        let to = S::as_mut_simd_f32s(&mut to[..V * S::F32_LANES]).0;
        to.copy_from_slice(&values);
    }
}

#[derive(Clone, Copy)]
pub struct Whole<'a>(pub &'a Weights);

impl<S: Pairs> Form<S> for Whole<'_> {
    type Value = i32;
    const CHANNELS: usize = 2;
    type Sums = S::i32s;

    #[inline(always)]
    fn rings(rings: &mut Rings) -> &mut [Vec<i32>; 2] {
        &mut rings.pairs
    }

    #[inline(always)]
    fn taps(&self, layer: usize) -> &[S::i32s] {
        S::as_simd_i32s(&self.0.pairs[layer - 1].taps).0
    }

    #[inline(always)]
    fn zero(self, simd: S) -> S::i32s {
        simd.splat_i32s(0)
    }

    #[inline(always)]
    fn splat(self, simd: S, value: i32) -> S::i32s {
        simd.splat_i32s(value)
    }

    #[inline(always)]
    fn add(self, simd: S, value: S::i32s, taps: S::i32s, sums: S::i32s) -> S::i32s {
        simd.add_pairs(value, taps, sums)
    }

    #[inline(always)]
    fn end(self, simd: S, layer: usize, sums: S::i32s, v: usize) -> S::f32s {
        let bias = S::as_simd_f32s(&self.0.bends[layer].bias).0;
        let worth = S::as_simd_f32s(&self.0.pairs[layer - 1].worth).0;
        simd.mul_add_e_f32s(simd.numbers(sums), worth[v], bias[v])
    }

    #[inline(always)]
    fn store<const V: usize>(self, simd: S, layer: usize, values: [S::f32s; V], to: &mut [i32]) {
        let scale = simd.splat_f32s(self.0.pairs[layer].scale);
        let to = S::as_mut_simd_i32s(&mut to[..V.div_ceil(2) * S::F32_LANES]).0;
        for (i, to) in to.iter_mut().enumerate() {
            // A lone vector fills half of the pairs.
            let second = if 2 * i + 1 < V {
                simd.mul_f32s(values[2 * i + 1], scale)
            } else {
                simd.splat_f32s(0.0)
            };
            *to = simd.pairs(simd.mul_f32s(values[2 * i], scale), second);
        }
    }
}
