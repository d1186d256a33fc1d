//! Memory layout of the tensors of a plan.

use super::fused::{Quantization, Tensor};

/// Channels of float32 tensors are zero-padded to a multiple of this, which every vector length divides.
pub const F32_BLOCK: usize = 16;

/// A tensor in memory, `[item, height, width, stride]` (NHWC); channels from `channels` to `stride` are padding.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub name: String,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub stride: usize,
    pub quantization: Option<Quantization>,
    pub is_flat: bool,
    /// Index of the memory slot, shared with tensors that are not live at the same time.
    pub slot: usize,
}

impl Buffer {
    pub fn new(tensor: &Tensor, is_input: bool) -> Self {
        let block = match (tensor.quantization, is_input) {
            (Some(_), _) => 4,
            (None, true) => 1,
            (None, false) => F32_BLOCK,
        };
        Self {
            name: tensor.name.clone(),
            height: tensor.height,
            width: tensor.width,
            channels: tensor.channels,
            stride: tensor.channels.next_multiple_of(block),
            quantization: tensor.quantization,
            is_flat: tensor.is_flat,
            slot: 0,
        }
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Number of elements of one item, padding included.
    pub fn len(&self) -> usize {
        self.pixels() * self.stride
    }

    /// 32-bit words of one item.
    pub fn words(&self) -> usize {
        match self.quantization {
            Some(_) => self.len() / 4,
            None => self.len(),
        }
    }
}
