//! ONNX files: the messages that are read, and the graph that is made of them.

pub mod attributes;
pub mod import;
mod proto;
