//! Errors that state why our kernels cannot run a model.

use std::fmt;

/// An operator of a model that our kernels cannot run exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the node, or of its first output; empty if the reason concerns the whole model.
    pub node: String,
    /// Type of the operator, for instance `Conv`; empty if the reason concerns the whole model.
    pub op: String,
    pub reason: String,
}

impl Unsupported {
    pub(super) fn new(node: &str, op: &str, reason: impl Into<String>) -> Self {
        Self {
            node: node.to_owned(),
            op: op.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn model(reason: impl Into<String>) -> Self {
        Self::new("", "", reason)
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.op.is_empty(), self.node.is_empty()) {
            (true, true) => f.write_str(&self.reason),
            (true, false) => write!(f, "{}: {}", self.node, self.reason),
            (false, _) => write!(f, "{} \"{}\": {}", self.op, self.node, self.reason),
        }
    }
}

/// Why our kernels cannot run a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file is not a complete ONNX model, or is inconsistent: no engine can run it.
    #[error("{0}")]
    Invalid(String),
    /// The inputs and outputs are those of another network.
    #[error("{0}")]
    WrongSignature(String),
    /// All unsupported operators, in file order; another engine may run the model.
    #[error("{}", list(.0))]
    Unsupported(Vec<Unsupported>),
}

impl ImportError {
    pub(super) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported(vec![Unsupported::model(reason)])
    }
}

fn list(refusals: &[Unsupported]) -> String {
    let texts: Vec<_> = refusals.iter().map(Unsupported::to_string).collect();
    texts.join("; ")
}

/// The length of the input data does not match the input shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an input of {found} numbers was given where {expected} were expected")]
pub struct ShapeMismatch {
    pub expected: usize,
    pub found: usize,
}
