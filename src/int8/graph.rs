//! From the operators of an ONNX file to steps: a float32 graph in which each result is rounded (`QuantizeLinear`) and
//! read back (`DequantizeLinear`), weights and biases as well.

use std::sync::Mutex;

use prost::bytes::Bytes;

use super::kernel::COLUMNS;
use super::{BLOCK, Border, Conv, Dense, INPUTS, Network, Operation, Pool, Step, Tensor};
use crate::onnx::{Constant, Graph, Node};
use crate::simd::cpu::Cpu;

/// Two products of bytes and weights up to this fit into 16 bits, with a sign.
const LARGEST_WEIGHT: u8 = 64;

/// What a node gives.
#[derive(Clone)]
enum Value {
    /// The input of the graph.
    Picture,
    /// A tensor, rounded.
    Rounded(usize),
    /// The same in float32.
    Tensor(usize),
    /// Weights or biases, in integers at this node.
    Constant(usize),
    /// Of a step, not rounded yet.
    Step(usize),
    /// Of the last layer, and what its length is taken from: [`crate::embed`] scales every row to unit length.
    Row,
    Length,
}

struct Reader<'a> {
    nodes: &'a [Node],
    side: usize,
    values: Vec<Value>,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    dense: Option<Dense>,
}

pub fn network(file: Bytes, side: usize, cpu: Cpu) -> Option<Network> {
    let Graph {
        nodes,
        outputs,
        properties,
    } = Graph::read(file)?;
    let mut reader = Reader {
        nodes: &nodes,
        side,
        values: Vec::new(),
        tensors: Vec::new(),
        steps: Vec::new(),
        dense: None,
    };
    for node in &nodes {
        let value = reader.add(node)?;
        reader.values.push(value);
    }
    let [output] = outputs[..] else { return None };
    let dense = reader.dense?;
    let is_row = matches!(reader.values[output], Value::Row);
    let mut tensors = reader.tensors;
    assign_buffers(&mut tensors, &reader.steps, dense.from);
    // Every step has been rounded, or its result has no scale.
    let is_whole = tensors.iter().all(|t| t.scale > 0.0);
    (is_row && is_whole).then_some(Network {
        cpu,
        side,
        tensors,
        steps: reader.steps,
        dense,
        properties,
        desks: Mutex::default(),
    })
}

/// A buffer is free again when the last step that reads it is done.
fn assign_buffers(tensors: &mut [Tensor], steps: &[Step], last: usize) {
    let mut free = Vec::new();
    let mut count = 1;
    for (number, step) in steps.iter().enumerate() {
        tensors[step.to].buffer = free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        let mut done: Vec<_> = step.from.iter().chain([&step.to]).copied().collect();
        done.sort_unstable();
        done.dedup();
        done.retain(|from| {
            *from != last && steps[number + 1..].iter().all(|s| !s.from.contains(from))
        });
        free.extend(done.into_iter().map(|from| tensors[from].buffer));
    }
}

fn number(node: &Node, name: &str) -> Option<i64> {
    node.numbers.get(name).and_then(|n| n.first()).copied()
}

/// Sizes along height and width; `otherwise` where the node does not say.
fn pair(node: &Node, name: &str, otherwise: usize) -> Option<[usize; 2]> {
    match node.numbers.get(name) {
        Some(numbers) => {
            let [y, x] = numbers[..] else { return None };
            Some([usize::try_from(y).ok()?, usize::try_from(x).ok()?])
        }
        None => Some([otherwise; 2]),
    }
}

impl Reader<'_> {
    fn add(&mut self, node: &Node) -> Option<Value> {
        let source = match node.sources.first() {
            Some(&source) => Some(self.values.get(source)?.clone()),
            None => None,
        };
        let constants = node.constants.len() + node.integers.len();
        match (node.operator.as_str(), source) {
            ("DequantizeLinear", None) => {
                (constants == 3).then_some(Value::Constant(self.values.len()))
            }
            ("DequantizeLinear", Some(Value::Rounded(tensor))) => {
                let same = (self.tensors[tensor].scale, self.tensors[tensor].zero);
                (rounding(node)? == same).then_some(Value::Tensor(tensor))
            }
            // To channels first, as ONNX wants them; here they stay last.
            ("Transpose", None) => {
                (node.numbers.get("perm")? == &[0, 3, 1, 2]).then_some(Value::Picture)
            }
            ("QuantizeLinear", Some(Value::Picture)) if self.tensors.is_empty() => {
                let tensor = self.tensor(self.side, self.side, 4);
                self.round(node, tensor)
            }
            ("QuantizeLinear", Some(Value::Step(step))) => self.round(node, self.steps[step].to),
            ("QuantizeLinear", Some(Value::Tensor(tensor))) => {
                let same = (self.tensors[tensor].scale, self.tensors[tensor].zero);
                (rounding(node)? == same).then_some(Value::Rounded(tensor))
            }
            ("Conv", Some(Value::Tensor(from))) => self.convolution(node, from),
            ("MaxPool", Some(Value::Tensor(from))) => self.pool(node, from),
            ("Concat", Some(Value::Tensor(_))) => self.concat(node),
            ("Add", Some(Value::Tensor(a))) => {
                let Value::Tensor(b) = *self.values.get(*node.sources.get(1)?)? else {
                    return None;
                };
                let Tensor {
                    height,
                    width,
                    channels,
                    ..
                } = self.tensors[a];
                let other = &self.tensors[b];
                let fits = [other.height, other.width, other.channels] == [height, width, channels];
                fits.then(|| self.push(Operation::Add, vec![a, b], [height, width, channels]))
            }
            ("GlobalAveragePool", Some(Value::Tensor(from))) => {
                let channels = self.tensors[from].channels;
                Some(self.push(Operation::Average, vec![from], [1, 1, channels]))
            }
            ("Flatten", Some(Value::Tensor(from))) => {
                let Tensor { height, width, .. } = self.tensors[from];
                (height * width == 1).then_some(Value::Tensor(from))
            }
            ("Gemm", Some(Value::Tensor(from))) => self.dense(node, from),
            ("ReduceL2", Some(Value::Row)) | ("Max", Some(Value::Length)) => Some(Value::Length),
            ("Div", Some(Value::Row)) => {
                let by = self.values.get(*node.sources.get(1)?)?;
                matches!(by, Value::Length).then_some(Value::Row)
            }
            _ => None,
        }
    }

    /// Without a scale yet.
    fn tensor(&mut self, height: usize, width: usize, channels: usize) -> usize {
        self.tensors.push(Tensor {
            height,
            width,
            channels,
            scale: 0.0,
            zero: 0,
            buffer: 0,
        });
        self.tensors.len() - 1
    }

    fn push(&mut self, operation: Operation, from: Vec<usize>, shape: [usize; 3]) -> Value {
        let to = self.tensor(shape[0], shape[1], shape[2]);
        self.steps.push(Step {
            operation,
            from,
            to,
        });
        Value::Step(self.steps.len() - 1)
    }

    /// Now that the scale of a result is known, so is what becomes of a sum in it.
    fn round(&mut self, node: &Node, tensor: usize) -> Option<Value> {
        let (scale, zero) = rounding(node)?;
        if self.tensors[tensor].scale != 0.0 {
            return None;
        }
        self.tensors[tensor].scale = scale;
        self.tensors[tensor].zero = zero;
        let step = self.steps.iter_mut().find(|s| s.to == tensor);
        if let Some(Step {
            operation, from, ..
        }) = step
        {
            let inputs = from.iter().map(|&from| &self.tensors[from]);
            match operation {
                Operation::Conv(conv) => conv.scale.iter_mut().for_each(|s| *s /= scale),
                Operation::Concat(tables) => {
                    *tables = inputs.map(|t| table(t, scale, zero)).collect();
                }
                Operation::Pool(_) => {
                    let same = |t: &Tensor| (t.scale, t.zero) == (scale, zero);
                    if !inputs.into_iter().all(same) {
                        return None;
                    }
                }
                Operation::Add | Operation::Average => {}
            }
        }
        Some(Value::Rounded(tensor))
    }

    /// The integers that an input of a node has, and what one is worth.
    fn integers(&self, node: &Node, input: usize) -> Option<(&Constant<Bytes>, &[f32])> {
        let Value::Constant(maker) = *self.values.get(*node.sources.get(input)?)? else {
            return None;
        };
        let maker = &self.nodes[maker];
        let [values, zeros] = &maker.integers[..] else {
            return None;
        };
        let is_even = zeros.values.iter().all(|&b| b == 0);
        let scale = &maker.constants.first()?.values;
        let is_by_channel = number(maker, "axis") == Some(0);
        (is_even && is_by_channel).then_some((values, &scale[..]))
    }

    fn convolution(&mut self, node: &Node, from: usize) -> Option<Value> {
        let (weights, scales) = self.integers(node, 1)?;
        let (bias, bias_scales) = self.integers(node, 2)?;
        let [channels, inputs, height, width] = weights.shape[..] else {
            return None;
        };
        let tensor = self.tensors[from].clone();
        let is_plain = number(node, "group").unwrap_or(1) == 1
            && pair(node, "dilations", 1)? == [1, 1]
            && !node.texts.contains_key("auto_pad");
        let fits = !weights.values.is_empty()
            && inputs.next_multiple_of(4) == tensor.channels
            && channels % 16 == 0
            && [scales.len(), bias_scales.len()] == [channels; 2]
            && bias.values.len() == 4 * channels
            && weights
                .values
                .iter()
                .all(|&w| (w as i8).unsigned_abs() <= LARGEST_WEIGHT);
        // A bias is in the unit of the sums.
        let worth = |(&b, &w): (&f32, &f32)| (b - tensor.scale * w).abs() <= 1e-4 * b;
        if !is_plain || !fits || !bias_scales.iter().zip(scales).all(worth) {
            return None;
        }
        let border = border(node, &tensor, [height, width])?;
        let (rows, columns) = match &border {
            Some(border) => (border.height, border.width),
            None => (tensor.height, tensor.width),
        };
        let [down, right] = pair(node, "strides", 1)?.map(|s| s.max(1));
        let out = [
            rows.checked_sub(height)? / down + 1,
            columns.checked_sub(width)? / right + 1,
        ];
        let groups = tensor.channels / 4;
        let (y, x) = (0..out[0], 0..out[1]);
        let places = y.flat_map(|y| {
            x.clone()
                .map(move |x| (y * down * columns + x * right) * groups)
        });
        let whole = channels.next_multiple_of(BLOCK);
        let biases = bias
            .values
            .as_chunks()
            .0
            .iter()
            .map(|&b| i32::from_le_bytes(b));
        let each = weights.values.chunks_exact(inputs * height * width);
        let biases = biases.zip(each).map(|(bias, weights)| {
            let sum: i32 = weights.iter().map(|&w| i32::from(w as i8)).sum();
            bias.wrapping_sub(i32::from(tensor.zero).wrapping_mul(sum))
        });
        let filled = whole - channels;
        let conv = Conv {
            places: places.collect(),
            rows: (0..height).map(|y| y * columns * groups).collect(),
            length: width * groups,
            taps: pack(&weights.values, inputs, height * width, whole),
            bias: biases.chain(vec![0; filled]).collect(),
            scale: scales
                .iter()
                .map(|w| tensor.scale * w)
                .chain(vec![0.0; filled])
                .collect(),
            border,
        };
        let shape = [out[0], out[1], channels];
        Some(self.push(Operation::Conv(conv), vec![from], shape))
    }

    fn pool(&mut self, node: &Node, from: usize) -> Option<Value> {
        let Tensor {
            height,
            width,
            channels,
            ..
        } = self.tensors[from];
        let ([size, across], [stride, right]) =
            (pair(node, "kernel_shape", 1)?, pair(node, "strides", 1)?);
        let is_plain = size == across
            && stride == right
            && size.min(stride) > 0
            && pair(node, "dilations", 1)? == [1, 1]
            && number(node, "ceil_mode").unwrap_or(0) == 0
            && !node.texts.contains_key("auto_pad")
            && node
                .numbers
                .get("pads")
                .is_none_or(|p| p.iter().all(|&p| p == 0));
        let out = |length: usize| Some(length.checked_sub(size)? / stride + 1);
        let shape = [out(height)?, out(width)?, channels];
        is_plain.then(|| self.push(Operation::Pool(Pool { size, stride }), vec![from], shape))
    }

    fn concat(&mut self, node: &Node) -> Option<Value> {
        let inputs = node
            .sources
            .iter()
            .map(|&source| match self.values.get(source)? {
                Value::Tensor(tensor) => Some(*tensor),
                _ => None,
            });
        let inputs = inputs.collect::<Option<Vec<_>>>()?;
        let tensors = || inputs.iter().map(|&t| &self.tensors[t]);
        let Tensor { height, width, .. } = *tensors().next()?;
        let fits = number(node, "axis")? == 1
            && inputs.len() <= INPUTS
            && tensors().all(|t| (t.height, t.width) == (height, width));
        let channels = tensors().map(|t| t.channels).sum();
        fits.then(|| {
            self.push(
                Operation::Concat(Vec::new()),
                inputs,
                [height, width, channels],
            )
        })
    }

    fn dense(&mut self, node: &Node, from: usize) -> Option<Value> {
        let [weights, bias] = &node.constants[..] else {
            return None;
        };
        let is_plain = ["transA", "transB"]
            .iter()
            .all(|name| number(node, name).unwrap_or(0) == 0)
            && self.dense.is_none();
        let fits = weights.shape == [self.tensors[from].channels, bias.values.len()];
        (is_plain && fits && !bias.values.is_empty()).then(|| {
            let mut rows = vec![0.0; weights.values.len()];
            by_columns(&weights.values, bias.values.len(), &mut rows);
            self.dense = Some(Dense {
                from,
                weights: rows,
                bias: bias.values.clone(),
            });
            Value::Row
        })
    }
}

/// From `[channel, input, place]` to `[block, place, input, BLOCK]`, four inputs in one, for `whole` channels.
fn pack(weights: &[u8], inputs: usize, area: usize, whole: usize) -> Vec<i32> {
    let groups = inputs.div_ceil(4);
    let length = area * groups * BLOCK;
    let mut taps = vec![0; whole / BLOCK * length];
    for (channel, weights) in weights.chunks_exact(inputs * area).enumerate() {
        let taps = &mut taps[channel / BLOCK * length..][..length];
        for (group, weights) in weights.chunks(4 * area).enumerate() {
            for place in 0..area {
                let mut quad = [0; 4];
                for (quad, &weight) in quad.iter_mut().zip(weights[place..].iter().step_by(area)) {
                    *quad = weight;
                }
                let at = (place * groups + group) * BLOCK + channel % BLOCK;
                taps[at] = i32::from_le_bytes(quad);
            }
        }
    }
    taps
}

/// From `[input, width]` to columns that are worked on together: `[width / COLUMNS, input, COLUMNS]`, fewer in the last.
fn by_columns(weights: &[f32], width: usize, to: &mut [f32]) {
    let inputs = weights.len() / width;
    for (number, block) in to.chunks_mut(inputs * COLUMNS).enumerate() {
        let columns = block.len() / inputs;
        for (to, from) in block
            .chunks_exact_mut(columns)
            .zip(weights.chunks_exact(width))
        {
            to.copy_from_slice(&from[number * COLUMNS..][..columns]);
        }
    }
}

/// Scale and zero of a node that rounds or reads back.
fn rounding(node: &Node) -> Option<(f32, u8)> {
    let ([scale], [zero]) = (&node.constants[..], &node.integers[..]) else {
        return None;
    };
    let ([scale], [zero]) = (&scale.values[..], &zero.values[..]) else {
        return None;
    };
    (scale.is_finite() && *scale > 0.0).then_some((*scale, *zero))
}

/// What each byte of an input becomes with another scale and zero.
fn table(tensor: &Tensor, scale: f32, zero: u8) -> [u8; 256] {
    std::array::from_fn(|byte| {
        let value = (byte as f32 - f32::from(tensor.zero)) * tensor.scale;
        ((value / scale).round_ties_even() + f32::from(zero)).clamp(0.0, 255.0) as u8
    })
}

/// `None` where there are no pixels around the picture.
fn border(node: &Node, tensor: &Tensor, kernel: [usize; 2]) -> Option<Option<Border>> {
    let Some(pads) = node.numbers.get("pads") else {
        return Some(None);
    };
    let [top, left, bottom, right] = pads[..] else {
        return None;
    };
    // No pixel sees nothing but border.
    let size = |n: i64, kernel: usize| usize::try_from(n).ok().filter(|&n| n < kernel);
    let (top, left) = (size(top, kernel[0])?, size(left, kernel[1])?);
    let (height, width) = (
        tensor.height + top + size(bottom, kernel[0])?,
        tensor.width + left + size(right, kernel[1])?,
    );
    let is_wider = (height, width) != (tensor.height, tensor.width);
    Some(is_wider.then_some(Border {
        top,
        left,
        height,
        width,
    }))
}
