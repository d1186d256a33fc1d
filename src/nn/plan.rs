//! The execution plan of a fused network: ordered steps, memory slots of their results, and weights packed for the
//! instruction set.

use super::buffer::Buffer;
use super::error::{ImportError, Unsupported};
use super::fused::{
    Fused, FusedNode, FusedOp, Geometry, MOST_INPUTS, Quantization, Slopes, TensorId,
};
use super::pack::{Arithmetic, FloatConv, FloatWeights, U8Conv};
use super::simd::Isa;

/// Maximum number of outputs of a network.
pub const MOST_OUTPUTS: usize = 8;

pub struct Plan {
    pub isa: Isa,
    /// Buffers in the order of [`Fused::tensors`]; those that no step writes take no memory.
    pub buffers: Vec<Buffer>,
    pub steps: Vec<Step>,
    /// Index of the first step on feature rows; such steps process all items of a batch at once.
    pub first_dense: usize,
    pub outputs: Vec<TensorId>,
    /// Number of memory slots.
    pub slots: usize,
    pub items: Items,
}

/// How many items of a batch the steps on pixels process at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// One item at a time, so that the tensors between layers stay in the cache.
    One,
    /// All items, so that weights are read once.
    All,
}

pub struct Step {
    /// Name of the result in the file, for tests that compare layers.
    #[cfg_attr(not(test), allow(dead_code))]
    pub name: String,
    pub op: StepOp,
    pub inputs: Vec<TensorId>,
    pub output: TensorId,
}

pub enum StepOp {
    Quantize,
    FloatConv(FloatConv),
    U8Conv(U8Conv),
    MaxPool(Geometry),
    GlobalAveragePool,
    /// Requantisation table of each input.
    Concat(Vec<[u8; 256]>),
    Add,
    Slopes(Slopes),
    /// Copies the pixels without reordering them.
    Flatten,
    Dequantize,
    Softmax,
    Slice(usize),
    L2Normalize(f32),
}

impl StepOp {
    /// Architecture, number types and instruction set of the kernel.
    pub fn kernel(&self, isa: Isa) -> String {
        let types = match self {
            Self::FloatConv(conv) => match conv.weights {
                FloatWeights::F32(_) => "f32",
                FloatWeights::I16(_) => "i16",
            },
            Self::U8Conv(conv) if conv.is_narrow => "u8i8",
            Self::U8Conv(_) => "u8i8wide",
            _ => "elementwise",
        };
        format!("{}-{types}-{}", std::env::consts::ARCH, isa.name())
    }
}

impl Plan {
    pub fn new(
        fused: &Fused,
        isa: Isa,
        arithmetic: Arithmetic,
        items: Items,
    ) -> Result<Self, ImportError> {
        let tensors = fused.tensors.iter().enumerate();
        let buffers: Vec<_> = tensors.map(|(i, t)| Buffer::new(t, i == 0)).collect();
        let mut plan = Self {
            isa,
            buffers,
            steps: Vec::new(),
            first_dense: 0,
            outputs: fused.outputs.clone(),
            slots: 0,
            items,
        };
        // Flatten keeps the order of the pixels in memory, padding included, so its stride is that of a whole item.
        for node in &fused.ops {
            if let FusedOp::Flatten = node.op {
                let pixels = &plan.buffers[node.inputs[0]];
                plan.buffers[node.output].stride = pixels.len();
            }
        }
        let (on_pixels, dense): (Vec<_>, Vec<_>) = fused.ops.iter().partition(|node| {
            let is_flat = |t: &TensorId| fused.tensors[*t].is_flat;
            !node.inputs.iter().all(is_flat)
        });
        plan.first_dense = on_pixels.len();
        if plan.outputs.iter().any(|&t| !plan.buffers[t].is_flat) {
            // Such an output is read pixel by pixel across all items.
            plan.items = Items::All;
        }
        let mut refusals = Vec::new();
        for node in on_pixels.into_iter().chain(dense) {
            match plan.step(fused, node, arithmetic) {
                Ok(step) => plan.steps.push(step),
                Err(reason) => refusals.push(Unsupported::new(&node.name, node.op.name(), reason)),
            }
        }
        if plan.outputs.len() > MOST_OUTPUTS {
            refusals.push(Unsupported::model(format!(
                "{} outputs; at most {MOST_OUTPUTS}",
                plan.outputs.len()
            )));
        }
        for &output in &plan.outputs {
            // Only a single pixel has the order of the file, because Flatten does not reorder pixels.
            let pixels = fused.flattened(output).map(|t| plan.buffers[t].pixels());
            if pixels.is_some_and(|pixels| pixels > 1) {
                refusals.push(Unsupported::new(
                    &plan.buffers[output].name,
                    "Flatten",
                    "several pixels are an output; expected a Gemm there",
                ));
            }
        }
        if !refusals.is_empty() {
            return Err(ImportError::Unsupported(refusals));
        }
        plan.assign_slots();
        plan.check_memory()?;
        Ok(plan)
    }

    fn step(
        &self,
        fused: &Fused,
        node: &FusedNode,
        arithmetic: Arithmetic,
    ) -> Result<Step, String> {
        let input = &self.buffers[node.inputs[0]];
        let output = &self.buffers[node.output];
        if node.inputs.len() > MOST_INPUTS {
            return Err(format!("{} inputs", node.inputs.len()));
        }
        for &from in &node.inputs {
            let from = &self.buffers[from];
            if from.quantization.is_some()
                && from.stride != from.channels
                && !matches!(node.op, FusedOp::Conv(_))
            {
                return Err(format!(
                    "{} quantised channels; expected a multiple of 4",
                    from.channels
                ));
            }
        }
        let flattened = node.inputs.iter().find_map(|&t| fused.flattened(t));
        if flattened.is_some() && !matches!(node.op, FusedOp::Gemm(_)) {
            return Err("it reads what Flatten gives; expected a Gemm there".to_owned());
        }
        let flattened = flattened.map(|pixels| &self.buffers[pixels]);
        let arithmetic = match self.isa.has_fast_i16() {
            true => arithmetic,
            false => Arithmetic::F32,
        };
        let op = match &node.op {
            FusedOp::Quantize => {
                if input.channels != 3 && !input.channels.is_multiple_of(4) {
                    return Err(format!(
                        "{} channels; expected three, or a multiple of 4",
                        input.channels
                    ));
                }
                StepOp::Quantize
            }
            FusedOp::Conv(conv) => {
                if input.quantization.is_some() {
                    StepOp::U8Conv(U8Conv::new(conv, input, output, self.isa)?)
                } else {
                    StepOp::FloatConv(FloatConv::conv(conv, input, output, self.isa, arithmetic)?)
                }
            }
            FusedOp::Gemm(dense) => {
                let gemm = FloatConv::gemm(dense, input, flattened, output, self.isa, arithmetic);
                StepOp::FloatConv(gemm?)
            }
            FusedOp::MaxPool(geometry) => {
                if node.inputs[0] == 0 {
                    return Err("a pooling of the input itself".to_owned());
                }
                StepOp::MaxPool(*geometry)
            }
            FusedOp::GlobalAveragePool => StepOp::GlobalAveragePool,
            FusedOp::Concat => {
                let inputs = node.inputs.iter().map(|&t| self.buffers[t].quantization);
                let tables = inputs.zip(std::iter::repeat(output.quantization));
                let tables = tables.map(|both| match both {
                    (Some(from), Some(to)) => Ok(requantization_table(from, to)),
                    _ => Err("a Concat of float32".to_owned()),
                });
                StepOp::Concat(tables.collect::<Result<_, _>>()?)
            }
            FusedOp::Add => {
                if node.inputs.contains(&0) {
                    return Err("an addition to the input itself".to_owned());
                }
                StepOp::Add
            }
            FusedOp::Slopes(slopes) => {
                if node.inputs[0] == 0 {
                    return Err("an activation of the input itself".to_owned());
                }
                let filled = |slopes: &[f32]| {
                    let mut slopes = slopes.to_vec();
                    slopes.resize(output.stride, 0.0);
                    slopes
                };
                StepOp::Slopes(Slopes {
                    above: filled(&slopes.above),
                    below: filled(&slopes.below),
                })
            }
            FusedOp::Flatten => StepOp::Flatten,
            FusedOp::Dequantize => StepOp::Dequantize,
            FusedOp::Softmax => {
                if node.inputs[0] == 0 {
                    return Err("a softmax of the input itself".to_owned());
                }
                StepOp::Softmax
            }
            FusedOp::Slice(first) => StepOp::Slice(*first),
            FusedOp::L2Normalize(floor) => StepOp::L2Normalize(*floor),
        };
        Ok(Step {
            name: output.name.clone(),
            op,
            inputs: node.inputs.clone(),
            output: node.output,
        })
    }

    /// Assigns memory slots; a slot is reused after the last step that reads its tensor. Feature rows written by the
    /// steps on pixels are kept until all items are processed, and outputs until the caller has read them.
    fn assign_slots(&mut self) {
        let mut free: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        let mut last_reader = vec![None; self.buffers.len()];
        for (number, step) in self.steps.iter().enumerate() {
            for &input in &step.inputs {
                last_reader[input] = Some(number);
            }
        }
        for number in 0..self.steps.len() {
            let output = self.steps[number].output;
            // Feature rows and pixels never share a slot, because they hold different numbers of items.
            let kind = usize::from(self.buffers[output].is_flat);
            self.buffers[output].slot = free[kind].pop().unwrap_or_else(|| {
                self.slots += 1;
                self.slots - 1
            });
            let mut done: Vec<_> = self.steps[number].inputs.clone();
            done.push(output);
            done.sort_unstable();
            done.dedup();
            for tensor in done {
                let is_done = last_reader[tensor].is_none_or(|last| last <= number);
                let is_crossing = self.buffers[tensor].is_flat && number < self.first_dense;
                if tensor > 0 && is_done && !is_crossing && !self.outputs.contains(&tensor) {
                    let kind = usize::from(self.buffers[tensor].is_flat);
                    free[kind].push(self.buffers[tensor].slot);
                }
            }
        }
    }

    /// 32-bit words of each slot, for one item.
    pub fn slot_words(&self) -> Vec<usize> {
        let mut words = vec![0; self.slots];
        for step in &self.steps {
            let buffer = &self.buffers[step.output];
            words[buffer.slot] = words[buffer.slot].max(buffer.words());
        }
        words
    }

    fn check_memory(&self) -> Result<(), ImportError> {
        /// Maximum number of words per item, 30 times FaceNet's.
        const MOST: usize = 1 << 24;
        let words: usize = self.slot_words().iter().sum();
        if words > MOST {
            return Err(ImportError::unsupported(format!(
                "{words} numbers are needed between the layers of one item; at most {MOST}"
            )));
        }
        Ok(())
    }
}

/// Lookup table from u8 of one scale and zero point to u8 of another.
fn requantization_table(from: Quantization, to: Quantization) -> [u8; 256] {
    std::array::from_fn(|byte| {
        let value = (byte as f32 - f32::from(from.zero_point)) * from.scale;
        ((value / to.scale).round_ties_even() + f32::from(to.zero_point)).clamp(0.0, 255.0) as u8
    })
}

impl FusedOp {
    /// Name of the operator in ONNX.
    fn name(&self) -> &'static str {
        match self {
            Self::Quantize => "QuantizeLinear",
            Self::Conv(_) => "Conv",
            Self::MaxPool(_) => "MaxPool",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::Concat => "Concat",
            Self::Add => "Add",
            Self::Slopes(_) => "PRelu",
            Self::Flatten => "Flatten",
            Self::Dequantize => "DequantizeLinear",
            Self::Gemm(_) => "Gemm",
            Self::Softmax => "Softmax",
            Self::Slice(_) => "Split",
            Self::L2Normalize(_) => "Div",
        }
    }
}
