//! A network of the operators that our kernels implement, and the passes over it: PReLU is recognised in its expanded
//! form, activations are fused into the layers before them, rows and columns are exchanged.

use prost::bytes::Bytes;

/// Maximum number of inputs of an operator.
pub const MOST_INPUTS: usize = 4;

/// Index of a tensor in [`Fused::tensors`].
pub type TensorId = usize;

/// A network of fused operators.
#[derive(Debug, Clone)]
pub struct Fused {
    /// The first tensor is the input of the network.
    pub tensors: Vec<Tensor>,
    pub ops: Vec<FusedNode>,
    pub outputs: Vec<TensorId>,
}

/// A stored tensor, `[channels, height, width]` for each item of a batch; its memory layout is not defined here.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// `None` for float32; else elements are u8, each representing `scale` × (element − `zero_point`).
    pub quantization: Option<Quantization>,
    /// Whether the tensor is a feature row, without height and width.
    pub is_flat: bool,
}

impl Tensor {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    pub scale: f32,
    pub zero_point: u8,
}

#[derive(Debug, Clone)]
pub struct FusedNode {
    pub name: String,
    pub op: FusedOp,
    pub inputs: Vec<TensorId>,
    pub output: TensorId,
}

#[derive(Debug, Clone)]
pub enum FusedOp {
    /// Quantises float32 to u8.
    Quantize,
    Conv(Conv),
    MaxPool(Geometry),
    GlobalAveragePool,
    Concat,
    Add,
    /// An activation that is not fused into a layer.
    Slopes(Slopes),
    /// Flattens to a feature row, in the order channels, height, width.
    Flatten,
    /// Dequantises u8 to float32.
    Dequantize,
    Gemm(Dense),
    Softmax,
    /// Selects the channels from this index on.
    Slice(usize),
    /// Divides by the Euclidean length, but at least by this.
    L2Normalize(f32),
}

/// Size, strides and padding of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Height and width.
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
}

#[derive(Debug, Clone)]
pub struct Conv {
    pub geometry: Geometry,
    /// Number of output channels.
    pub out: usize,
    /// Number of input channels.
    pub into: usize,
    pub weights: Weights,
    pub slopes: Option<Slopes>,
}

/// Convolution weights, `[out, into, rows, columns]`.
#[derive(Debug, Clone)]
pub enum Weights {
    F32 {
        values: Vec<f32>,
        bias: Vec<f32>,
    },
    /// i8 with one scale per output channel; the bias has the scale of the products (input scale × weight scale).
    I8 {
        values: Bytes,
        scales: Vec<f32>,
        bias: Vec<i32>,
    },
}

/// y = `above` · max(x, 0) + `below` · min(x, 0) per channel, which covers ReLU, PReLU and a constant factor.
#[derive(Debug, Clone, PartialEq)]
pub struct Slopes {
    pub above: Vec<f32>,
    pub below: Vec<f32>,
}

/// A fully connected layer.
#[derive(Debug, Clone)]
pub struct Dense {
    pub into: usize,
    pub out: usize,
    /// Weights, `[into, out]`.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub slopes: Option<Slopes>,
}

impl Fused {
    /// Number of operator inputs that read a tensor; an output of the network counts as one more.
    pub fn readers(&self, tensor: TensorId) -> usize {
        let inputs = self.ops.iter().flat_map(|op| &op.inputs);
        inputs
            .chain(&self.outputs)
            .filter(|t| **t == tensor)
            .count()
    }

    /// Index of the operator that produces a tensor.
    fn maker(&self, tensor: TensorId) -> Option<usize> {
        self.ops.iter().position(|op| op.output == tensor)
    }

    /// The tensor of pixels that a tensor is flattened from, if it is the output of `Flatten`.
    pub fn flattened(&self, tensor: TensorId) -> Option<TensorId> {
        let maker = &self.ops[self.maker(tensor)?];
        matches!(maker.op, FusedOp::Flatten).then_some(maker.inputs[0])
    }

    /// Fuses PReLU in the form that some exporters write, below · y + factor · relu(y), into one activation.
    pub fn fuse_slopes(&mut self) {
        let mut number = 0;
        while number < self.ops.len() {
            if let Some((slopes, from, parts)) = self.slopes(number) {
                self.ops[number].op = FusedOp::Slopes(slopes);
                self.ops[number].inputs = vec![from];
                let mut at = 0;
                self.ops.retain(|_| {
                    at += 1;
                    !parts.contains(&(at - 1))
                });
                number -= parts.len();
            }
            number += 1;
        }
    }

    /// The activation formed by an addition and the three operators before it, its input, and the indices of these
    /// three.
    fn slopes(&self, number: usize) -> Option<(Slopes, TensorId, [usize; 3])> {
        let FusedOp::Add = self.ops[number].op else {
            return None;
        };
        let [a, b] = self.ops[number].inputs[..] else {
            return None;
        };
        let activation = |tensor: TensorId| {
            let maker = self.maker(tensor)?;
            match &self.ops[maker].op {
                FusedOp::Slopes(slopes) if self.readers(tensor) == 1 => {
                    Some((maker, slopes, self.ops[maker].inputs[0]))
                }
                _ => None,
            }
        };
        let is_factor = |s: &Slopes| s.above == s.below;
        let is_relu =
            |s: &Slopes| s.above.iter().all(|&a| a == 1.0) && s.below.iter().all(|&b| b == 0.0);
        // The branches of the addition may be in either order.
        [(a, b), (b, a)].into_iter().find_map(|(upper, lower)| {
            let (factor, factors, rectified) = activation(upper)?;
            let (relu, rectifier, from) = activation(rectified)?;
            let (below, slopes, other) = activation(lower)?;
            let fits =
                is_factor(factors) && is_relu(rectifier) && is_factor(slopes) && from == other;
            fits.then(|| {
                let above = factors.above.iter().zip(&slopes.below).map(|(f, s)| f + s);
                let fused = Slopes {
                    above: above.collect(),
                    below: slopes.below.clone(),
                };
                (fused, from, [factor, relu, below])
            })
        })
    }

    /// Fuses an activation into the layer before it if nothing else reads that layer's output.
    pub fn fuse_activations(&mut self) {
        let mut number = 0;
        while number < self.ops.len() {
            let node = &self.ops[number];
            if let FusedOp::Slopes(slopes) = &node.op
                && self.readers(node.inputs[0]) == 1
                && let Some(maker) = self.maker(node.inputs[0])
                && let FusedOp::Conv(Conv { slopes: None, .. })
                | FusedOp::Gemm(Dense { slopes: None, .. }) = &self.ops[maker].op
            {
                let (slopes, output) = (slopes.clone(), node.output);
                match &mut self.ops[maker].op {
                    FusedOp::Conv(conv) => conv.slopes = Some(slopes),
                    FusedOp::Gemm(dense) => dense.slopes = Some(slopes),
                    _ => {}
                }
                self.ops[maker].output = output;
                self.ops.remove(number);
            } else {
                number += 1;
            }
        }
    }

    /// Changes the network to take images with rows and columns exchanged, because MTCNN's files take columns first.
    pub fn exchange_rows_and_columns(&mut self) {
        for tensor in &mut self.tensors {
            std::mem::swap(&mut tensor.height, &mut tensor.width);
        }
        for number in 0..self.ops.len() {
            match &mut self.ops[number].op {
                FusedOp::Conv(conv) => {
                    let [rows, columns] = conv.geometry.kernel;
                    let area = rows * columns;
                    if let Weights::F32 { values, .. } = &mut conv.weights {
                        let old = values.clone();
                        for (at, value) in values.iter_mut().enumerate() {
                            let (y, x) = (at % area / rows, at % area % rows);
                            *value = old[at / area * area + x * columns + y];
                        }
                    }
                    if let Weights::I8 { values, .. } = &mut conv.weights {
                        let old = values.clone();
                        let exchanged = (0..old.len()).map(|at| {
                            let (y, x) = (at % area / rows, at % area % rows);
                            old[at / area * area + x * columns + y]
                        });
                        *values = exchanged.collect();
                    }
                    conv.geometry.exchange();
                }
                FusedOp::MaxPool(geometry) => geometry.exchange(),
                FusedOp::Gemm(_) => self.exchange_features(number),
                _ => {}
            }
        }
    }

    /// Reorders the weights of a layer on flattened pixels to match the exchanged rows and columns.
    fn exchange_features(&mut self, number: usize) {
        let from = self.ops[number].inputs[0];
        let Some(FusedNode {
            op: FusedOp::Flatten,
            inputs,
            ..
        }) = self.maker(from).map(|maker| &self.ops[maker])
        else {
            return;
        };
        // Height and width are already exchanged here.
        let Tensor { height, width, .. } = self.tensors[inputs[0]];
        if let FusedOp::Gemm(dense) = &mut self.ops[number].op {
            let old = dense.weights.clone();
            for (row, weights) in dense.weights.chunks_exact_mut(dense.out).enumerate() {
                let (channel, y, x) = (row / (height * width), row / width % height, row % width);
                let before = (channel * width + x) * height + y;
                weights.copy_from_slice(&old[before * dense.out..][..dense.out]);
            }
        }
    }
}

impl Geometry {
    fn exchange(&mut self) {
        self.kernel.swap(0, 1);
        self.strides.swap(0, 1);
        let [top, left, bottom, right] = self.pads;
        self.pads = [left, top, right, bottom];
    }
}
