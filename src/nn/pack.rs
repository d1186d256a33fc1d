//! Packs weights in the order in which the kernels read them, with zero points folded into the biases.

use super::buffer::{Buffer, F32_BLOCK};
use super::fused::{Conv, Dense, Geometry, Quantization, Slopes, Weights};
use super::simd::{Isa, pair};

/// Output channels in a block of a quantised convolution: a multiple of the vector length of every instruction set.
pub const U8_BLOCK: usize = 32;

/// Positions of the windows of a convolution on its padded input, in units of 32-bit values: float32, i16 pairs or four
/// u8.
#[derive(Debug)]
pub struct Windows {
    /// Index of the first value of each window, by output pixel.
    pub origins: Vec<usize>,
    /// Offsets of the values of a window from its first one.
    pub offsets: Vec<u32>,
    /// Offsets of the rows of a window, whose values are contiguous.
    pub rows: Vec<usize>,
    /// Number of values in a row of a window.
    pub row_len: usize,
    pub padding: Option<Padding>,
}

/// Padding of an input, which is copied into a larger buffer before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    pub top: usize,
    pub left: usize,
    /// Height including the padding.
    pub height: usize,
    /// Width including the padding.
    pub width: usize,
}

impl Windows {
    /// Computes the windows for an input with `group` values per pixel.
    fn new(geometry: &Geometry, from: &Buffer, to: &Buffer, group: usize) -> Self {
        let [top, left, bottom, right] = geometry.pads;
        let (height, width) = (from.height + top + bottom, from.width + left + right);
        let row = width * group;
        let [down, across] = geometry.strides;
        let row_len = geometry.kernel[1] * group;
        let rows: Vec<_> = (0..geometry.kernel[0]).map(|y| y * row).collect();
        let pixels = (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x)));
        let all = rows.iter().flat_map(|row| *row..row + row_len);
        Self {
            origins: pixels
                .map(|(y, x)| y * down * row + x * across * group)
                .collect(),
            offsets: all.map(|at| at as u32).collect(),
            rows,
            row_len,
            padding: (geometry.pads != [0; 4]).then_some(Padding {
                top,
                left,
                height,
                width,
            }),
        }
    }

    /// One window that covers a whole item.
    fn whole(len: usize) -> Self {
        Self {
            origins: vec![0],
            offsets: (0..len as u32).collect(),
            rows: vec![0],
            row_len: len,
            padding: None,
        }
    }

    /// Number of input values from the first to the last one of a window.
    pub fn span(&self) -> usize {
        self.offsets.last().map_or(0, |last| *last as usize + 1)
    }
}

/// A convolution or a fully connected layer on float32.
#[derive(Debug)]
pub struct FloatConv {
    pub windows: Windows,
    pub weights: FloatWeights,
    pub bias: Vec<f32>,
    pub slopes: Slopes,
    /// Number of output channels, including the padding.
    pub channels: usize,
    /// Number of output channels that are accumulated together.
    pub block: usize,
}

#[derive(Debug)]
pub enum FloatWeights {
    /// Float32 weights, `[block of channels, offset, channel in the block]`.
    F32(Vec<f32>),
    I16(I16Weights),
}

/// Weights as i16 pairs.
#[derive(Debug)]
pub struct I16Weights {
    /// i16 pairs, `[block of channels, offset, channel in the block]`.
    pub pairs: Vec<i32>,
    /// Scale of the accumulators for each output channel, to be multiplied by the scale of the input.
    pub scales: Vec<f32>,
    /// Number of channels of an input pixel, of which adjacent ones form a pair.
    pub group: usize,
}

/// Integer that the largest magnitude in an item is scaled to.
pub const I16_MOST: f32 = 16383.0;

/// Arithmetic of the layers with float32 inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    F32,
    /// Inputs are quantised per item in steps of 1 / 16,383 of the largest, weights per channel; accumulation is exact.
    /// The effect on accuracy is negligible (docs/accuracy.md).
    I16,
}

impl FloatConv {
    pub fn conv(
        conv: &Conv,
        from: &Buffer,
        to: &Buffer,
        isa: Isa,
        arithmetic: Arithmetic,
    ) -> Result<Self, String> {
        let Weights::F32 { values, bias } = &conv.weights else {
            return Err("integer weights on float32".to_owned());
        };
        let windows = Windows::new(&conv.geometry, from, to, from.stride);
        let [rows, columns] = conv.geometry.kernel;
        let area = rows * columns;
        let mut packed = Self::empty(windows, to.stride, isa)?;
        packed.set_bias(bias, conv.slopes.as_ref());
        packed.fill(|set| {
            for (i, &weight) in values.iter().enumerate() {
                let (y, x) = (i % area / columns, i % columns);
                let (out, into) = (i / area / conv.into, i / area % conv.into);
                set(out, (y * columns + x) * from.stride + into, weight);
            }
        });
        packed.round(from.stride, arithmetic);
        Ok(packed)
    }

    /// Packs a fully connected layer; `flattened` is the tensor of pixels that `from` is flattened from, if it is.
    pub fn gemm(
        dense: &Dense,
        from: &Buffer,
        flattened: Option<&Buffer>,
        to: &Buffer,
        isa: Isa,
        arithmetic: Arithmetic,
    ) -> Result<Self, String> {
        let mut packed = Self::empty(Windows::whole(from.stride), to.stride, isa)?;
        packed.set_bias(&dense.bias, dense.slopes.as_ref());
        // Features are in the order channels, rows, columns in the file, but channels-last in memory.
        let at = |feature: usize| match flattened {
            Some(pixels) => {
                let area = pixels.height * pixels.width;
                feature % area * pixels.stride + feature / area
            }
            None => feature,
        };
        packed.fill(|set| {
            for (feature, weights) in dense.weights.chunks_exact(dense.out).enumerate() {
                for (out, &weight) in weights.iter().enumerate() {
                    set(out, at(feature), weight);
                }
            }
        });
        packed.round(from.stride, arithmetic);
        Ok(packed)
    }

    fn empty(windows: Windows, channels: usize, isa: Isa) -> Result<Self, String> {
        let lanes = isa.lanes();
        // Maximum number of vectors for which a tile of accumulators fits into the registers.
        let most = match lanes {
            16 | 4 => 4,
            8 => 2,
            _ => 16,
        };
        let fits = |vectors: &usize| channels.is_multiple_of(vectors * lanes);
        let vectors = (1..=most).rev().find(fits).unwrap_or(1);
        check_packed(channels, windows.offsets.len())?;
        Ok(Self {
            bias: vec![0.0; channels],
            slopes: Slopes {
                above: vec![1.0; channels],
                below: vec![1.0; channels],
            },
            channels,
            block: vectors * lanes,
            weights: FloatWeights::F32(Vec::new()),
            windows,
        })
    }

    fn set_bias(&mut self, bias: &[f32], slopes: Option<&Slopes>) {
        self.bias[..bias.len()].copy_from_slice(bias);
        if let Some(slopes) = slopes {
            self.slopes.above[..slopes.above.len()].copy_from_slice(&slopes.above);
            self.slopes.below[..slopes.below.len()].copy_from_slice(&slopes.below);
        }
    }

    /// Packs float32 weights; `weights` calls its argument with output channel, position in the window, and weight.
    fn fill(&mut self, weights: impl FnOnce(&mut dyn FnMut(usize, usize, f32))) {
        let (block, len) = (self.block, self.windows.offsets.len());
        let mut packed = vec![0.0; self.channels * len];
        weights(&mut |channel, at, weight| {
            let (number, lane) = (channel / block, channel % block);
            packed[(number * len + at) * block + lane] = weight;
        });
        self.weights = FloatWeights::F32(packed);
    }

    /// Quantises the weights to i16 pairs, for inputs of `group` channels per pixel.
    fn round(&mut self, group: usize, arithmetic: Arithmetic) {
        let FloatWeights::F32(weights) = &self.weights else {
            return;
        };
        if arithmetic == Arithmetic::F32 || group != 3 && !group.is_multiple_of(2) {
            return;
        }
        let half = group.div_ceil(2);
        let len = self.windows.offsets.len();
        let weight = |channel: usize, at: usize| {
            let (block, lane) = (channel / self.block, channel % self.block);
            weights[(block * len + at) * self.block + lane]
        };
        let scales: Vec<f64> = (0..self.channels)
            .map(|channel| i16_scale((0..len).map(|at| weight(channel, at)), I16_MOST))
            .collect();
        let steps = len / group * half;
        let mut pairs = vec![0; self.channels * steps];
        for (at, packed) in pairs.iter_mut().enumerate() {
            let (lane, at) = (at % self.block, at / self.block);
            let (block, step) = (at / steps, at % steps);
            let channel = block * self.block + lane;
            let part = |c: usize| {
                let at = step / half * group + c;
                let weight = if c < group { weight(channel, at) } else { 0.0 };
                (f64::from(weight) * scales[channel]).round() as i16
            };
            let c = step % half * 2;
            *packed = pair(part(c), part(c + 1));
        }
        let to_pairs = |at: usize| at / group * half;
        let windows = &mut self.windows;
        windows
            .origins
            .iter_mut()
            .for_each(|at| *at = to_pairs(*at));
        windows.rows.iter_mut().for_each(|at| *at = to_pairs(*at));
        windows.row_len = to_pairs(windows.row_len);
        windows.offsets = windows
            .rows
            .iter()
            .flat_map(|&row| row as u32..(row + windows.row_len) as u32)
            .collect();
        self.weights = FloatWeights::I16(I16Weights {
            pairs,
            scales: scales.iter().map(|s| (1.0 / s) as f32).collect(),
            group,
        });
    }
}

/// A convolution on u8.
#[derive(Debug)]
pub struct U8Conv {
    /// Windows in units of four u8.
    pub windows: Windows,
    /// `[block, row, value in the row, U8_BLOCK]`; each element has four i8, for the four input channels of a value.
    pub weights: Vec<i32>,
    /// Whether the weights have at most 7 bits: see [`super::simd::Level::Narrow`].
    pub is_narrow: bool,
    /// Bias with the scale of the accumulators, including the contribution of the input's zero point. Padded to whole
    /// blocks, like `scale`.
    pub bias: Vec<i32>,
    /// Factor from accumulators to output values, per channel.
    pub scale: Vec<f32>,
}

/// Largest magnitude of 7-bit weights, for which the sum of two products with u8 fits into 16 bits.
const LARGEST_NARROW: u8 = 64;

impl U8Conv {
    pub fn new(conv: &Conv, from: &Buffer, to: &Buffer, isa: Isa) -> Result<Self, String> {
        let Weights::I8 {
            values,
            scales,
            bias,
        } = &conv.weights
        else {
            return Err("float32 weights on integers".to_owned());
        };
        let (Some(input), Some(output)) = (from.quantization, to.quantization) else {
            return Err("integer weights on float32".to_owned());
        };
        if !conv.out.is_multiple_of(F32_BLOCK) {
            return Err(format!(
                "{} channels of a quantised output; expected a multiple of {F32_BLOCK}",
                conv.out
            ));
        }
        let [rows, columns] = conv.geometry.kernel;
        let area = rows * columns;
        let windows = Windows::new(&conv.geometry, from, to, from.stride / 4);
        let whole = conv.out.next_multiple_of(U8_BLOCK);
        check_packed(whole, windows.offsets.len())?;
        let each = values.chunks_exact(conv.into * area);
        let biases = bias.iter().zip(each).map(|(bias, weights)| {
            let sum: i32 = weights.iter().map(|&w| i32::from(w as i8)).sum();
            folded_bias(*bias, sum, input, isa)
        });
        let fill = whole - conv.out;
        Ok(Self {
            weights: pack_u8i8(values, conv.into, area, whole),
            is_narrow: values
                .iter()
                .all(|&w| (w as i8).unsigned_abs() <= LARGEST_NARROW),
            bias: biases.chain(vec![0; fill]).collect(),
            scale: scales
                .iter()
                .map(|weight| input.scale * weight / output.scale)
                .chain(vec![0.0; fill])
                .collect(),
            windows,
        })
    }
}

/// Accumulators are of raw bytes, so the contribution of the input's zero point is subtracted from the bias.
fn folded_bias(bias: i32, weights: i32, input: Quantization, isa: Isa) -> i32 {
    let offset = if isa.signed_activations() { 128 } else { 0 };
    let zero = i32::from(input.zero_point) - offset;
    bias.wrapping_sub(zero.wrapping_mul(weights))
}

/// Packs `[channel, input, pixel]` as `[block, pixel, four inputs, U8_BLOCK]`, for `whole` channels with the padding.
fn pack_u8i8(weights: &[u8], inputs: usize, area: usize, whole: usize) -> Vec<i32> {
    let groups = inputs.div_ceil(4);
    let len = area * groups * U8_BLOCK;
    let mut packed = vec![0; whole / U8_BLOCK * len];
    for (channel, weights) in weights.chunks_exact(inputs * area).enumerate() {
        let packed = &mut packed[channel / U8_BLOCK * len..][..len];
        for (group, weights) in weights.chunks(4 * area).enumerate() {
            for pixel in 0..area {
                let mut four = [0; 4];
                for (four, &weight) in four.iter_mut().zip(weights[pixel..].iter().step_by(area)) {
                    *four = weight;
                }
                let at = (pixel * groups + group) * U8_BLOCK + channel % U8_BLOCK;
                packed[at] = i32::from_le_bytes(four);
            }
        }
    }
    packed
}

/// Limits the packed size, because padding of channels could turn a small file into gigabytes.
fn check_packed(channels: usize, window: usize) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    match channels.checked_mul(window) {
        Some(count) if count <= MOST => Ok(()),
        _ => Err(format!(
            "weights of {channels} channels with windows of {window}; at most {MOST} in all"
        )),
    }
}

/// Scale of the weights of an output channel before rounding, such that no input of magnitude up to `most` overflows
/// the i32 accumulator.
pub fn i16_scale(weights: impl Iterator<Item = f32>, most: f32) -> f64 {
    let (mut count, mut sum, mut largest) = (0.0, 0.0, 0.0f64);
    for weight in weights.map(|w| f64::from(w.abs())) {
        count += 1.0;
        sum += weight;
        largest = largest.max(weight);
    }
    // Rounding can increase weights, so the limit is reduced by their number.
    let limit = f64::from(i32::MAX) / f64::from(most) - count;
    let scale = (limit / sum).min(f64::from(i16::MAX) / largest);
    if scale.is_finite() { scale } else { 1.0 }
}
