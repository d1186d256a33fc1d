//! Runs any graph with our kernels and with ONNX Runtime, whatever its role, for tests of single operators.

use prost::bytes::Bytes;

pub use super::error::ImportError;
use super::exec::{self, Workspace};
use super::fuse;
use super::onnx::import::Model;
pub use super::pack::Arithmetic;
use super::plan::{Items, Plan};
use super::runtime::{RuntimeError, Session, SessionOptions};
use super::simd::Isa;

/// A graph with one input `[N, height, width, channels]`, packed for an instruction set.
pub struct Kernels(Plan);

impl Kernels {
    /// Reads a file for items of this height, width and number of channels.
    pub fn load(
        file: &[u8],
        item: [usize; 3],
        isa: Isa,
        arithmetic: Arithmetic,
    ) -> Result<Self, ImportError> {
        let graph = Model::decode(Bytes::copy_from_slice(file))?.graph(&item)?;
        let fused = fuse::fuse(&graph)?;
        Plan::new(&fused, isa, arithmetic, Items::All).map(Self)
    }

    /// Values of each output for all items of `input`, row-major and channels-last.
    pub fn run(&self, threads: usize, input: &[f32]) -> Vec<Vec<f32>> {
        let mut outputs = vec![Vec::new(); self.0.outputs.len()];
        let mut workspace = Workspace::default();
        exec::run(
            &self.0,
            threads,
            &mut workspace,
            input,
            |output, _, values| {
                outputs[output].extend_from_slice(values);
            },
        );
        outputs
    }

    /// The kernels of the steps, in order.
    pub fn kernels(&self) -> Vec<String> {
        let steps = self.0.steps.iter();
        steps.map(|step| step.op.kernel(self.0.isa)).collect()
    }
}

/// The first `outputs` outputs of a file from ONNX Runtime.
pub fn onnx_runtime(
    file: &[u8],
    shape: [usize; 4],
    input: &[f32],
    outputs: usize,
) -> Result<Vec<Vec<f32>>, RuntimeError> {
    let mut session =
        Session::from_bytes("the test's graph", file, None, &SessionOptions::default())?;
    let given = session.run(shape, input)?;
    (0..outputs).map(|i| Ok(given.get(i)?.1.to_vec())).collect()
}
