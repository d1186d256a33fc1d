//! Elementwise kernels, which the compiler vectorises.

use super::{Input, Run};
use crate::nn::fused::{Quantization, Slopes};

/// 1.5 · 2²³: float32 around it has no fraction, and its lowest bits are an integer. Rounding by adding it is
/// vectorised, whereas `round_ties_even` is compiled to function calls.
const ROUND_MAGIC: f32 = 12_582_912.0;

/// Rounds, ties to even, and clamps to 0…255.
#[inline(always)]
pub fn to_u8(value: f32) -> u8 {
    let value = if value > 0.0 { value } else { 0.0 };
    let value = if value < 255.0 { value } else { 255.0 };
    (value + ROUND_MAGIC).to_bits() as u8
}

/// Rounds to an integer, ties to even; for values not far beyond 22 bits.
#[inline(always)]
pub fn round(value: f32) -> f32 {
    (value + ROUND_MAGIC) - ROUND_MAGIC
}

/// Quantises images to u8; three channels are padded to four with the zero point.
#[inline(always)]
pub fn quantize(mut run: Run) {
    let Some(Quantization { scale, zero_point }) = run.result.quantization else {
        return;
    };
    let Input { buffer, .. } = run.inputs[0];
    let pixels = run.pixels.start * buffer.stride..run.pixels.end * buffer.stride;
    let from = &run.inputs[0].f32s()[pixels];
    let convert = |value: f32| to_u8(round(value / scale) + f32::from(zero_point));
    if buffer.stride == run.result.stride {
        for (to, &value) in run.out_u8s().iter_mut().zip(from) {
            *to = convert(value);
        }
        return;
    }
    // Pixels are converted in chunks so that the compiler vectorises the conversion.
    const PIXELS: usize = 64;
    let mut bytes = [0; 3 * PIXELS];
    for (from, to) in from.chunks(3 * PIXELS).zip(run.out.chunks_mut(PIXELS)) {
        for (byte, &value) in bytes.iter_mut().zip(from) {
            *byte = convert(value);
        }
        for (&[r, g, b], to) in bytes.as_chunks::<3>().0.iter().zip(to) {
            *to = i32::from_le_bytes([r, g, b, zero_point]);
        }
    }
}

#[inline(always)]
pub fn dequantize(mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let Some(Quantization { scale, zero_point }) = buffer.quantization else {
        return;
    };
    let (channels, stride) = (buffer.stride, run.result.stride);
    let from = run.inputs[0].u8s().chunks_exact(channels);
    for (from, to) in from.zip(run.out_f32s().chunks_exact_mut(stride)) {
        to[channels..].fill(0.0);
        for (to, &byte) in to.iter_mut().zip(from) {
            *to = (f32::from(byte) - f32::from(zero_point)) * scale;
        }
    }
}

/// Concatenates the channels of all inputs, each requantised by its table.
#[inline(always)]
pub fn concat(tables: &[[u8; 256]], mut run: Run) {
    let stride = run.result.stride;
    let pixels = run.pixels.clone();
    let inputs = run.inputs;
    let mut first = 0;
    for (input, table) in inputs.iter().zip(tables) {
        let channels = input.buffer.stride;
        let from = &input.u8s()[pixels.start * channels..pixels.end * channels];
        let to = run.out_u8s().chunks_exact_mut(stride);
        for (from, to) in from.chunks_exact(channels).zip(to) {
            for (to, &from) in to[first..].iter_mut().zip(from) {
                *to = table[usize::from(from)];
            }
        }
        first += channels;
    }
}

#[inline(always)]
pub fn add(mut run: Run) {
    let [a, b, ..] = run.inputs;
    let Some(output) = run.result.quantization else {
        for ((to, a), b) in run.out_f32s().iter_mut().zip(a.f32s()).zip(b.f32s()) {
            *to = a + b;
        }
        return;
    };
    let (Some(qa), Some(qb)) = (a.buffer.quantization, b.buffer.quantization) else {
        return;
    };
    let (a_scale, b_scale) = (qa.scale / output.scale, qb.scale / output.scale);
    let zeros = a_scale * f32::from(qa.zero_point) + b_scale * f32::from(qb.zero_point);
    let fixed = f32::from(output.zero_point) - zeros;
    let all = run.pixels.start * run.result.stride..run.pixels.end * run.result.stride;
    let (a, b) = (&a.u8s()[all.clone()], &b.u8s()[all]);
    for ((to, &a), &b) in run.out_u8s().iter_mut().zip(a).zip(b) {
        let sum = f32::from(b).mul_add(b_scale, f32::from(a).mul_add(a_scale, fixed));
        *to = to_u8(sum);
    }
}

#[inline(always)]
pub fn slopes(slopes: &Slopes, mut run: Run) {
    let channels = run.result.stride;
    let from = run.inputs[0].f32s().chunks_exact(channels);
    for (from, to) in from.zip(run.out_f32s().chunks_exact_mut(channels)) {
        let slopes = slopes.above.iter().zip(&slopes.below);
        for ((from, to), (above, below)) in from.iter().zip(to).zip(slopes) {
            *to = above * from.max(0.0) + below * from.min(0.0);
        }
    }
}

/// Softmax over the channels of each pixel.
#[inline(always)]
pub fn softmax(mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let from = run.inputs[0].f32s().chunks_exact(buffer.stride);
    for (from, to) in from.zip(run.out_f32s().chunks_exact_mut(buffer.stride)) {
        let from = &from[..buffer.channels];
        let most = from.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        to.fill(0.0);
        let to = &mut to[..buffer.channels];
        for (to, from) in to.iter_mut().zip(from) {
            *to = (from - most).exp();
        }
        let sum: f32 = to.iter().sum();
        for to in to {
            *to /= sum;
        }
    }
}

/// Copies the channels of each pixel from `first` on.
#[inline(always)]
pub fn slice(first: usize, mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let (channels, stride) = (run.result.channels, run.result.stride);
    let from = run.inputs[0].f32s().chunks_exact(buffer.stride);
    for (from, to) in from.zip(run.out_f32s().chunks_exact_mut(stride)) {
        to[channels..].fill(0.0);
        to[..channels].copy_from_slice(&from[first..first + channels]);
    }
}

/// Divides each row by its Euclidean length, or by `floor` if that is larger.
#[inline(always)]
pub fn l2_normalize(floor: f32, mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let from = run.inputs[0].f32s().chunks_exact(buffer.stride);
    for (from, to) in from.zip(run.out_f32s().chunks_exact_mut(buffer.stride)) {
        let sum: f32 = from[..buffer.channels].iter().map(|v| v * v).sum();
        let length = sum.sqrt().max(floor);
        for (to, from) in to.iter_mut().zip(from) {
            *to = from / length;
        }
    }
}
