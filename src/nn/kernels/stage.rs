//! Prepares the input of a convolution for its kernel: padding, and quantisation to i16 pairs if the weights are i16.

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use super::Input;
use crate::nn::pack::{FloatConv, FloatWeights, I16_MOST, Padding};
use crate::nn::plan::StepOp;
use crate::nn::simd::{IntSimd, Kernel, Level, pair};

/// Staging buffer, reused from step to step.
#[derive(Debug, Default)]
pub struct Staged {
    /// Values of 32 bits: float32, i16 pairs or four u8.
    pub values: Vec<i32>,
    /// Scale of each item, for i16 pairs.
    pub scales: Vec<f32>,
}

/// Whether a step reads [`Staged`] instead of its input.
pub fn needs_staging(op: &StepOp) -> bool {
    match op {
        StepOp::FloatConv(conv) => {
            conv.windows.padding.is_some() || matches!(conv.weights, FloatWeights::I16(_))
        }
        StepOp::U8Conv(conv) => conv.windows.padding.is_some(),
        _ => false,
    }
}

pub struct Stage<'a> {
    pub op: &'a StepOp,
    pub input: Input<'a>,
    pub staged: &'a mut Staged,
}

impl Kernel for Stage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        let Self { op, input, staged } = self;
        match op {
            StepOp::FloatConv(FloatConv {
                weights: FloatWeights::I16(weights),
                windows,
                ..
            }) => {
                quantize::<L>(simd, input, weights.group, windows.padding, staged);
            }
            StepOp::FloatConv(conv) => {
                pad(
                    input,
                    input.buffer.stride,
                    conv.windows.padding,
                    0,
                    &mut staged.values,
                );
            }
            StepOp::U8Conv(conv) => {
                let zero_point = input.buffer.quantization.map_or(0, |q| q.zero_point);
                let fill = i32::from_ne_bytes([zero_point; 4]);
                pad(
                    input,
                    input.buffer.stride / 4,
                    conv.windows.padding,
                    fill,
                    &mut staged.values,
                );
            }
            _ => {}
        }
    }
}

/// Copies images of `group` words per pixel into larger ones that are otherwise filled with `fill`.
#[inline(always)]
fn pad(input: Input, group: usize, padding: Option<Padding>, fill: i32, to: &mut Vec<i32>) {
    let buffer = input.buffer;
    let Some(padding) = padding else {
        return;
    };
    let (row, wide) = (buffer.width * group, padding.width * group);
    to.clear();
    to.resize(input.count * padding.height * wide, fill);
    let images = input.words.chunks_exact(buffer.height * row);
    for (from, to) in images.zip(to.chunks_exact_mut(padding.height * wide)) {
        let rows = to.chunks_exact_mut(wide).skip(padding.top);
        for (from, to) in from.chunks_exact(row).zip(rows) {
            to[padding.left * group..][..row].copy_from_slice(from);
        }
    }
}

/// Quantises each item, with a scale of its own, to i16 pairs.
#[inline(always)]
fn quantize<L: Level>(
    simd: L::Simd,
    input: Input,
    group: usize,
    padding: Option<Padding>,
    staged: &mut Staged,
) {
    let buffer = input.buffer;
    let half = group.div_ceil(2);
    let row = buffer.len() / group / buffer.height.max(1) * half;
    let (height, wide, top, left) = match padding {
        Some(p) => (p.height, p.width * half, p.top, p.left * half),
        None => (buffer.height, row, 0, 0),
    };
    staged.scales.clear();
    if padding.is_some() {
        staged.values.clear();
    }
    staged.values.resize(input.count * height * wide, 0);
    let items = input.f32s().chunks_exact(buffer.len().max(1));
    let staged_items = staged.values.chunks_exact_mut((height * wide).max(1));
    for (from, to) in items.zip(staged_items) {
        let most = largest::<L>(simd, from);
        let scale = if most > 0.0 { I16_MOST / most } else { 0.0 };
        staged.scales.push(most / I16_MOST);
        if padding.is_none() {
            round::<L>(simd, from, scale, group, to);
            continue;
        }
        let rows = to.chunks_exact_mut(wide).skip(top);
        for (from, to) in from.chunks_exact(buffer.width * group).zip(rows) {
            round::<L>(simd, from, scale, group, &mut to[left..][..row]);
        }
    }
}

#[inline(always)]
fn largest<L: Level>(simd: L::Simd, from: &[f32]) -> f32 {
    let (vectors, rest) = L::Simd::as_simd_f32s(from);
    let mut most = simd.splat_f32s(0.0);
    for vector in vectors {
        most = simd.max_f32s(simd.abs_f32s(*vector), most);
    }
    let mut most = simd.reduce_max_f32s(most);
    for x in rest {
        most = most.max(x.abs());
    }
    most
}

/// Packs adjacent channels of a group as pairs; the last of three channels is paired with 0.
#[inline(always)]
fn round<L: Level>(simd: L::Simd, from: &[f32], scale: f32, group: usize, pairs: &mut [i32]) {
    let whole = |x: f32| (x * scale).round_ties_even() as i16;
    if group == 3 {
        let pixels = from.as_chunks::<3>().0.iter();
        for ([red, green, blue], pairs) in pixels.zip(pairs.as_chunks_mut::<2>().0) {
            *pairs = [pair(whole(*red), whole(*green)), pair(whole(*blue), 0)];
        }
        return;
    }
    let scale = simd.splat_f32s(scale);
    let two = L::Simd::as_simd_f32s(from).0.as_chunks::<2>().0;
    let (vectors, left) = L::Simd::as_mut_simd_i32s(pairs);
    for ([first, second], pairs) in two.iter().zip(vectors) {
        *pairs = simd.pack_i16(simd.mul_f32s(*first, scale), simd.mul_f32s(*second, scale));
    }
    // The remaining values fill half a vector of pairs.
    let numbers = &from[two.len() * 2 * L::Simd::F32_LANES..];
    let pairs: &[[f32; 2]] = cast_slice(&numbers[..numbers.len() / 2 * 2]);
    for ([first, second], pair_of) in pairs.iter().zip(left) {
        *pair_of = pair(whole(*first), whole(*second));
    }
}
