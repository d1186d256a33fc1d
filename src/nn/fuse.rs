//! Lowers the graph of an ONNX file to the operators of our kernels: quantised ones between `DequantizeLinear` and
//! `QuantizeLinear`, convolutions with their bias, and then the passes of [`Fused`].
//!
//! A value of the file becomes a [`Tensor`] only if it is stored; any other value is a [`View`] of a tensor.

mod quantized;

use super::error::{ImportError, Unsupported};
use super::fused::{
    Conv, Dense, Fused, FusedNode, FusedOp, Geometry, MOST_INPUTS, Quantization, Slopes, Tensor,
    TensorId, Weights,
};
use super::graph::{Graph, Node, ValueId};
use super::op::{Gemm, Op};
use super::window::Window;

/// Representation of a value of the file.
#[derive(Debug, Clone)]
enum View {
    /// A constant.
    Constant,
    /// Integer weights or bias, with the index of their `DequantizeLinear` node.
    Weights(usize),
    /// A float32 tensor.
    F32(TensorId, Layout),
    /// A quantised tensor (u8).
    U8(TensorId),
    /// A quantised tensor (u8), read through `DequantizeLinear`.
    Dequantized(TensorId),
    /// The output of a quantised operator, to be rounded by the `QuantizeLinear` that follows.
    Unrounded(TensorId),
    /// The Euclidean length of a row, and its lower bound as a divisor.
    Length { row: TensorId, floor: Option<f32> },
    /// The output of a node that was refused.
    Refused,
}

/// Position of the channels among the axes of a tensor in the file, after the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    ChannelsFirst,
    ChannelsLast,
}

/// Maximum number of multiply-accumulates per item, ten times FaceNet's: larger networks would seem to hang.
const MOST_PRODUCTS: usize = 1 << 34;

/// Maximum number of operators of a network; FaceNet has 182.
const MOST_OPS: usize = 4096;

/// Relative tolerance between the scale of a bias and that of the products it is added to, for float32 rounding.
const SCALE_TOLERANCE: f32 = 1e-6;

/// Lowers a graph. The error lists all refusals, in file order: those of the import and those found here.
pub fn fuse(graph: &Graph) -> Result<Fused, ImportError> {
    let mut fuser = Fuser::new(graph)?;
    let mut refused = graph.refused.iter().peekable();
    for number in 0..=graph.nodes.len() {
        while let Some((_, refusal)) = refused.next_if(|(nodes, _)| *nodes == number) {
            fuser.refusals.push(refusal.clone());
        }
        if let Some(node) = graph.nodes.get(number) {
            fuser.add(number, node);
        }
    }
    fuser.finish()
}

struct Fuser<'a> {
    graph: &'a Graph,
    views: Vec<View>,
    fused: Fused,
    refusals: Vec<Unsupported>,
    products: usize,
}

impl<'a> Fuser<'a> {
    fn new(graph: &'a Graph) -> Result<Self, ImportError> {
        let input = &graph.values[graph.input];
        let [height, width, channels] = input.fact.dims[..] else {
            return Err(ImportError::unsupported(format!(
                "an input of {:?} for each item; expected height, width and channels",
                input.fact.dims
            )));
        };
        let mut views = vec![View::Constant; graph.values.len()];
        views[graph.input] = View::F32(0, Layout::ChannelsLast);
        let tensors = vec![Tensor {
            name: input.name.clone(),
            channels,
            height,
            width,
            quantization: None,
            is_flat: false,
        }];
        Ok(Self {
            graph,
            views,
            fused: Fused {
                tensors,
                ops: Vec::new(),
                outputs: Vec::new(),
            },
            refusals: Vec::new(),
            products: 0,
        })
    }

    fn add(&mut self, number: usize, node: &Node) {
        let is_reachable = node
            .inputs
            .iter()
            .flatten()
            .all(|&id| !matches!(self.views[id], View::Refused));
        let views = if is_reachable {
            self.lower(number, node)
        } else {
            Ok(vec![View::Refused; node.outputs.len()])
        };
        let views = views.unwrap_or_else(|reason| {
            self.refusals
                .push(Unsupported::new(&node.name, node.op.name(), reason));
            vec![View::Refused; node.outputs.len()]
        });
        for (&output, view) in node.outputs.iter().zip(views) {
            self.views[output] = view;
        }
    }

    fn finish(mut self) -> Result<Fused, ImportError> {
        // A scale of 0 marks a quantised result that no QuantizeLinear has rounded.
        let unrounded = |t: &Tensor| t.quantization.is_some_and(|q| q.scale <= 0.0);
        if self.refusals.is_empty() {
            for node in &self.fused.ops {
                if unrounded(&self.fused.tensors[node.output]) {
                    self.refusals.push(Unsupported::new(
                        &node.name,
                        "QuantizeLinear",
                        "the result of a quantised operator is never rounded",
                    ));
                }
            }
            for &output in &self.graph.outputs {
                match self.views[output] {
                    View::F32(tensor, layout)
                        if tensor > 0
                            && (layout == Layout::ChannelsLast
                                || self.fused.tensors[tensor].pixels() == 1) =>
                    {
                        self.fused.outputs.push(tensor);
                    }
                    View::F32(tensor, _) if tensor > 0 => self.refusals.push(Unsupported::new(
                        &self.graph.values[output].name,
                        "",
                        "an output of several pixels whose channels come first",
                    )),
                    _ => self.refusals.push(Unsupported::new(
                        &self.graph.values[output].name,
                        "",
                        "an output that is no result in float32",
                    )),
                }
            }
            if self.products > MOST_PRODUCTS || self.fused.ops.len() > MOST_OPS {
                self.refusals.push(Unsupported::model(format!(
                    "{} operators with {} products for each item; at most {MOST_OPS} and {MOST_PRODUCTS}",
                    self.fused.ops.len(),
                    self.products
                )));
            }
        }
        if !self.refusals.is_empty() {
            return Err(ImportError::Unsupported(self.refusals));
        }
        self.fused.fuse_slopes();
        self.fused.fuse_activations();
        Ok(self.fused)
    }

    fn view(&self, node: &Node, input: usize) -> &View {
        match node.inputs.get(input) {
            Some(&Some(id)) => &self.views[id],
            _ => &View::Refused,
        }
    }

    /// Lowers a node and returns the views of its outputs.
    fn lower(&mut self, number: usize, node: &Node) -> Result<Vec<View>, String> {
        let x = self.view(node, 0).clone();
        let one = |view: View| Ok(vec![view]);
        match (&node.op, x) {
            (Op::Split { axis }, View::F32(tensor, layout)) => {
                self.split(node, *axis, tensor, layout)
            }
            (Op::DequantizeLinear { axis }, View::Constant) => {
                one(self.weights(number, node, *axis)?)
            }
            (Op::DequantizeLinear { .. }, View::U8(tensor)) => {
                let given = self.scale(node)?;
                let own = self.fused.tensors[tensor].quantization;
                if own != Some(given) {
                    return Err(
                        "it reads with another scale or zero point than was written".to_owned()
                    );
                }
                one(View::Dequantized(tensor))
            }
            (Op::QuantizeLinear { .. }, x) => one(self.quantize(node, x)?),
            (Op::Transpose { perm }, View::F32(tensor, layout)) => match (&perm[..], layout) {
                ([0, 3, 1, 2], Layout::ChannelsLast) => {
                    one(View::F32(tensor, Layout::ChannelsFirst))
                }
                ([0, 2, 3, 1], Layout::ChannelsFirst) => {
                    one(View::F32(tensor, Layout::ChannelsLast))
                }
                _ => Err(format!(
                    "perm {perm:?} here; expected channels first before and last after"
                )),
            },
            (Op::Softmax { axis }, View::F32(tensor, layout)) => {
                self.need_channels(*axis, tensor, layout)?;
                let view = self.push(node, FusedOp::Softmax, vec![tensor], |t| t)?;
                one(with_layout(view, layout))
            }
            (Op::ReduceL2 { .. }, View::F32(tensor, _)) => one(View::Length {
                row: tensor,
                floor: None,
            }),
            (Op::Max, View::Length { row, floor: None }) => {
                let floor = self.graph.f32_constant(node, 1).map(|(_, values)| values);
                match floor.as_deref() {
                    Some(&[floor]) if floor > 0.0 && floor.is_finite() => one(View::Length {
                        row,
                        floor: Some(floor),
                    }),
                    _ => Err("expected a constant above 0 as the second input".to_owned()),
                }
            }
            (Op::Div, View::F32(tensor, _)) => match *self.view(node, 1) {
                View::Length {
                    row,
                    floor: Some(floor),
                } if row == tensor => {
                    one(self.push(node, FusedOp::L2Normalize(floor), vec![tensor], |t| t)?)
                }
                _ => Err(
                    "expected the length of the same row, kept above 0, as the divisor".to_owned(),
                ),
            },
            (_, View::F32(tensor, Layout::ChannelsLast)) if !self.fused.tensors[tensor].is_flat => {
                Err(
                    "channels come last here; expected a Transpose to [0, 3, 1, 2] before"
                        .to_owned(),
                )
            }
            (op, View::F32(tensor, _)) => one(self.lower_f32(node, op, tensor)?),
            (op, View::Dequantized(tensor)) => one(self.lower_u8(node, op, tensor)?),
            (_, View::Unrounded(_)) => {
                Err("it reads the result of a quantised operator before that is rounded".to_owned())
            }
            _ => Err("not of such an input".to_owned()),
        }
    }

    fn lower_f32(&mut self, node: &Node, op: &Op, from: TensorId) -> Result<View, String> {
        let channels = self.fused.tensors[from].channels;
        match op {
            Op::Conv { group: 1, .. } => {
                let (dims, values) = self.float_weights(node)?;
                let out = dims[0];
                let bias = self.bias(node, out)?;
                let weights = Weights::F32 { values, bias };
                self.conv(node, from, weights)
            }
            // A depthwise 1×1 convolution multiplies each channel by a factor.
            Op::Conv { group, .. } => {
                let factors = self.graph.f32_constant(node, 1);
                let (dims, factors) = factors.ok_or("weights that are no float32 constant")?;
                let is_factor = *group == channels && dims == [channels, 1, 1, 1];
                if !is_factor || node.inputs.len() > 2 || !self.keeps_size(node) {
                    return Err(format!(
                        "{group} groups with weights of {dims:?}; expected one group, or a factor for each channel"
                    ));
                }
                self.slopes(node, from, factors.clone(), factors)
            }
            Op::Relu => self.slopes(node, from, vec![1.0; channels], vec![0.0; channels]),
            Op::PRelu => {
                let slope = self.graph.f32_constant(node, 1);
                let (_, mut below) = slope.ok_or("slopes that are no float32 constant")?;
                if below.len() == 1 {
                    below = vec![below[0]; channels];
                }
                self.slopes(node, from, vec![1.0; channels], below)
            }
            Op::Add => match *self.view(node, 1) {
                View::F32(tensor, Layout::ChannelsFirst) => {
                    self.push(node, FusedOp::Add, vec![from, tensor], |t| t)
                }
                _ => Err("the second input is no result in float32".to_owned()),
            },
            Op::MaxPool(window) => self.max_pool(node, window, from),
            Op::Flatten { .. } => self.flatten(node, from),
            Op::Gemm(gemm) => self.gemm(node, gemm, from),
            _ => Err("not of float32".to_owned()),
        }
    }

    fn lower_u8(&mut self, node: &Node, op: &Op, from: TensorId) -> Result<View, String> {
        match op {
            Op::Conv { group: 1, .. } => {
                let weights = self.integer_weights(node, from)?;
                self.conv(node, from, weights)
            }
            Op::Conv { group, .. } => Err(format!("{group} groups; expected one")),
            Op::MaxPool(window) => self.max_pool(node, window, from),
            Op::GlobalAveragePool => {
                self.push(node, FusedOp::GlobalAveragePool, vec![from], |t| Tensor {
                    height: 1,
                    width: 1,
                    ..t
                })
            }
            Op::Add | Op::Concat { .. } => {
                let inputs: Vec<_> = (0..node.inputs.len())
                    .map(|input| match self.view(node, input) {
                        View::Dequantized(tensor) => Ok(*tensor),
                        _ => Err(format!("input {input} is not quantised")),
                    })
                    .collect::<Result<_, _>>()?;
                if let Op::Concat { axis } = op {
                    if !matches!(axis, 1 | -3) || inputs.len() > MOST_INPUTS {
                        return Err(format!(
                            "axis {axis} of {} inputs; expected 1, of at most {MOST_INPUTS}",
                            inputs.len()
                        ));
                    }
                    let all = inputs.iter().map(|&t| self.fused.tensors[t].channels);
                    let channels = all.sum();
                    return self.push(node, FusedOp::Concat, inputs, |t| Tensor { channels, ..t });
                }
                self.push(node, FusedOp::Add, inputs, |t| t)
            }
            Op::Flatten { .. } => {
                let Tensor { height, width, .. } = self.fused.tensors[from];
                if height * width == 1 {
                    Ok(View::Dequantized(from))
                } else {
                    Err(format!("{height}×{width} quantised pixels; expected one"))
                }
            }
            Op::Gemm(gemm) => {
                let Tensor { height, width, .. } = self.fused.tensors[from];
                if height * width != 1 {
                    return Err(format!("{height}×{width} quantised pixels; expected one"));
                }
                let row = self.push(node, FusedOp::Dequantize, vec![from], |t| Tensor {
                    quantization: None,
                    is_flat: true,
                    ..t
                })?;
                match row {
                    View::F32(tensor, _) => self.gemm(node, gemm, tensor),
                    other => Ok(other),
                }
            }
            _ => Err("not of quantised inputs".to_owned()),
        }
    }

    /// Adds an operator; its output tensor is a copy of the first input's, changed by `shape`.
    fn push(
        &mut self,
        node: &Node,
        op: FusedOp,
        inputs: Vec<TensorId>,
        shape: impl FnOnce(Tensor) -> Tensor,
    ) -> Result<View, String> {
        let like = self.fused.tensors[inputs[0]].clone();
        let mut tensor = shape(like);
        tensor.name = match node.outputs.first() {
            Some(&output) => self.graph.values[output].name.clone(),
            None => node.name.clone(),
        };
        // The QuantizeLinear that follows sets scale and zero point.
        let is_unrounded = tensor.quantization.is_some();
        if is_unrounded {
            tensor.quantization = Some(Quantization {
                scale: 0.0,
                zero_point: 0,
            });
        }
        self.fused.tensors.push(tensor);
        let output = self.fused.tensors.len() - 1;
        self.fused.ops.push(FusedNode {
            name: node.name.clone(),
            op,
            inputs,
            output,
        });
        Ok(match is_unrounded {
            true => View::Unrounded(output),
            false => View::F32(output, Layout::ChannelsFirst),
        })
    }

    fn slopes(
        &mut self,
        node: &Node,
        from: TensorId,
        above: Vec<f32>,
        below: Vec<f32>,
    ) -> Result<View, String> {
        let slopes = Slopes { above, below };
        self.push(node, FusedOp::Slopes(slopes), vec![from], |t| t)
    }

    fn split(
        &mut self,
        node: &Node,
        axis: i64,
        tensor: TensorId,
        layout: Layout,
    ) -> Result<Vec<View>, String> {
        self.need_channels(axis, tensor, layout)?;
        let axis = self.channel_axis(tensor, layout) - 1;
        let mut views = Vec::new();
        let mut first = 0;
        for &output in &node.outputs {
            let channels = self.graph.values[output].fact.dims[axis];
            let view = self.push(node, FusedOp::Slice(first), vec![tensor], |t| Tensor {
                channels,
                ..t
            })?;
            views.push(with_layout(view, layout));
            first += channels;
        }
        Ok(views)
    }

    /// Index of the channel axis in the file, where the batch is axis 0.
    fn channel_axis(&self, tensor: TensorId, layout: Layout) -> usize {
        match (self.fused.tensors[tensor].is_flat, layout) {
            (false, Layout::ChannelsLast) => 3,
            _ => 1,
        }
    }

    fn need_channels(&self, axis: i64, tensor: TensorId, layout: Layout) -> Result<(), String> {
        let rank = if self.fused.tensors[tensor].is_flat {
            2
        } else {
            4
        };
        let expected = self.channel_axis(tensor, layout) as i64;
        match axis == expected || axis + rank == expected {
            true => Ok(()),
            false => Err(format!(
                "axis is {axis}; expected that of the channels, {expected}"
            )),
        }
    }

    /// Whether a convolution has stride 1 and an output of the input's shape.
    fn keeps_size(&self, node: &Node) -> bool {
        let shape = |id: ValueId| &self.graph.values[id].fact.dims;
        match (&node.op, node.inputs[0]) {
            (Op::Conv { window, .. }, Some(input)) => {
                window.strides == [1, 1] && shape(input) == shape(node.outputs[0])
            }
            _ => false,
        }
    }

    fn geometry(
        &self,
        window: &Window,
        kernel: [usize; 2],
        from: TensorId,
    ) -> Result<(Geometry, [usize; 2]), String> {
        if window.dilations != [1, 1] {
            return Err(format!("dilations are {:?}; expected 1", window.dilations));
        }
        let tensor = &self.fused.tensors[from];
        let (out, pads) = window.output(kernel, [tensor.height, tensor.width])?;
        let geometry = Geometry {
            kernel,
            strides: window.strides,
            pads,
        };
        Ok((geometry, out))
    }

    fn conv(&mut self, node: &Node, from: TensorId, weights: Weights) -> Result<View, String> {
        let Op::Conv { window, .. } = &node.op else {
            return Err("no convolution".to_owned());
        };
        let id = node.inputs[1].ok_or("no weights")?;
        let [out, into, rows, columns] = self.graph.values[id].fact.dims[..] else {
            return Err("weights without four axes".to_owned());
        };
        let (geometry, [height, width]) = self.geometry(window, [rows, columns], from)?;
        if height * width == 0 {
            return Err("an output without pixels".to_owned());
        }
        let products = [height, width, out, into, rows, columns];
        let products = products.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        self.products = self.products.saturating_add(products);
        let conv = Conv {
            geometry,
            out,
            into,
            weights,
            slopes: None,
        };
        self.push(node, FusedOp::Conv(conv), vec![from], |t| Tensor {
            channels: out,
            height,
            width,
            ..t
        })
    }

    fn max_pool(&mut self, node: &Node, window: &Window, from: TensorId) -> Result<View, String> {
        let kernel = window.kernel.ok_or("kernel_shape is missing")?;
        let (geometry, [height, width]) = self.geometry(window, kernel, from)?;
        self.push(node, FusedOp::MaxPool(geometry), vec![from], |t| Tensor {
            height,
            width,
            ..t
        })
    }

    fn flatten(&mut self, node: &Node, from: TensorId) -> Result<View, String> {
        if self.fused.tensors[from].is_flat {
            return Ok(View::F32(from, Layout::ChannelsFirst));
        }
        self.push(node, FusedOp::Flatten, vec![from], |t| Tensor {
            channels: t.channels * t.height * t.width,
            height: 1,
            width: 1,
            is_flat: true,
            ..t
        })
    }

    fn gemm(&mut self, node: &Node, gemm: &Gemm, from: TensorId) -> Result<View, String> {
        let (dims, values) = self.float_weights(node)?;
        let [a, b] = dims[..] else {
            return Err("weights without two axes".to_owned());
        };
        let (into, out) = if gemm.trans_b { (b, a) } else { (a, b) };
        let mut weights = values.clone();
        if gemm.trans_b {
            for (at, weight) in weights.iter_mut().enumerate() {
                *weight = values[at % out * into + at / out];
            }
        }
        // alpha and beta are folded into weights and bias; the default of 1 is exact.
        weights.iter_mut().for_each(|w| *w *= gemm.alpha);
        let mut bias = self.bias(node, out)?;
        bias.iter_mut().for_each(|b| *b *= gemm.beta);
        self.products = self.products.saturating_add(into * out);
        let dense = Dense {
            into,
            out,
            weights,
            bias,
            slopes: None,
        };
        self.push(node, FusedOp::Gemm(dense), vec![from], |t| Tensor {
            channels: out,
            ..t
        })
    }

    /// The float32 bias of a node; zeros if it has none.
    fn bias(&self, node: &Node, out: usize) -> Result<Vec<f32>, String> {
        if node.inputs.get(2).is_none_or(|input| input.is_none()) {
            return Ok(vec![0.0; out]);
        }
        let bias = self.graph.f32_constant(node, 2);
        Ok(bias.ok_or("a bias that is no float32 constant")?.1)
    }
}

fn with_layout(view: View, layout: Layout) -> View {
    match view {
        View::F32(tensor, _) => View::F32(tensor, layout),
        other => other,
    }
}
