//! Where a tensor lies in memory, and how.

use super::fused::{Quantization, Tensor};

/// Channels of float32 tensors are filled up with zeros to a multiple of this: every vector fits.
pub const F32_BLOCK: usize = 16;

/// A tensor as it lies in memory: `[item, height, width, stride]`, of which the first `channels` are the tensor's.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub name: String,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub stride: usize,
    pub quantization: Option<Quantization>,
    pub is_flat: bool,
    /// Which memory it shares with those that are not needed at the same time.
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

    /// Numbers of one item.
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
