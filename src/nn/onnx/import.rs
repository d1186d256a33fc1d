//! Converts the protobuf messages of an ONNX file to a [`Graph`]. Whatever is not understood is refused, never skipped.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;

use super::attributes::Attributes;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::nn::error::{ImportError, Unsupported};
use crate::nn::fact::{Constant, Element, Fact};
use crate::nn::graph::{Graph, Node, Value, ValueId};
use crate::nn::op::{Input, LARGEST_TENSOR, OPSETS, Op};

/// Domains of the standard ONNX operators.
const OWN_DOMAINS: [&str; 2] = ["", "ai.onnx"];

/// Maximum number of elements of a constant, 16 times FaceNet's largest.
const LARGEST_CONSTANT: usize = 1 << 24;

/// A decoded model, before the input shape is known.
pub struct Model {
    proto: ModelProto,
    graph: GraphProto,
}

/// An input or output as declared in the file: name and dimensions (0 for any size), `None` if it is not a float32
/// tensor with a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    pub name: String,
    pub dims: Option<Vec<usize>>,
}

impl Model {
    /// Decodes a file. Constants are slices of it, not copies.
    pub fn decode(file: Bytes) -> Result<Self, ImportError> {
        let invalid = |reason: &str| ImportError::Invalid(reason.to_owned());
        let mut proto = ModelProto::decode(file)
            .map_err(|e| ImportError::Invalid(format!("it is no whole ONNX file ({e})")))?;
        let graph = proto
            .graph
            .take()
            .ok_or_else(|| invalid("it is no ONNX file: it holds no graph"))?;
        let is_external = |t: &TensorProto| t.data_location != 0 || !t.external_data.is_empty();
        if let Some(tensor) = graph.initializer.iter().find(|t| is_external(t)) {
            return Err(ImportError::Invalid(format!(
                "its tensor \"{}\" lies in another file, which the SHA-256 of this one would not name; \
                 save the model in one file",
                tensor.name
            )));
        }
        Ok(Self { proto, graph })
    }

    /// Inputs that are not initializers.
    pub fn inputs(&self) -> Vec<Port> {
        let constants: HashSet<_> = self.graph.initializer.iter().map(|t| &t.name).collect();
        let inputs = self.graph.input.iter();
        inputs
            .filter(|i| !constants.contains(&i.name))
            .map(port)
            .collect()
    }

    pub fn outputs(&self) -> Vec<Port> {
        self.graph.output.iter().map(port).collect()
    }

    pub fn properties(&self) -> HashMap<String, String> {
        let entries = self.proto.metadata_props.iter();
        entries
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect()
    }

    /// Builds the graph for items of these dimensions, without the batch. Refused nodes are recorded in the graph, so
    /// that they are reported together with those that the next pass refuses.
    pub fn graph(&self, item: &[usize]) -> Result<Graph, ImportError> {
        let opset = self.check_whole()?;
        let mut builder = Builder::default();
        for tensor in &self.graph.initializer {
            let value = constant(tensor).map_err(|reason| {
                ImportError::Invalid(format!("tensor \"{}\": {reason}", tensor.name))
            })?;
            builder.define(value)?;
        }
        let inputs = self.inputs();
        let [input] = &inputs[..] else {
            return Err(ImportError::unsupported(format!(
                "{} inputs; expected one",
                inputs.len()
            )));
        };
        let input = builder.define(Value {
            name: input.name.clone(),
            fact: Fact {
                element: Element::F32,
                is_batched: true,
                dims: item.to_vec(),
            },
            constant: None,
        })?;
        for node in &self.graph.node {
            builder.add(node, opset)?;
        }
        let outputs = self.graph.output.iter();
        let outputs: Vec<_> = outputs
            .map(|output| builder.find(&output.name, "the graph's output"))
            .collect::<Result<_, _>>()?;
        let outputs = outputs.into_iter().flatten().collect();
        Ok(Graph {
            values: builder.values,
            nodes: builder.nodes,
            refused: builder.refused,
            input,
            outputs,
        })
    }

    /// Checks the properties of the whole model and returns the opset version of the standard operators.
    fn check_whole(&self) -> Result<i64, ImportError> {
        if !self.proto.functions.is_empty() {
            return Err(ImportError::unsupported("it has functions of its own"));
        }
        if !self.graph.sparse_initializer.is_empty() {
            return Err(ImportError::unsupported("it has sparse tensors"));
        }
        let is_own = |domain: &str| OWN_DOMAINS.contains(&domain);
        let mut versions = self
            .proto
            .opset_import
            .iter()
            .filter(|set| is_own(&set.domain))
            .map(|set| set.version);
        match (versions.next(), versions.next()) {
            (Some(version), None) if OPSETS.contains(&version) => Ok(version),
            (Some(version), None) => Err(ImportError::unsupported(format!(
                "opset {version}; expected {}…{}",
                OPSETS.start(),
                OPSETS.end()
            ))),
            (None, _) => Err(ImportError::Invalid("it names no opset".to_owned())),
            (Some(_), Some(_)) => Err(ImportError::Invalid(
                "it names more than one opset".to_owned(),
            )),
        }
    }
}

fn port(value: &ValueInfoProto) -> Port {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.filter(|t| t.elem_type == data_type::FLOAT);
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|shape| {
        let dims = shape.dim.iter();
        dims.map(|d| usize::try_from(d.dim_value).unwrap_or(0))
            .collect()
    });
    Port {
        name: value.name.clone(),
        dims,
    }
}

/// The graph under construction.
#[derive(Default)]
struct Builder {
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// Every defined name; `None` for an output of a refused node.
    names: HashMap<String, Option<ValueId>>,
    refused: Vec<(usize, Unsupported)>,
}

impl Builder {
    fn define(&mut self, value: Value) -> Result<ValueId, ImportError> {
        self.name(&value.name, Some(self.values.len()))?;
        self.values.push(value);
        Ok(self.values.len() - 1)
    }

    fn name(&mut self, name: &str, id: Option<ValueId>) -> Result<(), ImportError> {
        match self.names.insert(name.to_owned(), id) {
            Some(_) => Err(ImportError::Invalid(format!(
                "two values have the name \"{name}\""
            ))),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str, reader: &str) -> Result<Option<ValueId>, ImportError> {
        self.names.get(name).copied().ok_or_else(|| {
            ImportError::Invalid(format!(
                "{reader} is \"{name}\", which no earlier node gives"
            ))
        })
    }

    fn add(&mut self, proto: &NodeProto, opset: i64) -> Result<(), ImportError> {
        let name = match proto.output.first() {
            _ if !proto.name.is_empty() => &proto.name,
            Some(output) => output,
            None => "",
        };
        let refuse = |reason: String| Unsupported::new(name, &proto.op_type, reason);
        let mut inputs = Vec::new();
        let mut is_reachable = true;
        for input in &proto.input {
            let reader = format!("an input of {} \"{name}\"", proto.op_type);
            inputs.push(match input.as_str() {
                // An empty name is an omitted optional input.
                "" => None,
                input => {
                    let id = self.find(input, &reader)?;
                    is_reachable &= id.is_some();
                    id
                }
            });
        }
        let op = read_op(proto, opset);
        let facts = match (&op, is_reachable) {
            (Ok(op), true) => self.infer(op, &inputs, proto.output.len()),
            // Shapes are unknown after a refused node, so only the operator and its attributes are checked.
            (Ok(_), false) => Ok(None),
            (Err(reason), _) => Err(reason.clone()),
        };
        match (op, facts) {
            (Ok(op), Ok(Some(facts))) => {
                let mut outputs = Vec::new();
                for (output, fact) in proto.output.iter().zip(facts) {
                    outputs.push(self.define(Value {
                        name: output.clone(),
                        fact,
                        constant: None,
                    })?);
                }
                self.nodes.push(Node {
                    name: name.to_owned(),
                    op,
                    inputs,
                    outputs,
                });
            }
            (_, facts) => {
                if let Err(reason) = facts {
                    self.refused.push((self.nodes.len(), refuse(reason)));
                }
                for output in proto.output.iter().filter(|name| !name.is_empty()) {
                    self.name(output, None)?;
                }
            }
        }
        Ok(())
    }

    fn infer(
        &self,
        op: &Op,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Result<Option<Vec<Fact>>, String> {
        let inputs: Vec<_> = inputs
            .iter()
            .map(|id| {
                let value = &self.values[(*id)?];
                Some(Input {
                    fact: &value.fact,
                    constant: value.constant.as_ref(),
                })
            })
            .collect();
        op.infer(&inputs, outputs).map(Some)
    }
}

fn read_op(proto: &NodeProto, opset: i64) -> Result<Op, String> {
    if !OWN_DOMAINS.contains(&proto.domain.as_str()) {
        return Err(format!("an operator of the domain \"{}\"", proto.domain));
    }
    let mut attributes = Attributes::new(&proto.attribute)?;
    let op = Op::read(&proto.op_type, opset, &mut attributes)?;
    attributes.finish()?;
    Ok(op)
}

fn constant(tensor: &TensorProto) -> Result<Value, String> {
    let element = match tensor.data_type {
        data_type::FLOAT => Element::F32,
        data_type::UINT8 => Element::U8,
        data_type::INT8 => Element::I8,
        data_type::INT32 => Element::I32,
        data_type::INT64 => Element::I64,
        // No operator accepts another type: the node that reads the constant is refused by name.
        _ => {
            return Ok(Value {
                name: tensor.name.clone(),
                fact: Fact {
                    element: Element::Other,
                    is_batched: false,
                    dims: Vec::new(),
                },
                constant: None,
            });
        }
    };
    if tensor.segment.is_some() {
        return Err("it is stored in segments".to_owned());
    }
    let dims = tensor.dims.iter().map(|&n| usize::try_from(n).ok());
    let dims: Vec<usize> = dims
        .collect::<Option<_>>()
        .ok_or_else(|| format!("its shape is {:?}", tensor.dims))?;
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count
        .filter(|&n| n <= LARGEST_CONSTANT.max(LARGEST_TENSOR))
        .ok_or_else(|| format!("its shape {dims:?} is larger than {LARGEST_CONSTANT} numbers"))?;
    let bytes = match (&tensor.raw_data, element) {
        (Some(raw), _) => raw.clone(),
        (None, Element::F32) => tensor
            .float_data
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect(),
        (None, Element::I64) => tensor
            .int64_data
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect(),
        (None, _) => {
            let numbers = tensor.int32_data.iter();
            numbers
                .flat_map(|n| n.to_le_bytes().into_iter().take(element.size()))
                .collect()
        }
    };
    if bytes.len() != count * element.size() {
        return Err(format!(
            "it has {} bytes; {} of {dims:?} take {}",
            bytes.len(),
            element.name(),
            count * element.size()
        ));
    }
    Ok(Value {
        name: tensor.name.clone(),
        fact: Fact {
            element,
            is_batched: false,
            dims,
        },
        constant: Some(Constant { bytes }),
    })
}
