//! A network as a graph of values: what an ONNX file means, every value with its element type and shape.

use prost::bytes::Bytes;

use super::error::Unsupported;
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

/// What is known of a value without running the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub element: Element,
    /// Whether a first dimension, of any size, counts the items of a batch. It is not among `dims`.
    pub is_batched: bool,
    pub dims: Vec<usize>,
}

impl Fact {
    /// Numbers in the value; in each item if it is batched.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Element types that the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    U8,
    I8,
    I32,
    I64,
    /// Any other, which no operator takes.
    Other,
}

impl Element {
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
            Self::Other => 0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Other => "another type",
        }
    }
}

/// The numbers of a value that is in the file: row-major, little endian.
#[derive(Debug, Clone)]
pub struct Constant {
    pub bytes: Bytes,
}

impl Constant {
    pub fn f32s(&self) -> Vec<f32> {
        let numbers = self.bytes.as_chunks().0.iter();
        numbers.map(|&b| f32::from_le_bytes(b)).collect()
    }

    pub fn i64s(&self) -> Vec<i64> {
        let numbers = self.bytes.as_chunks().0.iter();
        numbers.map(|&b| i64::from_le_bytes(b)).collect()
    }
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
