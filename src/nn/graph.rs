//! An ONNX file as a graph of values, each with its element type and shape.

use super::error::Unsupported;
use super::fact::{Constant, Element, Fact};
use super::op::Op;

/// Index of a value in [`Graph::values`].
pub type ValueId = usize;

#[derive(Debug, Clone)]
pub struct Graph {
    pub values: Vec<Value>,
    /// Topologically sorted: each node comes after those whose outputs it reads.
    pub nodes: Vec<Node>,
    /// Refused nodes, each with the number of nodes before it. If there are any, nodes and outputs that depend on them
    /// are missing, and the graph serves only to find further refusals.
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
    /// Name of the node in the file, or of its first output if it has none.
    pub name: String,
    pub op: Op,
    /// Inputs by position; `None` for an optional input that is omitted.
    pub inputs: Vec<Option<ValueId>>,
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The constant at an input of a node, with the value that states its shape.
    pub fn constant(&self, node: &Node, input: usize) -> Option<(&Value, &Constant)> {
        let id = (*node.inputs.get(input)?)?;
        let value = &self.values[id];
        value.constant.as_ref().map(|constant| (value, constant))
    }

    /// Shape and elements of the float32 constant at an input of a node.
    pub fn f32_constant(&self, node: &Node, input: usize) -> Option<(&[usize], Vec<f32>)> {
        let (value, constant) = self.constant(node, input)?;
        let is_f32 = value.fact.element == Element::F32;
        is_f32.then(|| (&value.fact.dims[..], constant.f32s()))
    }
}
