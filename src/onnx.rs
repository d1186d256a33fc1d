//! What an ONNX file holds, as far as a network that is not run by ONNX Runtime needs it.
//!
//! The fields of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto> that are read; others are skipped.

use std::collections::HashMap;

use prost::Message;

#[derive(Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
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
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

/// `TensorProto.DataType.FLOAT`
const FLOAT: i32 = 1;

/// The operators of a file in their order.
#[derive(Debug, PartialEq)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// The nodes that give the outputs.
    pub outputs: Vec<usize>,
}

/// An operator with the constants that it takes, in their order.
#[derive(Debug, PartialEq)]
pub struct Node {
    /// `Conv`, `PRelu`, …
    pub operator: String,
    /// Where its input comes from: the numbers of the nodes before it; none for the input of the graph.
    pub sources: Vec<usize>,
    pub constants: Vec<Constant>,
    /// Attributes that are integers.
    pub numbers: HashMap<String, Vec<i64>>,
    /// Attributes that are text.
    pub texts: HashMap<String, String>,
}

/// A tensor of float32 in the file.
#[derive(Debug, PartialEq)]
pub struct Constant {
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl Graph {
    /// `None` if it is not an ONNX file, or a float32 constant is not whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let graph = ModelProto::decode(bytes).ok()?.graph?;
        let made_by = |name: &String| graph.node.iter().position(|n| n.output.contains(name));
        let node = |node: &NodeProto| {
            let named = |name: &String| graph.initializer.iter().find(|t| t.name == *name);
            let constants = node.input.iter().filter_map(named);
            let attributes = || node.attribute.iter();
            Some(Node {
                operator: node.op_type.clone(),
                sources: node.input.iter().filter_map(made_by).collect(),
                constants: constants
                    .filter(|t| t.data_type == FLOAT)
                    .map(constant)
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
        })
    }
}

fn constant(tensor: &TensorProto) -> Option<Constant> {
    let shape = tensor.dims.iter().map(|&n| usize::try_from(n).ok());
    let shape = shape.collect::<Option<Vec<_>>>()?;
    let values = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        let numbers = tensor.raw_data.as_chunks().0;
        numbers.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (values.len() == count).then_some(Constant { shape, values })
}
