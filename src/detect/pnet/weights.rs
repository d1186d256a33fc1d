//! P-Net's weights as the kernels read them.

use crate::onnx::{Constant, Graph, Node};
use crate::simd::pairs::{pair, weight_scale};

/// Channels after each of the three convolutions.
pub const FIRST: usize = 10;
pub const SECOND: usize = 16;
pub const THIRD: usize = 32;

/// Channels that are worked on together. Those of the first convolution are filled up with zeros.
pub const BLOCK: usize = 16;

/// Weights of the convolutions come tap after tap, the channels of a tap side by side.
#[derive(Debug)]
pub struct Weights {
    /// `[colour, y, x, BLOCK]`, for pixels 0…255.
    pub first: Vec<f32>,
    /// Of the second and third convolution: `[y, x, FIRST, SECOND]`, `[y, x, SECOND, THIRD]`
    pub taps: [Vec<f32>; 2],
    /// The same in integers.
    pub pairs: [PairTaps; 2],
    /// Bias and PReLU's slope below 0 of each convolution.
    pub bends: [Bend; 3],
    /// What makes a face likelier than none: `[THIRD]`, and the bias.
    pub score: (Vec<f32>, f32),
    /// The offsets: `[4, THIRD]`, and the biases.
    pub offsets: (Vec<f32>, [f32; 4]),
}

/// Weights that take two channels at a time.
#[derive(Debug)]
pub struct PairTaps {
    /// `[y, x, pair, channel of the output]`
    pub taps: Vec<i32>,
    /// By what the input is multiplied before it is rounded: its largest values become [`MOST`].
    pub scale: f32,
    /// What a sum of one is worth, channel by channel of the output.
    pub worth: Vec<f32>,
}

/// The largest integer that goes into a layer.
const MOST: f32 = 32_767.0;

#[derive(Debug)]
pub struct Bend {
    pub bias: Vec<f32>,
    pub slope: Vec<f32>,
}

/// The operators of `models/pnet.onnx`, each with where its input comes from.
const GRAPH: [(&str, &[usize]); 12] = [
    ("Transpose", &[]),
    ("Conv", &[0]),
    ("PRelu", &[1]),
    ("MaxPool", &[2]),
    ("Conv", &[3]),
    ("PRelu", &[4]),
    ("Conv", &[5]),
    ("PRelu", &[6]),
    ("Conv", &[7]),
    ("Transpose", &[8]),
    ("Split", &[9]),
    ("Softmax", &[10]),
];

impl Weights {
    pub fn from_onnx(bytes: &[u8]) -> Option<Self> {
        let nodes = Graph::read(bytes)?.nodes;
        let same = |(node, (operator, sources)): (&Node, &(&str, &[usize]))| {
            node.operator == *operator && node.sources == *sources
        };
        if nodes.len() != GRAPH.len() || !nodes.iter().zip(&GRAPH).all(same) {
            return None;
        }
        let tensor = |node: usize, number: usize, shape: &[usize]| {
            let constant = nodes[node].constants.get(number)?;
            let fits = |c: &&Constant| c.shape.iter().filter(|&&n| n != 1).eq(shape);
            Some(constant).filter(fits).map(|c| &c.values[..])
        };
        let bend = |conv: usize, channels: usize, filled: usize| {
            let whole = |values: &[f32]| {
                let mut values = values.to_vec();
                values.resize(filled, 0.0);
                values
            };
            Some(Bend {
                bias: whole(tensor(conv, 1, &[channels])?),
                slope: whole(tensor(conv + 1, 0, &[channels])?),
            })
        };
        let mut bends = [
            bend(1, FIRST, BLOCK)?,
            bend(4, SECOND, SECOND)?,
            bend(6, THIRD, THIRD)?,
        ];
        let first = tensor(1, 0, &[FIRST, 3, 3, 3])?;
        // The network takes (pixel − 127.5) / 128.
        for (bias, taps) in bends[0].bias.iter_mut().zip(first.chunks_exact(27)) {
            *bias -= taps.iter().sum::<f32>() * (127.5 / 128.0);
        }
        let mut by_colour = vec![0.0; 27 * BLOCK];
        for_taps(first, [FIRST, 3], |[out, colour, y, x], w| {
            by_colour[((colour * 3 + y) * 3 + x) * BLOCK + out] = w / 128.0;
        });
        let by_tap = |values: &[f32], [out, into]: [usize; 2]| {
            let mut taps = vec![0.0; values.len()];
            for_taps(values, [out, into], |[o, i, y, x], w| {
                taps[((y * 3 + x) * into + i) * out + o] = w;
            });
            taps
        };
        let (heads, bias) = (tensor(8, 0, &[6, THIRD])?, tensor(8, 1, &[6])?);
        let (offsets, logits) = heads.split_at(4 * THIRD);
        let (none, face) = logits.split_at(THIRD);
        let taps = [
            by_tap(tensor(4, 0, &[SECOND, FIRST, 3, 3])?, [SECOND, FIRST]),
            by_tap(tensor(6, 0, &[THIRD, SECOND, 3, 3])?, [THIRD, SECOND]),
        ];
        // No picture takes a layer beyond what the largest values before it do.
        let pixels = [255.0; 3];
        let first = largest(&by_colour, &pixels.map(|most| (0.0, most)), &bends[0]);
        let second = largest(&taps[0], &first[..FIRST], &bends[1]);
        Some(Self {
            first: by_colour,
            pairs: [
                PairTaps::new(&taps[0], &first[..FIRST], SECOND),
                PairTaps::new(&taps[1], &second, THIRD),
            ],
            taps,
            bends,
            score: (
                face.iter().zip(none).map(|(f, n)| f - n).collect(),
                bias[5] - bias[4],
            ),
            offsets: (offsets.to_vec(), [bias[0], bias[1], bias[2], bias[3]]),
        })
    }
}

/// Least and largest value of each channel after a convolution `[…, in, out]` and PReLU, whatever goes in between the
/// least and largest of each channel.
fn largest(taps: &[f32], inputs: &[(f32, f32)], bend: &Bend) -> Vec<(f32, f32)> {
    let channels = bend.bias.len();
    (0..channels)
        .map(|out| {
            let (mut least, mut most) = (bend.bias[out], bend.bias[out]);
            for (i, &w) in taps[out..].iter().step_by(channels).enumerate() {
                let (low, high) = inputs[i % inputs.len()];
                least += (w * low).min(w * high);
                most += (w * low).max(w * high);
            }
            let bent = |x: f32| if x < 0.0 { x * bend.slope[out] } else { x };
            let (a, b) = (bent(least), bent(most));
            (a.min(b).min(0.0), a.max(b).max(0.0))
        })
        .collect()
}

impl PairTaps {
    /// Of weights `[y, x, in, out]`.
    fn new(taps: &[f32], inputs: &[(f32, f32)], out: usize) -> Self {
        let most = inputs
            .iter()
            .fold(0.0f32, |most, (low, high)| most.max(-low).max(*high));
        let scale = if most > 0.0 { MOST / most } else { 1.0 };
        let weights = |channel: usize| taps[channel..].iter().step_by(out).copied();
        let scales: Vec<f64> = (0..out)
            .map(|channel| weight_scale(weights(channel), MOST))
            .collect();
        let whole = |at: usize| (f64::from(taps[at]) * scales[at % out]).round() as i16;
        Self {
            taps: (0..taps.len() / 2)
                .map(|at| {
                    let first = at / out * 2 * out + at % out;
                    pair(whole(first), whole(first + out))
                })
                .collect(),
            scale,
            worth: scales
                .iter()
                .map(|s| (1.0 / (s * f64::from(scale))) as f32)
                .collect(),
        }
    }
}

/// Calls with every weight of a 3×3 convolution `[out, in, x, y]` and its place `[out, in, y, x]`: the file has
/// columns first.
fn for_taps(values: &[f32], [_, into]: [usize; 2], mut each: impl FnMut([usize; 4], f32)) {
    for (i, &w) in values.iter().enumerate() {
        let (y, x) = (i % 3, i / 3 % 3);
        each([i / 9 / into, i / 9 % into, y, x], w);
    }
}
