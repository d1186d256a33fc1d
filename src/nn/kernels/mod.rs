//! The kernels of the steps of a plan, written once and compiled for every instruction set.

mod conv_float;
mod conv_u8;
mod elementwise;
mod pool;
mod stage;

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use super::buffer::Buffer;
use super::fused::MOST_INPUTS;
use super::pack::FloatWeights;
use super::plan::StepOp;
use super::simd::{Isa, Kernel, Level};
pub use stage::{Stage, Staged, needs_staging};

/// A tensor with the data of `count` items.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub buffer: &'a Buffer,
    pub words: &'a [i32],
    pub count: usize,
}

impl<'a> Input<'a> {
    pub fn f32s(&self) -> &'a [f32] {
        cast_slice(self.words)
    }

    pub fn u8s(&self) -> &'a [u8] {
        cast_slice(self.words)
    }
}

/// Arguments of the kernel for a part of a step.
pub struct Run<'a> {
    pub op: &'a StepOp,
    pub inputs: [Input<'a>; MOST_INPUTS],
    /// The first input as prepared by [`Stage`], if the step needs it.
    pub staged: &'a Staged,
    pub result: &'a Buffer,
    /// Pixels of the result, counted across all items.
    pub pixels: Range<usize>,
    /// Channels of the result: a subset, in whole blocks, only in quantised convolutions.
    pub channels: Range<usize>,
    /// Output of this part, `[pixels, channels]`.
    pub out: &'a mut [i32],
}

impl Run<'_> {
    fn out_f32s(&mut self) -> &mut [f32] {
        cast_slice_mut(self.out)
    }

    fn out_u8s(&mut self) -> &mut [u8] {
        cast_slice_mut(self.out)
    }

    /// Runs the kernel. Each one is a separate function, because the loops of one large function compile to slower
    /// code.
    pub fn dispatch(self, isa: Isa) {
        match self.op {
            StepOp::FloatConv(conv) => match &conv.weights {
                FloatWeights::F32(weights) => isa.dispatch(conv_float::F32Conv {
                    conv,
                    weights,
                    run: self,
                }),
                FloatWeights::I16(weights) => isa.dispatch(conv_float::I16Conv {
                    conv,
                    weights,
                    run: self,
                }),
            },
            StepOp::U8Conv(conv) if conv.is_narrow => {
                isa.dispatch(conv_u8::Conv::<true> { conv, run: self });
            }
            StepOp::U8Conv(conv) => isa.dispatch(conv_u8::Conv::<false> { conv, run: self }),
            StepOp::MaxPool(geometry) if self.result.quantization.is_none() => {
                isa.dispatch(pool::Max {
                    geometry,
                    run: self,
                });
            }
            _ => isa.dispatch(Elementwise(self)),
        }
    }
}

/// Kernels that the compiler vectorises by itself.
struct Elementwise<'a>(Run<'a>);

impl Kernel for Elementwise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, _: L::Simd) {
        let run = self.0;
        match run.op {
            StepOp::FloatConv(_) | StepOp::U8Conv(_) => {}
            StepOp::MaxPool(geometry) => pool::max_u8(geometry, run),
            StepOp::GlobalAveragePool => pool::average(run),
            StepOp::Quantize => elementwise::quantize(run),
            StepOp::Dequantize => elementwise::dequantize(run),
            StepOp::Concat(tables) => elementwise::concat(tables, run),
            StepOp::Add => elementwise::add(run),
            StepOp::Slopes(slopes) => elementwise::slopes(slopes, run),
            StepOp::Flatten => run.out.copy_from_slice(run.inputs[0].words),
            StepOp::Softmax => elementwise::softmax(run),
            StepOp::Slice(first) => elementwise::slice(*first, run),
            StepOp::L2Normalize(floor) => elementwise::l2_normalize(*floor, run),
        }
    }
}
