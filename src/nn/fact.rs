//! Static properties of the values of a graph: element type, shape, and the data of constants.

use prost::bytes::Bytes;

/// Element type and shape of a value, known without running the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub element: Element,
    /// Whether the first dimension is the batch, of any size. It is not in `dims`.
    pub is_batched: bool,
    pub dims: Vec<usize>,
}

impl Fact {
    /// Number of elements of the value; of each item if it is batched.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Element types that the engine supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    U8,
    I8,
    I32,
    I64,
    /// Any other type, which no operator accepts.
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

/// Data of a value that is stored in the file: row-major, little endian.
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
