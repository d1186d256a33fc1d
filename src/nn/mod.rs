//! Neural network inference, from an ONNX file to output tensors.
//!
//! file → [`onnx`] (protobuf messages, a graph of values) → [`fuse`] (operators that our kernels implement) → [`plan`]
//! (order, memory, weights packed for the instruction set) → [`exec`] → [`kernels`], compiled for every instruction set
//! of [`simd`]. A network that our kernels cannot run exactly is refused with the node, the operator and the reason,
//! and run by ONNX Runtime ([`runtime`]). Only this module decides which of the two runs a network.

mod buffer;
mod choice;
mod error;
mod exec;
mod fact;
mod fuse;
mod fused;
mod graph;
mod kernels;
mod memory;
mod onnx;
mod op;
mod pack;
mod plan;
mod role;
pub(crate) mod row_stream;
mod runtime;
pub(crate) mod simd;
#[doc(hidden)]
pub mod testing;
mod window;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

pub use choice::Chosen;
use choice::Wanted;
pub use error::Unsupported;
use error::{ImportError, ShapeMismatch};
use exec::Workspace;
use onnx::import::Model;
use plan::{Items, MOST_OUTPUTS, Plan, StepOp};
pub use role::{Axes, Role, Signature};
use row_stream::RowStream;
use runtime::Session;
pub use runtime::{
    Device, ENGINE_VARIABLE, LIBRARY_VARIABLE, RuntimeError, SessionOptions, library,
};
pub use simd::{CPU_VARIABLE, Isa};

use crate::io::files::{open_regular, read_regular};
use crate::threads::cache::Cache;
use crate::threads::{lock, share};

/// Where a network is loaded from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Name used in messages, and the contents of an ONNX file.
    Bytes(&'static str, &'static [u8]),
    File(&'a Path),
}

/// Maximum size of a model file in bytes: the limit of a protobuf message, which an ONNX file is.
const MOST_BYTES: u64 = i32::MAX as u64;

impl Source<'_> {
    /// Name used in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Bytes(name, _) => (*name).to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn read(&self) -> Result<Bytes, RuntimeError> {
        match self {
            Self::Bytes(_, bytes) => Ok(Bytes::from_static(bytes)),
            Self::File(path) => match read_regular(path, MOST_BYTES) {
                Ok(bytes) => Ok(Bytes::from(bytes)),
                Err(reason) => Err(RuntimeError::Unreadable {
                    path: self.name(),
                    reason,
                }),
            },
        }
    }
}

/// A network that is ready to run, from any number of threads at once.
pub struct Network {
    role: Role,
    /// Name used in messages.
    name: String,
    sha256: String,
    engine: Engine,
    chosen: Chosen,
    refusals: Vec<Unsupported>,
    /// Metadata of the file, by key.
    properties: HashMap<String, String>,
}

/// The engine that runs a network.
pub enum Engine {
    /// Our kernels, layer by layer.
    Plan(Arc<Planned>),
    /// Our kernel for P-Net.
    Rows(Arc<RowStream>),
    Runtime(Mutex<Session>),
}

/// Networks in use by our kernels, by role, file hash and instruction set, so that all users of a file share one copy.
static PLANS: Cache<String, Planned> = Cache::new();
static ROWS: Cache<String, RowStream> = Cache::new();

impl Network {
    /// Reads, checks and packs a network.
    pub fn load(
        role: Role,
        source: Source,
        options: &SessionOptions,
    ) -> Result<Self, RuntimeError> {
        let name = source.name();
        let file = source.read()?;
        // The hash is of exactly the bytes that are run, because the file is not read again.
        let sha256 = sha256(&file);
        let wanted = Wanted::new(role, options)?;
        let not_a_model = |reason: String| RuntimeError::NotAModel {
            model: name.clone(),
            reason,
        };
        let model = Model::decode(file.clone()).map_err(|e| not_a_model(e.to_string()))?;
        let own = Engine::own(role, &model, &sha256, wanted.isa());
        let refusals = match &own {
            Err(ImportError::Invalid(reason)) => return Err(not_a_model(reason.clone())),
            Err(ImportError::WrongSignature(found)) => {
                return Err(RuntimeError::WrongModel {
                    model: name,
                    expected: role.signature().expected(),
                    found: found.clone(),
                });
            }
            Err(ImportError::Unsupported(refusals)) => refusals.clone(),
            Ok(_) => Vec::new(),
        };
        let properties = model.properties();
        drop(model);
        let chosen = wanted.choose(own.is_ok());
        let engine = match own {
            Ok(engine) if chosen.is_own() => engine,
            Err(_) if chosen.is_own() => {
                return Err(RuntimeError::NotOwn {
                    model: name,
                    refusals,
                });
            }
            _ => {
                let session = Session::from_bytes(&name, &file, Some(&role.signature()), options);
                Engine::Runtime(Mutex::new(session.map_err(
                    |runtime| match refusals.is_empty() {
                        true => runtime,
                        false => RuntimeError::NoEngine {
                            model: name.clone(),
                            refusals: refusals.clone(),
                            runtime: Box::new(runtime),
                        },
                    },
                )?))
            }
        };
        drop(file);
        // The other networks leave too little free memory behind to be worth the call.
        if role == Role::FaceNet {
            memory::trim();
        }
        Ok(Self {
            role,
            name,
            sha256,
            engine,
            chosen,
            refusals,
            properties,
        })
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Name used in messages: a path, or a built-in name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file, in hexadecimal: the identity of the network.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Which engine runs it, and why.
    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Why our kernels cannot run the network, node by node; empty if they can.
    pub fn refusals(&self) -> &[Unsupported] {
        &self.refusals
    }

    pub fn is_own(&self) -> bool {
        !matches!(self.engine, Engine::Runtime(_))
    }

    /// The kernels that run it, for instance `x86_64-u8i8-avx2`, or `onnxruntime`.
    pub fn kernel(&self) -> String {
        match &self.engine {
            Engine::Plan(planned) => planned.kernel(),
            Engine::Rows(rows) => rows.kernel(),
            Engine::Runtime(_) => "onnxruntime".to_owned(),
        }
    }

    /// Order of the image axes that [`Self::run`] expects.
    pub fn axes(&self) -> Axes {
        match self.engine {
            Engine::Runtime(_) => self.role.axes(),
            Engine::Plan(_) | Engine::Rows(_) => Axes::RowsFirst,
        }
    }

    /// Value of this key in the metadata of the file.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// Runs the network on a batch. `input` has the given shape, `[count, …]`; the values of each output are appended
    /// to `outputs`, item by item. Our kernels split the work between `threads` threads.
    pub fn run(
        &self,
        threads: usize,
        shape: [usize; 4],
        input: &[f32],
        outputs: &mut [Vec<f32>],
    ) -> Result<(), RuntimeError> {
        let failed = |reason: String| RuntimeError::Run {
            model: self.name.clone(),
            reason,
        };
        let expected = shape.iter().product();
        if input.len() != expected {
            let found = input.len();
            return Err(failed(ShapeMismatch { expected, found }.to_string()));
        }
        match &self.engine {
            Engine::Plan(planned) => {
                if planned.item() != shape[1..] {
                    return Err(failed(format!(
                        "items of {:?} were given where {:?} are expected",
                        &shape[1..],
                        planned.item()
                    )));
                }
                planned.run(threads, input, outputs);
                Ok(())
            }
            Engine::Rows(_) => Err(failed("it takes levels of an image, row by row".to_owned())),
            Engine::Runtime(session) => {
                let mut session = lock(session);
                let given = session.run(shape, input)?;
                for (number, output) in outputs.iter_mut().enumerate() {
                    output.extend_from_slice(given.get(number)?.1);
                }
                Ok(())
            }
        }
    }
}

impl Engine {
    /// Prepares a network for our kernels, or returns why they cannot run it.
    fn own(role: Role, model: &Model, sha256: &str, isa: Isa) -> Result<Self, ImportError> {
        let key = format!("{role:?} {sha256} {}", isa.name());
        if role == Role::PNet {
            let load = || {
                let fused = import(role, model)?;
                RowStream::new(&fused, isa).map_err(ImportError::unsupported)
            };
            return ROWS.get(key, load).map(Self::Rows);
        }
        PLANS
            .get(key, || Planned::new(role, model, isa))
            .map(Self::Plan)
    }
}

/// Imports and fuses a network, with rows as the first image axis.
fn import(role: Role, model: &Model) -> Result<fused::Fused, ImportError> {
    let signature = role.signature();
    signature
        .check(&model.inputs(), &model.outputs(), false)
        .map_err(ImportError::WrongSignature)?;
    let graph = model.graph(&role.item())?;
    let mut fused = fuse::fuse(&graph)?;
    // Sizes that the file does not state are known after shape inference.
    let widths = fused
        .outputs
        .iter()
        .map(|&t| fused.tensors[t].channels as i64);
    let wanted = signature
        .outputs
        .iter()
        .map(|dims| *dims.last().unwrap_or(&-1));
    let fits = widths
        .clone()
        .zip(wanted)
        .all(|(found, wanted)| wanted < 0 || found == wanted);
    if !fits {
        return Err(ImportError::WrongSignature(format!(
            "its outputs have {:?} numbers",
            widths.collect::<Vec<_>>()
        )));
    }
    if role.axes() == Axes::ColumnsFirst {
        fused.exchange_rows_and_columns();
    }
    Ok(fused)
}

/// A network that our kernels run layer by layer. Immutable: any number of threads may run it at once.
pub struct Planned {
    plan: Plan,
    /// Idle workspaces, as many as there have been concurrent runs.
    workspaces: Mutex<Vec<Workspace>>,
}

impl Planned {
    fn new(role: Role, model: &Model, isa: Isa) -> Result<Self, ImportError> {
        let fused = import(role, model)?;
        Ok(Self {
            plan: Plan::new(&fused, isa, role.arithmetic(), role.items())?,
            workspaces: Mutex::default(),
        })
    }

    /// Height, width and channels of an item.
    pub fn item(&self) -> [usize; 3] {
        let input = &self.plan.buffers[0];
        [input.height, input.width, input.channels]
    }

    /// Number of values of each output per item.
    pub fn widths(&self) -> impl Iterator<Item = usize> {
        let outputs = self.plan.outputs.iter().map(|&t| &self.plan.buffers[t]);
        outputs.map(|buffer| buffer.pixels() * buffer.channels)
    }

    /// The kernels of convolutions and fully connected layers, which do most of the arithmetic.
    fn kernel(&self) -> String {
        let mut kernels: Vec<_> = self
            .plan
            .steps
            .iter()
            .filter(|step| matches!(step.op, StepOp::FloatConv(_) | StepOp::U8Conv(_)))
            .map(|step| step.op.kernel(self.plan.isa))
            .collect();
        kernels.dedup();
        let mut seen = Vec::new();
        kernels.retain(|kernel| {
            let is_new = !seen.contains(kernel);
            seen.push(kernel.clone());
            is_new
        });
        kernels.join(" + ")
    }

    /// Appends the values of every item to each output.
    fn run(&self, threads: usize, input: &[f32], outputs: &mut [Vec<f32>]) {
        let len = self.item().iter().product::<usize>();
        let count = input.len() / len.max(1);
        let mut begins = [0; MOST_OUTPUTS];
        for ((output, width), begin) in outputs.iter_mut().zip(self.widths()).zip(&mut begins) {
            *begin = output.len();
            output.resize(output.len() + count * width, 0.0);
        }
        let each = count / threads.max(1);
        if self.plan.items == Items::One || threads < 2 || each == 0 {
            self.run_batch(threads, input, |output, pixel, values| {
                let at = begins[output] + pixel * values.len();
                outputs[output][at..][..values.len()].copy_from_slice(values);
            });
            return;
        }
        // Each thread reads the weights once for all items of its share. All threads together process the remaining
        // items.
        let (whole, rest) = input.split_at(threads * each * len);
        let mut shares = Vec::new();
        let mut left: Vec<&mut [f32]> = outputs
            .iter_mut()
            .zip(begins)
            .map(|(output, begin)| &mut output[begin..])
            .collect();
        for input in whole.chunks(each * len) {
            let mut own = Vec::new();
            for (left, width) in left.iter_mut().zip(self.widths()) {
                let (first, others) = std::mem::take(left).split_at_mut(each * width);
                own.push(first);
                *left = others;
            }
            shares.push(Mutex::new((input, own)));
        }
        share(threads, shares.len(), |number| {
            let (input, outputs) = &mut *lock(&shares[number]);
            self.run_batch(1, input, |output, pixel, values| {
                outputs[output][pixel * values.len()..][..values.len()].copy_from_slice(values);
            });
        });
        if !rest.is_empty() {
            self.run_batch(threads, rest, |output, pixel, values| {
                left[output][pixel * values.len()..][..values.len()].copy_from_slice(values);
            });
        }
    }

    /// Calls `give` with the values of each output for each pixel, counted across all items.
    fn run_batch(&self, threads: usize, input: &[f32], give: impl FnMut(usize, usize, &[f32])) {
        let mut workspace = lock(&self.workspaces).pop().unwrap_or_default();
        exec::run(&self.plan, threads, &mut workspace, input, give);
        lock(&self.workspaces).push(workspace);
    }
}

/// Role of a model file, and the network loaded from it.
pub struct Inspection {
    /// Role that matches the inputs and outputs of the file.
    pub role: Option<Role>,
    pub network: Result<Network, RuntimeError>,
}

impl Inspection {
    pub fn of(path: &Path, options: &SessionOptions) -> Self {
        let source = Source::File(path);
        let model = source.read().and_then(|file| {
            Model::decode(file).map_err(|e| RuntimeError::NotAModel {
                model: source.name(),
                reason: e.to_string(),
            })
        });
        let model = match model {
            Ok(model) => model,
            Err(error) => {
                return Self {
                    role: None,
                    network: Err(error),
                };
            }
        };
        let (inputs, outputs) = (model.inputs(), model.outputs());
        let role = Role::of(&inputs, &outputs);
        let network = match role {
            Some(role) => Network::load(role, source, options),
            None => Err(RuntimeError::WrongModel {
                model: source.name(),
                expected: Role::ALL
                    .map(|role| role.signature().expected())
                    .join(", or "),
                found: role::describe(&inputs, &outputs),
            }),
        };
        Self { role, network }
    }

    /// Operators that our kernels cannot run.
    pub fn refusals(&self) -> &[Unsupported] {
        match &self.network {
            Ok(network) => network.refusals(),
            Err(
                RuntimeError::NoEngine { refusals, .. } | RuntimeError::NotOwn { refusals, .. },
            ) => refusals,
            Err(_) => &[],
        }
    }
}

fn sha256(file: &[u8]) -> String {
    hexadecimal(&Sha256::digest(file))
}

/// SHA-256 of a file, in hexadecimal: the identity of the network in it.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut open_regular(path)?, &mut hash)?;
    Ok(hexadecimal(&hash.finalize()))
}

fn hexadecimal(hash: &[u8]) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
