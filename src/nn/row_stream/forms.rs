//! Format of the values between the layers, and arithmetic on them: float32, or i16 pairs.

use pulp::Simd;

use super::Rings;
use super::pack::Weights;
use crate::nn::simd::{F32, I16, IntSimd, Products};

pub type Value<S, F> = <<F as Form<S>>::By as Products<S>>::Value;
pub type Acc<S, F> = <<F as Form<S>>::By as Products<S>>::Acc;

/// A format of values. Layers are counted from 0; only layer 0 reads pixels, and it has its own accumulation.
pub trait Form<S: Simd>: Copy {
    type By: Products<S>;
    /// Number of channels per value.
    const CHANNELS: usize;

    /// Ring buffers after the first and the second layer.
    fn rings(rings: &mut Rings) -> &mut [Vec<Value<S, Self>>; 2];
    /// Weights of a layer, in vectors of output channels.
    fn weights(&self, layer: usize) -> &[Acc<S, Self>];
    /// Converts an accumulator to float32 and adds the bias, for vector `v` of a layer's channels.
    fn end(self, simd: S, layer: usize, acc: Acc<S, Self>, v: usize) -> S::f32s;
    /// Stores the output of a layer for one column. Values after it in `to` may be overwritten, up to a block's length.
    fn store<const V: usize>(
        self,
        simd: S,
        layer: usize,
        values: [S::f32s; V],
        to: &mut [Value<S, Self>],
    );
}

#[derive(Clone, Copy)]
pub struct F32Form<'a>(pub &'a Weights);

impl<S: Simd> Form<S> for F32Form<'_> {
    type By = F32;
    const CHANNELS: usize = 1;

    #[inline(always)]
    fn rings(rings: &mut Rings) -> &mut [Vec<f32>; 2] {
        &mut rings.f32
    }

    #[inline(always)]
    fn weights(&self, layer: usize) -> &[S::f32s] {
        S::as_simd_f32s(&self.0.f32[layer - 1]).0
    }

    #[inline(always)]
    fn end(self, simd: S, layer: usize, acc: S::f32s, v: usize) -> S::f32s {
        let bias = S::as_simd_f32s(&self.0.activations[layer].bias).0;
        simd.add_f32s(acc, bias[v])
    }

    #[inline(always)]
    fn store<const V: usize>(self, _: S, _: usize, values: [S::f32s; V], to: &mut [f32]) {
        let to = S::as_mut_simd_f32s(&mut to[..V * S::F32_LANES]).0;
        to.copy_from_slice(&values);
    }
}

#[derive(Clone, Copy)]
pub struct I16Form<'a>(pub &'a Weights);

impl<S: IntSimd> Form<S> for I16Form<'_> {
    type By = I16;
    const CHANNELS: usize = 2;

    #[inline(always)]
    fn rings(rings: &mut Rings) -> &mut [Vec<i32>; 2] {
        &mut rings.i16
    }

    #[inline(always)]
    fn weights(&self, layer: usize) -> &[S::i32s] {
        S::as_simd_i32s(&self.0.i16[layer - 1].pairs).0
    }

    #[inline(always)]
    fn end(self, simd: S, layer: usize, acc: S::i32s, v: usize) -> S::f32s {
        let bias = S::as_simd_f32s(&self.0.activations[layer].bias).0;
        let scales = S::as_simd_f32s(&self.0.i16[layer - 1].scales).0;
        simd.mul_add_e_f32s(simd.i32_to_f32(acc), scales[v], bias[v])
    }

    #[inline(always)]
    fn store<const V: usize>(self, simd: S, layer: usize, values: [S::f32s; V], to: &mut [i32]) {
        let scale = simd.splat_f32s(self.0.i16[layer].scale);
        let to = S::as_mut_simd_i32s(&mut to[..V.div_ceil(2) * S::F32_LANES]).0;
        for (i, to) in to.iter_mut().enumerate() {
            // A single vector fills only half of the pairs.
            let second = if 2 * i + 1 < V {
                simd.mul_f32s(values[2 * i + 1], scale)
            } else {
                simd.splat_f32s(0.0)
            };
            *to = simd.pack_i16(simd.mul_f32s(values[2 * i], scale), second);
        }
    }
}
