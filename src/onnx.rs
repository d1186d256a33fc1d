//! What an ONNX file holds, as far as a network that is not run by ONNX Runtime needs it.
//!
//! The fields of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto> that are read; others are skipped.

use std::collections::HashMap;

use prost::Message;
use prost::bytes::{Buf, Bytes};

#[derive(Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Message)]
struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(bytes = "vec", tag = "4")]
    s: Vec<u8>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
}

#[derive(Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
}

/// Of `TensorProto.DataType`.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;

/// The operators of a file in their order.
#[derive(Debug, PartialEq)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// The nodes that give the outputs.
    pub outputs: Vec<usize>,
    /// What the file says of itself, by key.
    pub properties: HashMap<String, String>,
}

/// An operator with the constants that it takes, in their order.
#[derive(Debug, PartialEq)]
pub struct Node {
    /// `Conv`, `PRelu`, …
    pub operator: String,
    /// Where its input comes from: the numbers of the nodes before it; none for the input of the graph.
    pub sources: Vec<usize>,
    /// Those of float32.
    pub constants: Vec<Constant>,
    /// Those of integers of 8 or 32 bits.
    pub integers: Vec<Constant<Bytes>>,
    /// Attributes that are integers.
    pub numbers: HashMap<String, Vec<i64>>,
    /// Attributes that are text.
    pub texts: HashMap<String, String>,
}

/// A tensor in the file, row-major: its numbers, or the bytes of its integers, the lowest first.
#[derive(Debug, PartialEq)]
pub struct Constant<T = Vec<f32>> {
    pub shape: Vec<usize>,
    pub values: T,
}

/// Whether it is an ONNX file from beginning to end, whatever is in it.
pub fn is_whole(file: impl Buf) -> bool {
    ModelProto::decode(file).is_ok_and(|model| model.graph.is_some())
}

impl Graph {
    /// `None` if it is not an ONNX file, or a constant is not whole. Constants of integers are parts of `file`, not
    /// copies, if that is [`Bytes`].
    pub fn read(file: impl Buf) -> Option<Self> {
        let model = ModelProto::decode(file).ok()?;
        let graph = model.graph?;
        let outputs = |(number, node): (usize, &NodeProto)| {
            let names: Vec<_> = node.output.iter().map(|n| (n.clone(), number)).collect();
            names
        };
        let makers: HashMap<_, _> = graph.node.iter().enumerate().flat_map(outputs).collect();
        let initializers = graph.initializer.iter().map(|t| (t.name.as_str(), t));
        let initializers: HashMap<_, _> = initializers.collect();
        let made_by = |name: &String| makers.get(name).copied();
        let node = |node: &NodeProto| {
            let named = |name: &String| initializers.get(name.as_str()).copied();
            let of_kind = |kinds: &'static [i32]| {
                let all = node.input.iter().filter_map(named);
                all.filter(move |t| kinds.contains(&t.data_type))
            };
            let attributes = || node.attribute.iter();
            Some(Node {
                operator: node.op_type.clone(),
                sources: node.input.iter().filter_map(made_by).collect(),
                constants: of_kind(&[FLOAT]).map(floats).collect::<Option<_>>()?,
                integers: of_kind(&[UINT8, INT8, INT32])
                    .map(integers)
                    .collect::<Option<_>>()?,
                numbers: attributes()
                    .map(|a| {
                        let one = || vec![a.i];
                        let numbers = if a.ints.is_empty() {
                            one()
                        } else {
                            a.ints.clone()
                        };
                        (a.name.clone(), numbers)
                    })
                    .collect(),
                texts: attributes()
                    .filter_map(|a| Some((a.name.clone(), String::from_utf8(a.s.clone()).ok()?)))
                    .collect(),
            })
        };
        Some(Self {
            nodes: graph.node.iter().map(node).collect::<Option<_>>()?,
            outputs: graph
                .output
                .iter()
                .map(|value| made_by(&value.name))
                .collect::<Option<_>>()?,
            properties: model
                .metadata_props
                .into_iter()
                .map(|entry| (entry.key, entry.value))
                .collect(),
        })
    }
}

fn floats(tensor: &TensorProto) -> Option<Constant> {
    let values = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        let numbers = tensor.raw_data.as_chunks().0;
        numbers.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let (shape, count) = shape(tensor)?;
    (values.len() == count).then_some(Constant { shape, values })
}

fn integers(tensor: &TensorProto) -> Option<Constant<Bytes>> {
    let size = if tensor.data_type == INT32 { 4 } else { 1 };
    let values = if tensor.raw_data.is_empty() {
        let bytes = tensor.int32_data.iter().map(|n| n.to_le_bytes());
        bytes.flat_map(|b| b.into_iter().take(size)).collect()
    } else {
        tensor.raw_data.clone()
    };
    let (shape, count) = shape(tensor)?;
    (values.len() == count.checked_mul(size)?).then_some(Constant { shape, values })
}

/// And how many numbers there are.
fn shape(tensor: &TensorProto) -> Option<(Vec<usize>, usize)> {
    let shape = tensor.dims.iter().map(|&n| usize::try_from(n).ok());
    let shape = shape.collect::<Option<Vec<_>>>()?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    Some((shape, count))
}
