//! The networks that the program runs: their signatures, and how they are computed.

use super::onnx::import::Port;
use super::pack::Arithmetic;
use super::plan::Items;
use super::row_stream::WINDOW;

/// Purpose of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// MTCNN's first stage, which proposes candidates on pyramid levels of any size.
    PNet,
    RNet,
    ONet,
    FaceNet,
    /// Classifies whether a face wears a mask.
    MaskNet,
}

/// The inputs and outputs of a role. A dimension is a size, or −1 for any; the first one is the batch.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    /// Name for messages, for instance "MTCNN's R-Net".
    pub name: &'static str,
    pub input: &'static [i64],
    pub outputs: &'static [&'static [i64]],
}

/// Order of the image axes in a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axes {
    RowsFirst,
    /// The order of MTCNN's files.
    ColumnsFirst,
}

impl Role {
    pub const ALL: [Self; 5] = [
        Self::PNet,
        Self::RNet,
        Self::ONet,
        Self::FaceNet,
        Self::MaskNet,
    ];

    pub fn signature(self) -> Signature {
        match self {
            Self::PNet => Signature {
                name: "MTCNN's P-Net",
                input: &[-1, -1, -1, 3],
                outputs: &[&[-1, -1, -1, 4], &[-1, -1, -1, 2]],
            },
            Self::RNet => Signature {
                name: "MTCNN's R-Net",
                input: &[-1, 24, 24, 3],
                outputs: &[&[-1, 4], &[-1, 2]],
            },
            Self::ONet => Signature {
                name: "MTCNN's O-Net",
                input: &[-1, 48, 48, 3],
                outputs: &[&[-1, 4], &[-1, 10], &[-1, 2]],
            },
            Self::FaceNet => Signature {
                name: "FaceNet",
                input: &[-1, 160, 160, 3],
                outputs: &[&[-1, -1]],
            },
            Self::MaskNet => Signature {
                name: "the mask network",
                input: &[-1, 32, 32, 3],
                outputs: &[&[-1, 1]],
            },
        }
    }

    /// Name used by commands and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::PNet => "P-Net",
            Self::RNet => "R-Net",
            Self::ONet => "O-Net",
            Self::FaceNet => "FaceNet",
            Self::MaskNet => "mask network",
        }
    }

    /// The role whose signature matches a file, if there is one.
    pub fn of(inputs: &[Port], outputs: &[Port]) -> Option<Self> {
        let fits = |role: &Self| role.signature().check(inputs, outputs, false).is_ok();
        Self::ALL.into_iter().find(fits)
    }

    /// Height, width and channels of an item for shape inference. P-Net's is the smallest that has an output; its
    /// operators do not depend on the size.
    pub(super) fn item(self) -> [usize; 3] {
        match self.signature().input {
            &[_, height, width, channels] => [height, width, channels].map(|n| match n {
                -1 => WINDOW,
                n => n as usize,
            }),
            _ => [0; 3],
        }
    }

    pub fn axes(self) -> Axes {
        match self {
            Self::PNet | Self::RNet | Self::ONet => Axes::ColumnsFirst,
            Self::FaceNet | Self::MaskNet => Axes::RowsFirst,
        }
    }

    /// Arithmetic of the layers with float32 inputs, if the instruction set is faster with it.
    pub(super) fn arithmetic(self) -> Arithmetic {
        match self {
            Self::PNet | Self::RNet | Self::ONet => Arithmetic::I16,
            // FaceNet has only one such layer, with too few products to gain anything.
            Self::FaceNet | Self::MaskNet => Arithmetic::F32,
        }
    }

    pub(super) fn items(self) -> Items {
        match self {
            Self::FaceNet => Items::All,
            _ => Items::One,
        }
    }
}

impl Signature {
    /// Checks the inputs and outputs of a file. A dimension that is free in the signature must be free in the input
    /// too: a batch fixed to 1 cannot hold more. Outputs without a stated shape are an error if `is_known`.
    pub fn check(&self, inputs: &[Port], outputs: &[Port], is_known: bool) -> Result<(), String> {
        let fits = |port: &Port, wanted: &[i64], is_input: bool| match &port.dims {
            None => !is_input && !is_known,
            Some(dims) => {
                dims.len() == wanted.len()
                    && dims.iter().zip(wanted).all(|(&dim, &wanted)| match wanted {
                        -1 => dim == 0 || !is_input,
                        wanted => dim == 0 || dim as i64 == wanted,
                    })
            }
        };
        let matches = inputs.len() == 1
            && outputs.len() == self.outputs.len()
            && fits(&inputs[0], self.input, true)
            && outputs
                .iter()
                .zip(self.outputs)
                .all(|(port, wanted)| fits(port, wanted, false));
        if matches {
            return Ok(());
        }
        Err(describe(inputs, outputs))
    }

    /// The signature, for error messages.
    pub fn expected(&self) -> String {
        format!(
            "{} (input {:?}, outputs {:?}, −1 for any size)",
            self.name, self.input, self.outputs
        )
    }
}

/// The inputs and outputs that a file has, for error messages.
pub(super) fn describe(inputs: &[Port], outputs: &[Port]) -> String {
    let list = |ports: &[Port]| {
        let texts: Vec<_> = ports.iter().map(dims).collect();
        texts.join(", ")
    };
    format!(
        "it has the inputs {} and the outputs {}",
        list(inputs),
        list(outputs)
    )
}

fn dims(port: &Port) -> String {
    match &port.dims {
        Some(dims) => {
            let dims = dims.iter();
            let dims: Vec<_> = dims
                .map(|&dim| if dim == 0 { -1 } else { dim as i64 })
                .collect();
            format!("{dims:?}")
        }
        None => "(no float32 tensor of a stated shape)".to_owned(),
    }
}
