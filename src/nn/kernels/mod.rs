//! What the steps of a plan compute, written once and compiled for every instruction set.

mod conv_float;
mod conv_u8;
mod elementwise;
mod pool;
mod stage;

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use super::fuse::MOST_INPUTS;
use super::plan::{Buffer, StepOp};
use super::simd::{Kernel, Level};
pub use stage::{Stage, Staged, needs_staging};

/// A tensor with the numbers of `count` items.
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

/// A part of a step.
pub struct Run<'a> {
    pub op: &'a StepOp,
    pub inputs: [Input<'a>; MOST_INPUTS],
    /// The first input as [`Stage`] made it, where the step needs that.
    pub staged: &'a Staged,
    pub result: &'a Buffer,
    /// Of the result, counted through all items.
    pub pixels: Range<usize>,
    /// Of the result; a part of them in quantised convolutions alone, whole blocks then.
    pub channels: Range<usize>,
    /// `[pixels, channels]`
    pub out: &'a mut [i32],
}

impl Run<'_> {
    fn out_f32s(&mut self) -> &mut [f32] {
        cast_slice_mut(self.out)
    }

    fn out_u8s(&mut self) -> &mut [u8] {
        cast_slice_mut(self.out)
    }
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self, simd: L::Simd) {
        match self.op {
            StepOp::FloatConv(conv) => conv_float::run::<L>(simd, conv, self),
            StepOp::U8Conv(conv) => conv_u8::run::<L>(simd, conv, self),
            StepOp::MaxPool(geometry) => pool::max::<L>(simd, geometry, self),
            StepOp::GlobalAveragePool => pool::average(self),
            StepOp::Quantize => elementwise::quantize(self),
            StepOp::Dequantize => elementwise::dequantize(self),
            StepOp::Concat(tables) => elementwise::concat(tables, self),
            StepOp::Add => elementwise::add(self),
            StepOp::Slopes(slopes) => elementwise::slopes(slopes, self),
            StepOp::Flatten => self.out.copy_from_slice(self.inputs[0].words),
            StepOp::Softmax => elementwise::softmax(self),
            StepOp::Slice(first) => elementwise::slice(*first, self),
            StepOp::L2Normalize(floor) => elementwise::l2_normalize(*floor, self),
        }
    }
}
