//! ONNX files: the protobuf messages that are read, and their conversion to a graph.

pub mod attributes;
pub mod import;
mod proto;
