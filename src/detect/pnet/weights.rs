//! P-Net's weights as the kernels read them.

use crate::onnx::{Constant, Graph, Node};

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
    /// `[y, x, FIRST, SECOND]`
    pub second: Vec<f32>,
    /// `[y, x, SECOND, THIRD]`
    pub third: Vec<f32>,
    /// Bias and PReLU's slope below 0 of each convolution.
    pub bends: [Bend; 3],
    /// What makes a face likelier than none: `[THIRD]`, and the bias.
    pub score: (Vec<f32>, f32),
    /// The offsets: `[4, THIRD]`, and the biases.
    pub offsets: (Vec<f32>, [f32; 4]),
}

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
        Some(Self {
            first: by_colour,
            second: by_tap(tensor(4, 0, &[SECOND, FIRST, 3, 3])?, [SECOND, FIRST]),
            third: by_tap(tensor(6, 0, &[THIRD, SECOND, 3, 3])?, [THIRD, SECOND]),
            bends,
            score: (
                face.iter().zip(none).map(|(f, n)| f - n).collect(),
                bias[5] - bias[4],
            ),
            offsets: (offsets.to_vec(), [bias[0], bias[1], bias[2], bias[3]]),
        })
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
