//! A network of operators as our kernels have them, and the passes over it: PReLU however a file writes it, activations
//! as parts of the layers before them, rows and columns exchanged.

use prost::bytes::Bytes;

/// Inputs of one operator at most.
pub const MOST_INPUTS: usize = 4;

/// The place of a tensor in [`Fused::tensors`].
pub type TensorId = usize;

/// A network of fused operators.
#[derive(Debug, Clone)]
pub struct Fused {
    /// The first one is the input.
    pub tensors: Vec<Tensor>,
    pub ops: Vec<FusedNode>,
    pub outputs: Vec<TensorId>,
}

/// Numbers that are kept: `[channels, height, width]` for each item of a batch, in whatever order they lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// u8, each standing for `scale` × (number − `zero_point`); float32 if `None`.
    pub quantization: Option<Quantization>,
    /// Whether it has no height and width: a row of features.
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
    /// From float32 to u8.
    Quantize,
    Conv(Conv),
    MaxPool(Geometry),
    GlobalAveragePool,
    Concat,
    Add,
    /// An activation by itself.
    Slopes(Slopes),
    /// To a row of features, in the order of channels, height, width.
    Flatten,
    /// From u8 to float32.
    Dequantize,
    Gemm(Dense),
    Softmax,
    /// Channels from this one on.
    Slice(usize),
    /// Division by the Euclidean length, or by this if that is less.
    L2Normalize(f32),
}

/// Where a window lies.
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
    /// Channels of the output and of the input.
    pub out: usize,
    pub into: usize,
    pub weights: Weights,
    pub slopes: Option<Slopes>,
}

/// `[out, into, rows, columns]`
#[derive(Debug, Clone)]
pub enum Weights {
    F32 {
        values: Vec<f32>,
        bias: Vec<f32>,
    },
    /// i8, each channel of the output with its scale; the bias in units of a sum of products.
    I8 {
        values: Bytes,
        scales: Vec<f32>,
        bias: Vec<i32>,
    },
}

/// y = `above` · max(x, 0) + `below` · min(x, 0), channel by channel: Relu, PRelu, a factor.
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
    /// `[into, out]`
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub slopes: Option<Slopes>,
}

impl Fused {
    /// How many operators read a tensor; an output counts as one more.
    pub fn readers(&self, tensor: TensorId) -> usize {
        let inputs = self.ops.iter().flat_map(|op| &op.inputs);
        inputs
            .chain(&self.outputs)
            .filter(|t| **t == tensor)
            .count()
    }

    /// The operator that gives a tensor.
    fn maker(&self, tensor: TensorId) -> Option<usize> {
        self.ops.iter().position(|op| op.output == tensor)
    }

    /// The tensor of pixels that a tensor is a copy of, if it is.
    pub fn flattened(&self, tensor: TensorId) -> Option<TensorId> {
        let maker = &self.ops[self.maker(tensor)?];
        matches!(maker.op, FusedOp::Flatten).then_some(maker.inputs[0])
    }

    /// PReLU as some files write it, below · y + factor · relu(y), becomes one activation.
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

    /// The activation that an addition and the three operators before it are, its input, and those operators.
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
        // Either branch may come first.
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

    /// An activation becomes a part of the layer before it, where nothing else reads what that gives.
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

    /// The same network for images whose rows and columns are exchanged: MTCNN's files take columns first.
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

    /// The weights of a layer that reads flattened pixels, in the order of the exchanged ones.
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
        // Of the tensor as it is now.
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
