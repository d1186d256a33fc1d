//! A network as a graph of values: what an ONNX file means, every value with its element type and shape.

use super::error::Unsupported;
use super::fact::{Constant, Element, Fact};
use super::op::Op;

/// The place of a value in [`Graph::values`].
pub type ValueId = usize;

#[derive(Debug, Clone)]
pub struct Graph {
    pub values: Vec<Value>,
    /// In an order in which each node comes after those whose outputs it reads.
    pub nodes: Vec<Node>,
    /// What was refused instead of becoming a node, each with how many nodes come before it. If there is any, what depends
    /// on it is missing among nodes and outputs, and the graph is good for nothing but to find what else must be refused.
    pub refused: Vec<(usize, Unsupported)>,
    pub input: ValueId,
    pub outputs: Vec<ValueId>,
}

#[derive(Debug, Clone)]
pub struct Value {
    pub name: String,
    pub fact: Fact,
    pub constant: Option<Constant>,
}

#[derive(Debug, Clone)]
pub struct Node {
    /// The file's name of it, or else that of its first output.
    pub name: String,
    pub op: Op,
    /// By position; `None` for an optional input that is left out.
    pub inputs: Vec<Option<ValueId>>,
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The constant at an input of a node, with its shape.
    pub fn constant(&self, node: &Node, input: usize) -> Option<(&Value, &Constant)> {
        let id = (*node.inputs.get(input)?)?;
        let value = &self.values[id];
        value.constant.as_ref().map(|constant| (value, constant))
    }

    /// A float32 constant at an input of a node.
    pub fn f32_constant(&self, node: &Node, input: usize) -> Option<(&[usize], Vec<f32>)> {
        let (value, constant) = self.constant(node, input)?;
        let is_f32 = value.fact.element == Element::F32;
        is_f32.then(|| (&value.fact.dims[..], constant.f32s()))
    }
}
