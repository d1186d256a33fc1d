//! The arithmetic of the steps, for vectors of any length.

use std::ops::Range;

use pulp::bytemuck::cast_slice;

use super::{BLOCK, Border, Conv, Operation, Pool, Tensor};
use crate::simd::cpu::QuadTask;
use crate::simd::pairs::{Pairs, Quads};

/// Numbers of the output that the last layer works on together.
pub const COLUMNS: usize = 64;

/// A part of a step.
pub struct Run<'a> {
    pub operation: &'a Operation,
    pub inputs: &'a [Input<'a>],
    pub result: &'a Tensor,
    /// Of those of all pictures, one behind the other.
    pub pixels: Range<usize>,
    /// From a whole block on.
    pub channels: Range<usize>,
    /// `[pixels, channels]`
    pub to: &'a mut [u8],
}

/// A tensor, and its bytes in so many pictures; with its border where a convolution needs one.
pub struct Input<'a> {
    pub tensor: &'a Tensor,
    pub quads: &'a [i32],
    pub count: usize,
}

impl<'a> Input<'a> {
    /// Of all channels.
    fn pixels(&self, pixels: &Range<usize>) -> &'a [u8] {
        let channels = self.tensor.channels;
        &cast_slice(self.quads)[pixels.start * channels..pixels.end * channels]
    }
}

impl QuadTask for Run<'_> {
    // All that is called from here must be inlined to be compiled for the vectors of `S`.
    #[inline(always)]
    fn by_quads<S: Pairs, Q: Quads<S>>(self, simd: S) {
        let input = &self.inputs[0];
        match self.operation {
            Operation::Conv(conv) => sums::<S, Q>(simd, conv, self),
            Operation::Pool(pool) => largest(pool, input, self.result, self.pixels, self.to),
            Operation::Concat(tables) => {
                let mut first = 0;
                for (input, table) in self.inputs.iter().zip(tables) {
                    let channels = input.tensor.channels;
                    let from = input.pixels(&self.pixels).chunks_exact(channels);
                    let to = self.to.chunks_exact_mut(self.result.channels);
                    for (from, to) in from.zip(to) {
                        for (to, &from) in to[first..].iter_mut().zip(from) {
                            *to = table[usize::from(from)];
                        }
                    }
                    first += channels;
                }
            }
            Operation::Add => {
                let inputs = [input, &self.inputs[1]];
                let inputs = inputs.map(|i| (i.tensor, i.pixels(&self.pixels)));
                add(inputs, self.result, self.to);
            }
            Operation::Average => average(input, self.result, self.pixels, self.to),
        }
    }
}

/// Copies pictures into the middle of larger ones.
pub fn surround(from: &Input, border: &Border, to: &mut Vec<i32>) {
    let &Input {
        tensor,
        quads,
        count,
    } = from;
    let groups = tensor.channels / 4;
    let (row, wide) = (tensor.width * groups, border.width * groups);
    to.clear();
    to.resize(
        count * border.height * wide,
        i32::from_ne_bytes([tensor.zero; 4]),
    );
    let pictures = quads.chunks_exact(tensor.height * row);
    for (from, to) in pictures.zip(to.chunks_exact_mut(border.height * wide)) {
        let rows = to.chunks_exact_mut(wide).skip(border.top);
        for (from, to) in from.chunks_exact(row).zip(rows) {
            to[border.left * groups..][..row].copy_from_slice(from);
        }
    }
}

/// With as many pixels at a time as the registers hold, or fewer where many of a last tile would be of no use.
#[inline(always)]
fn sums<S: Pairs, Q: Quads<S>>(simd: S, conv: &Conv, run: Run) {
    let total = run.pixels.len();
    let worked_on = |tile: usize| total.div_ceil(tile) * tile;
    if S::F32_LANES < 16 {
        tiles::<S, Q, 6, 2, 4>(simd, conv, run);
    } else if total == 9 {
        tiles::<S, Q, 9, 2, 2>(simd, conv, run);
    } else if 16 * worked_on(8) < 15 * worked_on(12) {
        tiles::<S, Q, 8, 2, 2>(simd, conv, run);
    } else {
        tiles::<S, Q, 12, 2, 2>(simd, conv, run);
    }
}

/// `T` pixels at a time, `V` vectors of channels each; a block has `N` vectors.
#[inline(always)]
fn tiles<S: Pairs, Q: Quads<S>, const T: usize, const V: usize, const N: usize>(
    simd: S,
    conv: &Conv,
    run: Run,
) {
    let Run {
        inputs,
        result,
        pixels,
        channels,
        to,
        ..
    } = run;
    let (from, size) = (inputs[0].quads, inputs[0].quads.len() / inputs[0].count);
    let zero = f32::from(result.zero);
    let (low, high) = (simd.splat_f32s(-zero), simd.splat_f32s(255.0 - zero));
    let length = conv.rows.len() * conv.length * N;
    let blocks = S::as_simd_i32s(&conv.taps).0.chunks_exact(length);
    let blocks = blocks.skip(channels.start / BLOCK);
    let blocks = blocks.take(channels.len().div_ceil(BLOCK));
    for (block, taps) in blocks.enumerate() {
        let taps = taps.as_chunks::<N>().0;
        for part in 0..N / V {
            let first_channel = block * BLOCK + part * V * S::F32_LANES;
            if first_channel >= channels.len() {
                break;
            }
            let of_all = channels.start + first_channel..;
            let bias = S::as_simd_i32s(&conv.bias[of_all.clone()][..V * S::F32_LANES]);
            let bias = bias.0.as_chunks::<V>().0[0];
            let scale = S::as_simd_f32s(&conv.scale[of_all][..V * S::F32_LANES]).0;
            for first in pixels.clone().step_by(T) {
                // The last tile sums its last pixel up several times.
                // Loops, since what the methods of arrays take is not compiled for these vectors.
                let mut numbers = [0; T];
                let mut places = [0; T];
                for i in 0..T {
                    numbers[i] = (first + i).min(pixels.end - 1);
                    let picture = numbers[i] / conv.places.len();
                    places[i] = picture * size + conv.places[numbers[i] % conv.places.len()];
                }
                let mut tile = [bias; T];
                for (&row, taps) in conv.rows.iter().zip(taps.chunks_exact(conv.length)) {
                    let length = taps.len();
                    let mut inputs = [from; T];
                    for i in 0..T {
                        inputs[i] = &from[places[i] + row..][..length];
                    }
                    for step in 0..length {
                        for i in 0..T {
                            let value = simd.splat_i32s(inputs[i][step]);
                            for v in 0..V {
                                let taps = taps[step][part * V + v];
                                tile[i][v] = Q::add(simd, value, taps, tile[i][v]);
                            }
                        }
                    }
                }
                // Elsewhere, so that the sums themselves never leave the registers: the loop below is not unrolled.
                let mut values = [[low; V]; T];
                for i in 0..T {
                    for v in 0..V {
                        values[i][v] = simd.mul_f32s(simd.numbers(tile[i][v]), scale[v]);
                    }
                }
                for (values, number) in values.iter().zip(numbers) {
                    let to = &mut to[(number - pixels.start) * channels.len()..][..channels.len()];
                    let to = to[first_channel..].chunks_exact_mut(S::F32_LANES);
                    for (value, to) in values.iter().zip(to) {
                        let value = simd.max_f32s(simd.min_f32s(*value, high), low);
                        simd.bytes(value, i32::from(result.zero), to);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn largest(pool: &Pool, input: &Input, result: &Tensor, pixels: Range<usize>, to: &mut [u8]) {
    let channels = input.tensor.channels;
    let row = input.tensor.width * channels;
    let from: &[u8] = cast_slice(input.quads);
    for (pixel, to) in pixels.zip(to.chunks_exact_mut(channels)) {
        let (y, x) = (pixel / result.width, pixel % result.width);
        let (picture, y) = (y / result.height, y % result.height);
        let first = picture * input.tensor.len() + y * pool.stride * row;
        to.fill(0);
        for row in from[first..][..pool.size * row].chunks_exact(row) {
            let pixels = &row[x * pool.stride * channels..][..pool.size * channels];
            for pixel in pixels.chunks_exact(channels) {
                for (to, &from) in to.iter_mut().zip(pixel) {
                    *to = (*to).max(from);
                }
            }
        }
    }
}

#[inline(always)]
fn add(inputs: [(&Tensor, &[u8]); 2], result: &Tensor, to: &mut [u8]) {
    let [(a, first), (b, second)] = inputs;
    let (a_scale, b_scale) = (a.scale / result.scale, b.scale / result.scale);
    let fixed =
        f32::from(result.zero) - (a_scale * f32::from(a.zero) + b_scale * f32::from(b.zero));
    for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
        let sum = f32::from(b).mul_add(b_scale, f32::from(a).mul_add(a_scale, fixed));
        *to = byte(sum);
    }
}

/// A pixel is a picture.
#[inline(always)]
fn average(input: &Input, result: &Tensor, pixels: Range<usize>, to: &mut [u8]) {
    let tensor = input.tensor;
    let each = tensor.height * tensor.width;
    let scale = tensor.scale / (result.scale * each as f32);
    let (zero, all) = (f32::from(result.zero), each as i32 * i32::from(tensor.zero));
    let from = input.pixels(&(pixels.start * each..pixels.end * each));
    let pictures = from.chunks_exact(tensor.len());
    for (from, to) in pictures.zip(to.chunks_exact_mut(result.len())) {
        for (channel, to) in to.iter_mut().enumerate() {
            let values = from[channel..].iter().step_by(tensor.channels);
            let sum: i32 = values.map(|&v| i32::from(v)).sum::<i32>() - all;
            *to = byte(round(sum as f32 * scale) + zero);
        }
    }
}

/// Around this float32 has no fractions, and its lowest bits are an integer. The compiler makes vectors of what uses it,
/// and calls of `round_ties_even`.
const HEIGHT: f32 = 12_582_912.0;

/// Rounds, ties to even, and keeps to 0…255.
#[inline(always)]
fn byte(value: f32) -> u8 {
    let value = if value > 0.0 { value } else { 0.0 };
    let value = if value < 255.0 { value } else { 255.0 };
    (value + HEIGHT).to_bits() as u8
}

/// To an integer, ties to even: for what is not far beyond 22 bits.
#[inline(always)]
fn round(value: f32) -> f32 {
    (value + HEIGHT) - HEIGHT
}

/// The picture in bytes, with a fourth channel of nothing.
pub struct First<'a> {
    pub pictures: &'a [f32],
    pub tensor: &'a Tensor,
    pub to: &'a mut [i32],
    /// Room for the bytes without the fourth channel.
    pub bytes: &'a mut Vec<u8>,
}

impl QuadTask for First<'_> {
    #[inline(always)]
    fn by_quads<S: Pairs, Q: Quads<S>>(self, _: S) {
        let Tensor { scale, zero, .. } = *self.tensor;
        self.bytes.resize(self.pictures.len(), 0);
        for (to, value) in self.bytes.iter_mut().zip(self.pictures) {
            *to = byte(round(value / scale) + f32::from(zero));
        }
        let pixels = self.bytes.as_chunks::<3>().0;
        for (&[r, g, b], to) in pixels.iter().zip(self.to) {
            *to = i32::from_le_bytes([r, g, b, zero]);
        }
    }
}

/// The last layer.
pub struct Last<'a> {
    pub features: &'a [f32],
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub output: &'a mut [f32],
}

impl QuadTask for Last<'_> {
    #[inline(always)]
    fn by_quads<S: Pairs, Q: Quads<S>>(self, _: S) {
        let width = self.bias.len();
        let inputs = self.weights.len() / width;
        let blocks = self.weights.chunks(inputs * COLUMNS);
        for (weights, first) in blocks.zip((0..width).step_by(COLUMNS)) {
            let columns = first..(first + COLUMNS).min(width);
            let rows = self.output.chunks_exact_mut(width);
            for (features, output) in self.features.chunks_exact(inputs).zip(rows) {
                let mut sums = [0.0; COLUMNS];
                for (feature, weights) in features.iter().zip(weights.chunks_exact(columns.len())) {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += feature * weight;
                    }
                }
                let bias = &self.bias[columns.clone()];
                for ((output, sum), bias) in output[columns.clone()].iter_mut().zip(sums).zip(bias)
                {
                    *output = sum + bias;
                }
            }
        }
    }
}
