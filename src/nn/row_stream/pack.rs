//! P-Net's weights, packed for the kernel.

use crate::nn::fused::{self, Conv, Fused, FusedNode, FusedOp, Geometry};
use crate::nn::pack::i16_scale;
use crate::nn::simd::pair;

/// Output channels of the first convolution.
pub const FIRST: usize = 10;
/// Output channels of the second convolution.
pub const SECOND: usize = 16;
/// Output channels of the third convolution.
pub const THIRD: usize = 32;

/// Channels that are accumulated together. Those of the first convolution are zero-padded to this number.
pub const BLOCK: usize = 16;

/// Weights of the convolutions, in the order of the window's pixels, with contiguous output channels.
#[derive(Debug)]
pub struct Weights {
    /// First convolution, `[colour, y, x, BLOCK]`, for pixels 0…255.
    pub first: Vec<f32>,
    /// Second and third convolution, `[y, x, FIRST, SECOND]` and `[y, x, SECOND, THIRD]`.
    pub f32: [Vec<f32>; 2],
    /// Second and third convolution in i16 pairs.
    pub i16: [I16Weights; 2],
    /// Bias and negative slope of PReLU of each convolution.
    pub activations: [Activation; 3],
    /// Face logit minus non-face logit: weights `[THIRD]`, and bias.
    pub score: (Vec<f32>, f32),
    /// Bounding-box regression: weights `[4, THIRD]`, and biases.
    pub offsets: (Vec<f32>, [f32; 4]),
}

/// Weights as i16 pairs, for two input channels at a time.
#[derive(Debug)]
pub struct I16Weights {
    /// `[y, x, pair of input channels, output channel]`.
    pub pairs: Vec<i32>,
    /// Factor of the input before rounding, which maps its largest values to [`MOST`].
    pub scale: f32,
    /// Scale of the accumulators for each output channel.
    pub scales: Vec<f32>,
}

/// Largest integer input of a layer.
const MOST: f32 = 32_767.0;

#[derive(Debug)]
pub struct Activation {
    pub bias: Vec<f32>,
    pub slope: Vec<f32>,
}

impl Weights {
    /// Packs a network that has exactly P-Net's layers.
    pub fn new(fused: &Fused) -> Result<Self, String> {
        let Layers {
            convs: [first, second, third],
            heads,
        } = Layers::of(fused)?;
        let mut activations = [
            Activation::new(first, BLOCK),
            Activation::new(second, SECOND),
            Activation::new(third, THIRD),
        ];
        // The network expects (pixel − 127.5) / 128, which is folded into the weights and biases.
        let of_colours = values(first);
        for (bias, weights) in activations[0]
            .bias
            .iter_mut()
            .zip(of_colours.chunks_exact(27))
        {
            // The sum runs over columns before rows, the order of the published weights, to be identical to the last
            // bit.
            let columns = (0..27).map(|at| weights[at / 9 * 9 + at % 3 * 3 + at / 3 % 3]);
            *bias -= columns.sum::<f32>() * (127.5 / 128.0);
        }
        let mut by_colour = vec![0.0; 27 * BLOCK];
        for (at, weight) in of_colours.iter().enumerate() {
            // [out, colour, y, x] is reordered to [colour, y, x, out].
            by_colour[at % 27 * BLOCK + at / 27] = weight / 128.0;
        }
        let by_pixel = |conv: &Conv| {
            let mut weights = vec![0.0; 9 * conv.into * conv.out];
            for (at, &weight) in values(conv).iter().enumerate() {
                let (out, into, pixel) = (at / 9 / conv.into, at / 9 % conv.into, at % 9);
                weights[(pixel * conv.into + into) * conv.out + out] = weight;
            }
            weights
        };
        let (offsets, logits) = values(heads).split_at(4 * THIRD);
        let (none, face) = logits.split_at(THIRD);
        let bias = bias(heads);
        let weights = [by_pixel(second), by_pixel(third)];
        // The scales follow from bounds that hold for every image.
        let pixels = [255.0; 3];
        let after_first = bounds(&by_colour, &pixels.map(|most| (0.0, most)), &activations[0]);
        let after_second = bounds(&weights[0], &after_first[..FIRST], &activations[1]);
        Ok(Self {
            first: by_colour,
            i16: [
                I16Weights::new(&weights[0], &after_first[..FIRST], SECOND),
                I16Weights::new(&weights[1], &after_second, THIRD),
            ],
            f32: weights,
            activations,
            score: (
                face.iter().zip(none).map(|(f, n)| f - n).collect(),
                bias[5] - bias[4],
            ),
            offsets: (offsets.to_vec(), [bias[0], bias[1], bias[2], bias[3]]),
        })
    }
}

/// The layers of a fused network, if it is P-Net.
struct Layers<'a> {
    convs: [&'a Conv; 3],
    heads: &'a Conv,
}

impl<'a> Layers<'a> {
    fn of(fused: &'a Fused) -> Result<Self, String> {
        let unlike = || {
            "the row-streamed kernel takes P-Net's layers alone: three convolutions of 3×3 with PReLU, a \
                         MaxPool of 2×2 after the first, and one of 1×1 whose channels are four offsets and two logits"
            .to_owned()
        };
        let [first, pool, second, third, heads, offsets, logits, softmax] = &fused.ops[..] else {
            return Err(unlike());
        };
        let follows = |node: &FusedNode, from: &FusedNode| node.inputs == [from.output];
        let is_chain = first.inputs == [0]
            && follows(pool, first)
            && follows(second, pool)
            && follows(third, second)
            && follows(heads, third)
            && follows(offsets, heads)
            && follows(logits, heads)
            && follows(softmax, logits)
            && fused.outputs == [offsets.output, softmax.output];
        let conv = |node: &'a FusedNode,
                    kernel: usize,
                    into: usize,
                    out: usize,
                    is_activated: bool| match &node.op {
            FusedOp::Conv(conv)
                if conv.geometry == Geometry { kernel: [kernel; 2], strides: [1, 1], pads: [0; 4] }
                    && (conv.into, conv.out) == (into, out)
                    && conv.slopes.is_some() == is_activated
                    // The kernel's PReLU has a slope of 1 above 0.
                    && conv.slopes.iter().all(|s| s.above.iter().all(|&a| a == 1.0))
                    && matches!(conv.weights, fused::Weights::F32 { .. }) =>
            {
                Some(conv)
            }
            _ => None,
        };
        let is_pool =
            matches!(&pool.op, FusedOp::MaxPool(g) if g.kernel == [2, 2] && g.strides == [2, 2]);
        let is_split = matches!(offsets.op, FusedOp::Slice(0))
            && matches!(logits.op, FusedOp::Slice(4))
            && matches!(softmax.op, FusedOp::Softmax)
            && fused.tensors[logits.output].channels == 2;
        let convs = (
            conv(first, 3, 3, FIRST, true),
            conv(second, 3, FIRST, SECOND, true),
            conv(third, 3, SECOND, THIRD, true),
            conv(heads, 1, THIRD, 6, false),
        );
        match convs {
            (Some(first), Some(second), Some(third), Some(heads))
                if is_chain && is_pool && is_split =>
            {
                Ok(Self {
                    convs: [first, second, third],
                    heads,
                })
            }
            _ => Err(unlike()),
        }
    }
}

fn values(conv: &Conv) -> &[f32] {
    match &conv.weights {
        fused::Weights::F32 { values, .. } => values,
        fused::Weights::I8 { .. } => &[],
    }
}

fn bias(conv: &Conv) -> &[f32] {
    match &conv.weights {
        fused::Weights::F32 { bias, .. } => bias,
        fused::Weights::I8 { .. } => &[],
    }
}

impl Activation {
    /// Bias and slope of a convolution, zero-padded to `channels`.
    fn new(conv: &Conv, channels: usize) -> Self {
        let filled = |values: &[f32]| {
            let mut values = values.to_vec();
            values.resize(channels, 0.0);
            values
        };
        let slope = conv.slopes.as_ref().map_or(&[][..], |slopes| &slopes.below);
        Self {
            bias: filled(bias(conv)),
            slope: filled(slope),
        }
    }
}

/// Bounds of each channel after a convolution `[…, in, out]` and PReLU, for inputs within the given bounds of each
/// channel.
fn bounds(weights: &[f32], inputs: &[(f32, f32)], activation: &Activation) -> Vec<(f32, f32)> {
    let channels = activation.bias.len();
    (0..channels)
        .map(|out| {
            let (mut least, mut most) = (activation.bias[out], activation.bias[out]);
            for (i, &w) in weights[out..].iter().step_by(channels).enumerate() {
                let (low, high) = inputs[i % inputs.len()];
                least += (w * low).min(w * high);
                most += (w * low).max(w * high);
            }
            let activated = |x: f32| {
                if x < 0.0 {
                    x * activation.slope[out]
                } else {
                    x
                }
            };
            let (a, b) = (activated(least), activated(most));
            (a.min(b).min(0.0), a.max(b).max(0.0))
        })
        .collect()
}

impl I16Weights {
    /// Quantises weights `[y, x, in, out]`.
    fn new(weights: &[f32], inputs: &[(f32, f32)], out: usize) -> Self {
        let most = inputs
            .iter()
            .fold(0.0f32, |most, (low, high)| most.max(-low).max(*high));
        let scale = if most > 0.0 { MOST / most } else { 1.0 };
        let of_channel = |channel: usize| weights[channel..].iter().step_by(out).copied();
        let scales: Vec<f64> = (0..out)
            .map(|channel| i16_scale(of_channel(channel), MOST))
            .collect();
        let integer = |at: usize| (f64::from(weights[at]) * scales[at % out]).round() as i16;
        Self {
            pairs: (0..weights.len() / 2)
                .map(|at| {
                    let first = at / out * 2 * out + at % out;
                    pair(integer(first), integer(first + out))
                })
                .collect(),
            scale,
            scales: scales
                .iter()
                .map(|s| (1.0 / (s * f64::from(scale))) as f32)
                .collect(),
        }
    }
}
