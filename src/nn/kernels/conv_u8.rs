//! Convolutions on u8 with i8 weights: i32 accumulators are exact, and rounded as in ONNX Runtime.

use super::{Run, needs_staging};
use crate::nn::pack::{U8_BLOCK, U8Conv};
use crate::nn::simd::{DotU8I8, IntSimd, Kernel, Level};

/// A convolution; `NARROW` if its weights have at most 7 bits.
pub struct Conv<'a, const NARROW: bool> {
    pub conv: &'a U8Conv,
    pub run: Run<'a>,
}

impl<const NARROW: bool> Kernel for Conv<'_, NARROW> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        if NARROW {
            sized::<L::Simd, L::Narrow>(simd, self.conv, self.run);
        } else {
            sized::<L::Simd, L::Wide>(simd, self.conv, self.run);
        }
    }
}

/// Chooses the register tile: as many pixels as the registers hold, or fewer if much of the last tile would be unused.
#[inline(always)]
fn sized<S: IntSimd, D: DotU8I8<S>>(simd: S, conv: &U8Conv, run: Run) {
    let total = run.pixels.len();
    let summed = |tile: usize| total.div_ceil(tile) * tile;
    match S::F32_LANES {
        1 => tiles::<S, D, 2, 8, 32>(simd, conv, run),
        4 => tiles::<S, D, 4, 4, 8>(simd, conv, run),
        8 => tiles::<S, D, 6, 2, 4>(simd, conv, run),
        _ if total == 9 => tiles::<S, D, 9, 2, 2>(simd, conv, run),
        _ if 16 * summed(8) < 15 * summed(12) => tiles::<S, D, 8, 2, 2>(simd, conv, run),
        _ => tiles::<S, D, 12, 2, 2>(simd, conv, run),
    }
}

/// Computes register tiles of `T` pixels by `V` channel vectors; a block has `N` vectors.
#[inline(always)]
fn tiles<S: IntSimd, D: DotU8I8<S>, const T: usize, const V: usize, const N: usize>(
    simd: S,
    conv: &U8Conv,
    mut run: Run,
) {
    let from = if needs_staging(run.op) {
        &run.staged.values[..]
    } else {
        run.inputs[0].words
    };
    let item_len = from.len() / run.inputs[0].count.max(1);
    let zero_point = i32::from(run.result.quantization.map_or(0, |q| q.zero_point));
    let (pixels, channels) = (run.pixels.clone(), run.channels.clone());
    let out = run.out_u8s();
    let windows = &conv.windows;
    let zero = zero_point as f32;
    let (low, high) = (simd.splat_f32s(-zero), simd.splat_f32s(255.0 - zero));
    let len = windows.rows.len() * windows.row_len * N;
    let blocks = S::as_simd_i32s(&conv.weights).0.chunks_exact(len);
    let blocks = blocks.skip(channels.start / U8_BLOCK);
    let blocks = blocks.take(channels.len().div_ceil(U8_BLOCK));
    for (block, weights) in blocks.enumerate() {
        let weights = weights.as_chunks::<N>().0;
        for part in 0..N / V {
            let first_channel = block * U8_BLOCK + part * V * S::F32_LANES;
            if first_channel >= channels.len() {
                break;
            }
            let of_all = channels.start + first_channel..;
            let bias = S::as_simd_i32s(&conv.bias[of_all.clone()][..V * S::F32_LANES]);
            let bias = bias.0.as_chunks::<V>().0[0];
            let scale = S::as_simd_f32s(&conv.scale[of_all][..V * S::F32_LANES]).0;
            for first in pixels.clone().step_by(T) {
                // The last tile computes its last pixel several times. Loops are used because closures passed to array
                // methods are not compiled for the instruction set.
                let mut numbers = [0; T];
                let mut origins = [0; T];
                for i in 0..T {
                    numbers[i] = (first + i).min(pixels.end - 1);
                    let item = numbers[i] / windows.origins.len();
                    origins[i] =
                        item * item_len + windows.origins[numbers[i] % windows.origins.len()];
                }
                let mut tile = [bias; T];
                for (&row, weights) in windows
                    .rows
                    .iter()
                    .zip(weights.chunks_exact(windows.row_len))
                {
                    let len = weights.len();
                    let mut inputs = [from; T];
                    for i in 0..T {
                        inputs[i] = &from[origins[i] + row..][..len];
                    }
                    for step in 0..len {
                        for i in 0..T {
                            let value = D::broadcast(simd, inputs[i][step]);
                            for v in 0..V {
                                let weights = weights[step][part * V + v];
                                tile[i][v] = D::dot(simd, tile[i][v], value, weights);
                            }
                        }
                    }
                }
                // The results have an array of their own, because the loop that stores them is not unrolled and would
                // force the accumulators out of the registers.
                let mut values = [[low; V]; T];
                for i in 0..T {
                    for v in 0..V {
                        values[i][v] = simd.mul_f32s(simd.i32_to_f32(tile[i][v]), scale[v]);
                    }
                }
                for (values, number) in values.iter().zip(numbers) {
                    let to = &mut out[(number - pixels.start) * channels.len()..][..channels.len()];
                    let to = to[first_channel..].chunks_exact_mut(S::F32_LANES);
                    for (value, to) in values.iter().zip(to) {
                        let value = simd.max_f32s(simd.min_f32s(*value, high), low);
                        simd.store_u8(value, zero_point, to);
                    }
                }
            }
        }
    }
}
