//! Pooling kernels.

use std::ops::Range;

use pulp::Simd;

use super::elementwise::{round, to_u8};
use super::{Input, Run};
use crate::nn::fused::Geometry;
use crate::nn::simd::{Kernel, Level};

/// The input pixels along an axis that the window of output pixel `at` covers, without padding.
#[inline(always)]
fn window(at: usize, axis: usize, geometry: &Geometry, size: usize) -> Range<usize> {
    let begin = at * geometry.strides[axis];
    let end = begin + geometry.kernel[axis];
    let pad = geometry.pads[axis];
    begin.saturating_sub(pad)..(end - pad.min(end)).min(size)
}

/// Max pooling of float32.
pub struct Max<'a> {
    pub geometry: &'a Geometry,
    pub run: Run<'a>,
}

impl Kernel for Max<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        let Self { geometry, run } = self;
        let vectors = run.result.stride / L::Simd::F32_LANES;
        match (1..=4).rev().find(|v| vectors.is_multiple_of(*v)) {
            Some(4) => max_f32::<L, 4>(simd, geometry, run),
            Some(3) => max_f32::<L, 3>(simd, geometry, run),
            Some(2) => max_f32::<L, 2>(simd, geometry, run),
            _ => max_f32::<L, 1>(simd, geometry, run),
        }
    }
}

/// Max pooling of `V` channel vectors at a time.
#[inline(always)]
fn max_f32<L: Level, const V: usize>(simd: L::Simd, geometry: &Geometry, mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let blocks = buffer.stride / (V * L::Simd::F32_LANES);
    let row = buffer.width * blocks;
    let from = L::Simd::as_simd_f32s(run.inputs[0].f32s())
        .0
        .as_chunks::<V>()
        .0;
    let (height, width) = (run.result.height, run.result.width);
    let rows = run.pixels.start / width..run.pixels.end / width;
    let to = L::Simd::as_mut_simd_f32s(run.out_f32s())
        .0
        .as_chunks_mut::<V>()
        .0;
    for (y, to) in rows.zip(to.chunks_exact_mut(width * blocks)) {
        let seen = window(y % height, 0, geometry, buffer.height);
        let image = &from[y / height * buffer.height * row..];
        let rows = &image[seen.start * row..seen.end * row];
        for (x, to) in to.chunks_exact_mut(blocks).enumerate() {
            let columns = window(x, 1, geometry, buffer.width);
            let columns = columns.start * blocks..columns.end * blocks;
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

#[inline(always)]
pub fn max_u8(geometry: &Geometry, mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let from = run.inputs[0].u8s();
    let channels = buffer.stride;
    let row = buffer.width * channels;
    let (height, width) = (run.result.height, run.result.width);
    let pixels = run.pixels.clone();
    for (pixel, to) in pixels.zip(run.out_u8s().chunks_exact_mut(channels)) {
        let (y, x) = (pixel / width, pixel % width);
        let image = &from[y / height * buffer.len()..];
        let rows = window(y % height, 0, geometry, buffer.height);
        let columns = window(x, 1, geometry, buffer.width);
        let columns = columns.start * channels..columns.end * channels;
        to.fill(0);
        for row in image[rows.start * row..rows.end * row].chunks_exact(row) {
            for pixel in row[columns.clone()].chunks_exact(channels) {
                for (to, &from) in to.iter_mut().zip(pixel) {
                    *to = (*to).max(from);
                }
            }
        }
    }
}

/// Global average pooling of u8; each pixel of the result is an item.
#[inline(always)]
pub fn average(mut run: Run) {
    let Input { buffer, .. } = run.inputs[0];
    let (Some(input), Some(output)) = (buffer.quantization, run.result.quantization) else {
        return;
    };
    let each = buffer.pixels();
    let scale = input.scale / (output.scale * each as f32);
    let zero = f32::from(output.zero_point);
    let all = each as i32 * i32::from(input.zero_point);
    let from = &run.inputs[0].u8s()[run.pixels.start * buffer.len()..run.pixels.end * buffer.len()];
    let width = run.result.len();
    let items = from.chunks_exact(buffer.len());
    for (from, to) in items.zip(run.out_u8s().chunks_exact_mut(width)) {
        for (channel, to) in to.iter_mut().enumerate() {
            let values = from[channel..].iter().step_by(buffer.stride);
            let sum: i32 = values.map(|&v| i32::from(v)).sum::<i32>() - all;
            *to = to_u8(round(sum as f32 * scale) + zero);
        }
    }
}
