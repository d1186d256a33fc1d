//! Networks in integers of 8 bits, as `models/training/quantise.py` makes them, on kernels of our own: FaceNet.
//!
//! Every tensor is bytes, channels last, each worth `scale` × (byte − `zero`). A step takes one or more to another; sums
//! are exact in 32 bits, and what comes out is rounded as ONNX Runtime does it.

mod graph;
mod kernel;
mod run;

use std::collections::HashMap;
use std::sync::Mutex;

use prost::bytes::Bytes;

use crate::simd::cpu::Cpu;
use crate::workers::{lock, share};
use run::Buffers;

/// Channels of an output that are worked on together.
const BLOCK: usize = 32;

/// Tensors that a step takes at most.
const INPUTS: usize = 4;

/// A network from square pictures to rows of float32.
pub struct Network {
    cpu: Cpu,
    /// Pixels along each side of the picture.
    side: usize,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    dense: Dense,
    /// What the file says of itself, by key.
    properties: HashMap<String, String>,
    /// One for each that has run it at the same time.
    desks: Mutex<Vec<Buffers>>,
}

/// Where and how a result is kept.
#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    height: usize,
    width: usize,
    /// A multiple of 4.
    channels: usize,
    scale: f32,
    zero: u8,
    /// The buffer; others that are not needed at the same time have the same.
    buffer: usize,
}

impl Tensor {
    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Bytes of one picture.
    fn len(&self) -> usize {
        self.pixels() * self.channels
    }
}

struct Step {
    operation: Operation,
    /// Tensors.
    from: Vec<usize>,
    to: usize,
}

enum Operation {
    Conv(Conv),
    Pool(Pool),
    /// One behind the other in each pixel. What becomes of a byte, input by input.
    Concat(Vec<[u8; 256]>),
    Add,
    /// Of all pixels, channel by channel.
    Average,
}

/// A convolution. Offsets are in fours of bytes.
struct Conv {
    /// Where in a picture, with its border, each pixel of the output looks.
    places: Vec<usize>,
    /// Where, from there, the rows that it looks at begin, and how much each has.
    rows: Vec<usize>,
    length: usize,
    /// `[block, row, length, BLOCK]`, each four of the input's channels.
    taps: Vec<i32>,
    /// In the unit of the sums; with what the input's zero adds to them. Filled up to whole blocks, like `scale`.
    bias: Vec<i32>,
    /// What one of a sum is worth in the output.
    scale: Vec<f32>,
    border: Option<Border>,
}

/// Pixels around the picture, worth zero.
struct Border {
    top: usize,
    left: usize,
    /// With the border.
    height: usize,
    width: usize,
}

/// The largest of squares.
struct Pool {
    size: usize,
    stride: usize,
}

/// The last layer, in float32.
struct Dense {
    /// A tensor of one pixel.
    from: usize,
    /// `[width / COLUMNS, channels of the input, COLUMNS]`
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Network {
    /// `None` if the CPU has no instructions for it, or the file holds another kind of network.
    pub fn from_onnx(file: Bytes, side: usize) -> Option<Self> {
        Self::for_cpu(file, side, Cpu::new())
    }

    fn for_cpu(file: Bytes, side: usize, cpu: Cpu) -> Option<Self> {
        cpu.has_pairs().then(|| graph::network(file, side, cpu))?
    }

    /// Numbers in a row of the output.
    pub fn width(&self) -> usize {
        self.dense.bias.len()
    }

    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// From pictures `[count, side, side, 3]` to `[count, width]`, shared out to so many threads.
    pub fn run(&self, threads: usize, pictures: &[f32]) -> Vec<f32> {
        let size = self.side * self.side * 3;
        let count = pictures.len() / size;
        let mut output = vec![0.0; count * self.width()];
        // Weights are read once for all pictures of a share. Those left over are worked on together.
        let each = count / threads.max(1);
        let (whole, rest) = pictures.split_at(threads * each * size);
        let (outputs, last) = output.split_at_mut(threads * each * self.width());
        if each > 0 {
            let outputs = outputs.chunks_mut(each * self.width());
            let shares = whole.chunks(each * size).zip(outputs).map(Mutex::new);
            let shares: Vec<_> = shares.collect();
            share(threads, shares.len(), |number| {
                let (pictures, output) = &mut *lock(&shares[number]);
                run::run(self, 1, pictures, output);
            });
        }
        if !rest.is_empty() {
            run::run(self, threads, rest, last);
        }
        output
    }
}

#[cfg(test)]
mod tests;
