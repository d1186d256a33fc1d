//! Networks in integers of 8 bits, as `models/training/quantise.py` makes them, on kernels of our own: FaceNet.
//!
//! Every tensor is bytes, channels last, each worth `scale` × (byte − `zero`). A step takes one or more to another; sums
//! are exact in 32 bits, and what comes out is rounded as ONNX Runtime does it.

mod graph;
mod kernel;

use std::collections::HashMap;
use std::sync::Mutex;

use prost::bytes::Bytes;
use pulp::bytemuck::cast_slice;

use crate::simd::cpu::Cpu;
use crate::workers::{lock, share};
use kernel::Run;

/// Channels of an output that are worked on together.
const BLOCK: usize = 32;

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
    /// One for each thread that has helped.
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
    /// Bytes of one picture.
    fn len(&self) -> usize {
        self.height * self.width * self.channels
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
    /// `[channels of the input, width]`
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// What a thread works in.
#[derive(Default)]
struct Buffers {
    /// Fours of bytes.
    tensors: Vec<Vec<i32>>,
    bordered: Vec<i32>,
    /// Of the picture.
    bytes: Vec<u8>,
    features: Vec<f32>,
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
        let mut output = vec![0.0; pictures.len() / size * self.width()];
        // Weights are read once for all pictures of a share.
        let each = (pictures.len() / size).div_ceil(threads.max(1)).max(1);
        let outputs = output.chunks_mut(each * self.width());
        let shares = pictures.chunks(each * size).zip(outputs).map(Mutex::new);
        let shares: Vec<_> = shares.collect();
        share(threads, shares.len(), |number| {
            let (pictures, output) = &mut *lock(&shares[number]);
            let mut buffers = lock(&self.desks).pop().unwrap_or_default();
            self.run_here(pictures, &mut buffers, output);
            lock(&self.desks).push(buffers);
        });
        drop(shares);
        output
    }

    fn run_here(&self, pictures: &[f32], buffers: &mut Buffers, output: &mut [f32]) {
        let count = output.len() / self.width().max(1);
        debug_assert_eq!(pictures.len(), count * self.side * self.side * 3);
        for tensor in &self.tensors {
            if buffers.tensors.len() <= tensor.buffer {
                buffers.tensors.resize_with(tensor.buffer + 1, Vec::new);
            }
            let buffer = &mut buffers.tensors[tensor.buffer];
            buffer.resize(buffer.len().max(count * tensor.len() / 4), 0);
        }
        let input = &self.tensors[0];
        self.cpu.run_quads(kernel::First {
            pictures,
            tensor: input,
            to: &mut buffers.tensors[input.buffer],
            bytes: &mut buffers.bytes,
        });
        for step in &self.steps {
            let tensor = &self.tensors[step.to];
            // Its buffer is none of those that it reads.
            let mut to = std::mem::take(&mut buffers.tensors[tensor.buffer]);
            self.cpu.run_quads(Run {
                operation: &step.operation,
                from: &step.from,
                tensors: &self.tensors,
                buffers: &buffers.tensors,
                result: tensor,
                to: &mut to[..count * tensor.len() / 4],
                bordered: &mut buffers.bordered,
                count,
            });
            buffers.tensors[tensor.buffer] = to;
        }
        self.end(buffers, output);
    }

    /// The last layer.
    fn end(&self, buffers: &mut Buffers, output: &mut [f32]) {
        let Dense {
            from,
            weights,
            bias,
        } = &self.dense;
        let tensor = &self.tensors[*from];
        let bytes: &[u8] = cast_slice(&buffers.tensors[tensor.buffer]);
        let worth = |&byte: &u8| (f32::from(byte) - f32::from(tensor.zero)) * tensor.scale;
        buffers.features.clear();
        let count = output.len() / bias.len();
        let bytes = &bytes[..count * tensor.len()];
        buffers.features.extend(bytes.iter().map(worth));
        self.cpu.run_quads(kernel::Last {
            features: &buffers.features,
            weights,
            bias,
            output,
        });
    }
}

#[cfg(test)]
mod tests;
