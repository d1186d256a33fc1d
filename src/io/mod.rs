//! Files and texts that come from outside: reading and writing of files, the search paths of models and ONNX Runtime, and the
//! escaping of untrusted text for output.

pub mod files;
pub mod locate;
pub mod text;
