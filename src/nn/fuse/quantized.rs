//! Lowering of quantised tensors: scales, zero points, integer weights, and the rounding of results.

use prost::bytes::Bytes;

use super::{Fuser, Layout, SCALE_TOLERANCE, View};
use crate::nn::fact::Element;
use crate::nn::fused::{FusedNode, FusedOp, Quantization, Tensor, TensorId, Weights};
use crate::nn::graph::Node;

impl Fuser<'_> {
    /// Shape and values of the weights of a float32 node: a float32 constant, or i8 to be dequantised.
    pub(super) fn float_weights(&self, node: &Node) -> Result<(Vec<usize>, Vec<f32>), String> {
        if let Some((dims, values)) = self.graph.f32_constant(node, 1) {
            return Ok((dims.to_vec(), values));
        }
        let (bytes, scales) = self.integers(node, 1, Element::I8)?;
        let id = node.inputs[1].ok_or("no weights")?;
        let dims = self.graph.values[id].fact.dims.clone();
        let each = (bytes.len() / scales.len().max(1)).max(1);
        let channels = bytes.chunks(each).zip(scales);
        let values = channels
            .flat_map(|(bytes, scale)| bytes.iter().map(move |&b| f32::from(b as i8) * scale));
        Ok((dims, values.collect()))
    }

    /// Per-tensor scale and zero point of a node.
    pub(super) fn scale(&self, node: &Node) -> Result<Quantization, String> {
        let scale = self.graph.f32_constant(node, 1).map(|(_, values)| values);
        let Some(&[scale]) = scale.as_deref() else {
            return Err("a scale that is no single constant".to_owned());
        };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(format!("a scale of {scale}"));
        }
        let zero_point = match node.inputs.get(2) {
            None | Some(None) => 0,
            Some(Some(_)) => match self.graph.constant(node, 2) {
                Some((value, zero)) if value.fact.element == Element::U8 => zero.bytes[0],
                Some((value, _)) => {
                    return Err(format!(
                        "a zero point of {}; activations are uint8 here",
                        value.fact.element.name()
                    ));
                }
                None => return Err("a zero point that is no constant".to_owned()),
            },
        };
        Ok(Quantization { scale, zero_point })
    }

    pub(super) fn quantize(&mut self, node: &Node, x: View) -> Result<View, String> {
        let given = self.scale(node)?;
        match x {
            View::F32(0, Layout::ChannelsFirst) => {
                let view = self.push(node, FusedOp::Quantize, vec![0], |t| Tensor {
                    quantization: Some(given),
                    ..t
                })?;
                let View::Unrounded(tensor) = view else {
                    return Err("the input is no image".to_owned());
                };
                self.fused.tensors[tensor].quantization = Some(given);
                Ok(View::U8(tensor))
            }
            View::Unrounded(tensor) => self.round(tensor, given, node),
            View::Dequantized(tensor) if self.fused.tensors[tensor].quantization == Some(given) => {
                Ok(View::U8(tensor))
            }
            View::Dequantized(_) => Err(
                "it rounds what is rounded already, with another scale or zero point".to_owned(),
            ),
            _ => {
                Err("it rounds neither the input nor the result of a quantised operator".to_owned())
            }
        }
    }

    /// Sets scale and zero point of a quantised result from the `QuantizeLinear` that follows it.
    pub(super) fn round(
        &mut self,
        tensor: TensorId,
        given: Quantization,
        node: &Node,
    ) -> Result<View, String> {
        let own = self.fused.tensors[tensor].quantization;
        if own.is_some_and(|q| q.scale > 0.0) && own != Some(given) {
            return Err("one result is rounded in two ways".to_owned());
        }
        let maker = self.fused.ops.iter().rev().find(|op| op.output == tensor);
        if let Some(FusedNode {
            op: FusedOp::MaxPool(_),
            inputs,
            ..
        }) = maker
            && inputs
                .iter()
                .any(|&t| self.fused.tensors[t].quantization != Some(given))
        {
            return Err(
                "a MaxPool whose output has another scale or zero point than its input".to_owned(),
            );
        }
        self.fused.tensors[tensor].quantization = Some(given);
        // The u8 result takes the name of QuantizeLinear's output, the value of the file that it equals.
        self.fused.tensors[tensor].name = self.graph.values[node.outputs[0]].name.clone();
        Ok(View::U8(tensor))
    }

    /// Checks the `DequantizeLinear` of an integer constant: weights or a bias.
    pub(super) fn weights(&self, number: usize, node: &Node, axis: i64) -> Result<View, String> {
        let (value, _) = self.graph.constant(node, 0).ok_or("it reads no constant")?;
        let (dims, scales) = self
            .graph
            .f32_constant(node, 1)
            .ok_or("a scale that is no float32 constant")?;
        let is_whole = scales.len() == 1 && dims.len() <= 1;
        let is_by_channel =
            axis == 0 && dims.len() == 1 && value.fact.dims.first() == Some(&scales.len());
        if !is_whole && !is_by_channel {
            return Err(format!(
                "scales of {dims:?} along axis {axis} of {:?}; expected one, or one for each along axis 0",
                value.fact.dims
            ));
        }
        if scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err("a scale that is no number above 0".to_owned());
        }
        if let Some(Some(_)) = node.inputs.get(2) {
            let (_, zeros) = self
                .graph
                .constant(node, 2)
                .ok_or("a zero point that is no constant")?;
            if zeros.bytes.iter().any(|&b| b != 0) {
                return Err("weights or biases with a zero point other than 0".to_owned());
            }
        }
        Ok(View::Weights(number))
    }

    /// The integer constant at an input of a node: its bytes, and a scale for each output channel.
    pub(super) fn integers(
        &self,
        node: &Node,
        input: usize,
        element: Element,
    ) -> Result<(Bytes, Vec<f32>), String> {
        let View::Weights(maker) = *self.view(node, input) else {
            return Err(format!("input {input} is no constant in integers"));
        };
        let maker = &self.graph.nodes[maker];
        let (value, constant) = self
            .graph
            .constant(maker, 0)
            .ok_or("it reads no constant")?;
        if value.fact.element != element {
            return Err(format!(
                "input {input} is of {}; expected {}",
                value.fact.element.name(),
                element.name()
            ));
        }
        let (_, mut scales) = self
            .graph
            .f32_constant(maker, 1)
            .ok_or("a scale that is no constant")?;
        let channels = value.fact.dims.first().copied().unwrap_or(1);
        if scales.len() == 1 {
            scales = vec![scales[0]; channels];
        }
        Ok((constant.bytes.clone(), scales))
    }

    pub(super) fn integer_weights(&self, node: &Node, from: TensorId) -> Result<Weights, String> {
        let (values, scales) = self.integers(node, 1, Element::I8)?;
        let out = scales.len();
        let bias = match node.inputs.get(2) {
            None | Some(None) => vec![0; out],
            Some(Some(_)) => {
                let (bytes, bias_scales) = self.integers(node, 2, Element::I32)?;
                let input = self.fused.tensors[from]
                    .quantization
                    .map_or(0.0, |q| q.scale);
                let is_scale_of_sum =
                    |(b, w): (&f32, &f32)| (b - input * w).abs() <= SCALE_TOLERANCE * b;
                if !bias_scales.iter().zip(&scales).all(is_scale_of_sum) {
                    return Err("a bias whose scale is not that of input and weights".to_owned());
                }
                let numbers = bytes.as_chunks().0.iter();
                numbers.map(|&b| i32::from_le_bytes(b)).collect()
            }
        };
        Ok(Weights::I8 {
            values,
            scales,
            bias,
        })
    }
}
