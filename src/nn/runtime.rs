//! Inference with ONNX Runtime. This is the only file that uses `ort`.
//!
//! ONNX Runtime is loaded together with the first model that needs it and never linked, so that the plugin can be
//! loaded and inspected on a computer without it. One environment lives as long as the process, as ONNX Runtime
//! requires.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::ep::ExecutionProviderDispatch;
use ort::session::SessionOutputs;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{TensorElementType, TensorRef, ValueType};
use thiserror::Error;

use super::error::Unsupported;
use super::memory;
use super::onnx::import::Port;
use super::role::Signature;
use crate::io::locate;

/// The environment variable that forces an engine: `own` or `onnxruntime`.
pub const ENGINE_VARIABLE: &str = "MFR_ENGINE";

/// The environment variable with the path of the library, the same as in `ort`.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Oldest ONNX Runtime that provides the API version in use (17).
const MINIMUM_VERSION: &str = "1.17";

/// Folders in which distributions install shared libraries.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/arm-linux-gnueabihf",
    "/usr/lib64",
    "/usr/lib",
];

/// More threads than this do not speed up networks of this size: FaceNet's layers are small, and the other elements of
/// a pipeline need cores too.
const MAX_AUTOMATIC_THREADS: usize = 4;

static ENVIRONMENT: OnceCell<Environment> = OnceCell::new();

/// Why a model cannot be loaded or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    #[error(
        "ONNX Runtime {MINIMUM_VERSION} or newer was not found: no libonnxruntime.so in {searched}. \
         Install it (Debian 13: apt install libonnxruntime1.21; in the source tree: make onnxruntime, \
         then make install) or set {LIBRARY_VARIABLE} to the library's path"
    )]
    LibraryMissing { searched: String },
    #[error(
        "{LIBRARY_VARIABLE} names {path}, which is not a file. Set it to the path of \
         libonnxruntime.so, or unset it to have the library searched for"
    )]
    LibraryVariable { path: PathBuf },
    #[error(
        "{path} cannot be used as ONNX Runtime {MINIMUM_VERSION} or newer: {reason}. Install a newer one or \
         set {LIBRARY_VARIABLE} to its path"
    )]
    LibraryUnusable { path: PathBuf, reason: String },
    #[error("ONNX Runtime did not start: {0}")]
    Environment(String),
    #[error(
        "the model {name} was not found beside the plugin, in a gst-plugin-mfr folder of the \
         installation or in the source tree; name it by property or option"
    )]
    ModelMissing { name: &'static str },
    #[error("model {path}: {reason}")]
    Unreadable {
        path: String,
        reason: std::io::Error,
    },
    #[error(
        "model {model} is not a network that can be loaded (expected an ONNX file; it may be truncated or of \
         another kind): {reason}"
    )]
    NotAModel { model: String, reason: String },
    #[error("model {model} is not {expected}: {found}")]
    WrongModel {
        model: String,
        expected: String,
        found: String,
    },
    #[error(
        "model {model} cannot be run by our kernels ({}), and ONNX Runtime cannot either: {runtime}",
        brief(refusals)
    )]
    NoEngine {
        model: String,
        refusals: Vec<Unsupported>,
        runtime: Box<RuntimeError>,
    },
    #[error(
        "{ENGINE_VARIABLE} is \"own\", but our kernels cannot run model {model}: {}",
        brief(refusals)
    )]
    NotOwn {
        model: String,
        refusals: Vec<Unsupported>,
    },
    #[error("{variable} is \"{value}\"; expected {expected}")]
    Variable {
        variable: &'static str,
        value: String,
        expected: String,
    },
    #[error("device \"{device}\": {reason}")]
    Device { device: String, reason: String },
    #[error("model {model} failed to run: {reason}")]
    Run { model: String, reason: String },
}

/// Lists the first refusals, and how many more there are.
fn brief(refusals: &[Unsupported]) -> String {
    const FIRST: usize = 3;
    let mut texts: Vec<_> = refusals
        .iter()
        .take(FIRST)
        .map(Unsupported::to_string)
        .collect();
    if refusals.len() > FIRST {
        texts.push(format!(
            "{} more; mfr-enroll model lists them",
            refusals.len() - FIRST
        ));
    }
    texts.join("; ")
}

impl RuntimeError {
    /// Whether a required file is missing or cannot be read.
    pub fn is_missing_file(&self) -> bool {
        match self {
            Self::LibraryMissing { .. }
            | Self::ModelMissing { .. }
            | Self::LibraryVariable { .. }
            | Self::Unreadable { .. } => true,
            Self::NoEngine { runtime, .. } => runtime.is_missing_file(),
            _ => false,
        }
    }
}

/// The device that a network runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Device {
    #[default]
    Cpu,
    /// NVIDIA GPU of this index; in builds with the feature `cuda`.
    Cuda(i32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = RuntimeError;

    /// `cpu`, `cuda` or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index)),
            None => (text, None),
        };
        match (kind, index.unwrap_or("0").parse()) {
            ("cpu", _) if index.is_none() => Ok(Self::Cpu),
            ("cuda", Ok(index)) if index >= 0 => Ok(Self::Cuda(index)),
            _ => Err(RuntimeError::Device {
                device: text.to_owned(),
                reason: "expected cpu, cuda or cuda:N with the index of a GPU".to_owned(),
            }),
        }
    }
}

impl Device {
    #[cfg(feature = "cuda")]
    fn providers(&self) -> Result<Vec<ExecutionProviderDispatch>, RuntimeError> {
        Ok(match self {
            Self::Cpu => Vec::new(),
            // Without error_on_failure, ONNX Runtime would silently fall back to the CPU if the GPU is missing.
            Self::Cuda(index) => vec![
                ort::ep::CUDA::default()
                    .with_device_id(*index)
                    .build()
                    .error_on_failure(),
            ],
        })
    }

    #[cfg(not(feature = "cuda"))]
    fn providers(&self) -> Result<Vec<ExecutionProviderDispatch>, RuntimeError> {
        match self {
            Self::Cpu => Ok(Vec::new()),
            Self::Cuda(_) => Err(RuntimeError::Device {
                device: self.to_string(),
                reason:
                    "this build runs on the CPU alone; build with --features cuda for NVIDIA GPUs"
                        .to_owned(),
            }),
        }
    }
}

/// Options of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SessionOptions {
    pub device: Device,
    /// Threads of one run; 0 chooses by the number of cores.
    pub threads: usize,
}

impl SessionOptions {
    /// Number of threads that a run uses.
    pub fn thread_count(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        std::thread::available_parallelism()
            .map_or(1, |n| n.get())
            .min(MAX_AUTOMATIC_THREADS)
    }
}

/// A network with one float32 input and float32 outputs, ready to run.
pub struct Session {
    session: ort::session::Session,
    model: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Loads an ONNX file from memory and checks its signature; `name` is used in messages.
    pub fn from_bytes(
        name: &str,
        bytes: &[u8],
        signature: Option<&Signature>,
        options: &SessionOptions,
    ) -> Result<Self, RuntimeError> {
        Self::build(name.to_owned(), signature, options, |b| {
            b.commit_from_memory(bytes)
        })
    }

    fn build(
        model: String,
        signature: Option<&Signature>,
        options: &SessionOptions,
        commit: impl FnOnce(&mut SessionBuilder) -> ort::Result<ort::session::Session>,
    ) -> Result<Self, RuntimeError> {
        let providers = options.device.providers()?;
        let environment = environment()?;
        let failed = |e: ort::Error<SessionBuilder>| RuntimeError::Environment(e.to_string());
        let mut builder = SessionBuilder::new(environment)
            .map_err(|e| RuntimeError::Environment(e.to_string()))?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(failed)?
            .with_intra_threads(options.thread_count())
            .map_err(failed)?
            // Threads that spin while they wait starve the decoder, the encoder and the other elements.
            .with_intra_op_spinning(false)
            .map_err(failed)?
            // Shapes differ from run to run, so that memory patterns, one per shape, would only accumulate.
            .with_memory_pattern(false)
            .map_err(failed)?;
        if !providers.is_empty() {
            builder =
                builder
                    .with_execution_providers(providers)
                    .map_err(|e| RuntimeError::Device {
                        device: options.device.to_string(),
                        reason: e.to_string(),
                    })?;
        }
        let session = commit(&mut builder).map_err(|e| RuntimeError::NotAModel {
            model: model.clone(),
            reason: e.to_string(),
        })?;
        memory::trim();
        let session = Self { session, model };
        if let Some(signature) = signature {
            session.check(signature)?;
        }
        Ok(session)
    }

    fn check(&self, signature: &Signature) -> Result<(), RuntimeError> {
        let inputs: Vec<_> = self
            .session
            .inputs()
            .iter()
            .map(|o| port(o.name(), o.dtype()))
            .collect();
        let outputs: Vec<_> = self
            .session
            .outputs()
            .iter()
            .map(|o| port(o.name(), o.dtype()))
            .collect();
        let found = signature.check(&inputs, &outputs, true);
        found.map_err(|found| RuntimeError::WrongModel {
            model: self.model.clone(),
            expected: signature.expected(),
            found,
        })
    }

    /// Last dimension of the first output, if the file states it.
    pub fn output_width(&self) -> Option<usize> {
        let output = self.session.outputs().first()?;
        let width = *output.dtype().tensor_shape()?.last()?;
        usize::try_from(width).ok().filter(|&w| w > 0)
    }

    /// Runs the network. `shape` is that of `data`; the outputs are in the order of the signature.
    pub fn run(&mut self, shape: [usize; 4], data: &[f32]) -> Result<Outputs<'_>, RuntimeError> {
        let model = &self.model;
        let failed = |e: ort::Error| RuntimeError::Run {
            model: model.clone(),
            reason: e.to_string(),
        };
        let input = TensorRef::from_array_view((shape, data)).map_err(failed)?;
        let outputs = self.session.run(ort::inputs![input]).map_err(failed)?;
        Ok(Outputs { outputs, model })
    }
}

/// Outputs of one run.
pub struct Outputs<'r> {
    outputs: SessionOutputs<'r>,
    model: &'r str,
}

impl Outputs<'_> {
    /// Shape and values of output `index`, in row-major order.
    pub fn get(&self, index: usize) -> Result<(&[i64], &[f32]), RuntimeError> {
        if index >= self.outputs.len() {
            return Err(self.failed(format!("it gave no output {index}")));
        }
        let (shape, data) = self.outputs[index]
            .try_extract_tensor::<f32>()
            .map_err(|e| self.failed(e.to_string()))?;
        Ok((shape, data))
    }

    fn failed(&self, reason: String) -> RuntimeError {
        RuntimeError::Run {
            model: self.model.to_owned(),
            reason,
        }
    }
}

fn port(name: &str, value: &ValueType) -> Port {
    let is_f32 = value.tensor_type() == Some(TensorElementType::Float32);
    let dims = value.tensor_shape().filter(|_| is_f32).map(|shape| {
        let dims = shape.iter();
        dims.map(|&n| usize::try_from(n).unwrap_or(0)).collect()
    });
    Port {
        name: name.to_owned(),
        dims,
    }
}

/// The environment of the process. The first call loads ONNX Runtime; a call after a failed one tries again.
fn environment() -> Result<&'static Environment, RuntimeError> {
    ENVIRONMENT.get_or_try_init(|| {
        let path = library()?;
        ort::init_from(&path)
            .map_err(|e| RuntimeError::LibraryUnusable {
                path,
                reason: e.to_string(),
            })?
            .with_name("mfr")
            .with_telemetry(false)
            .build()
            .map_err(|e| RuntimeError::Environment(e.to_string()))
    })
}

/// Path of the ONNX Runtime library: the one that the user sets, else the newest one in the first folder that has any.
/// Folders of the installation are searched before those of the system.
pub fn library() -> Result<PathBuf, RuntimeError> {
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|v| !v.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(RuntimeError::LibraryVariable { path })
        };
    }
    let mut folders = locate::library_folders();
    folders.extend(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    library_in(&folders)
}

fn library_in(folders: &[PathBuf]) -> Result<PathBuf, RuntimeError> {
    folders
        .iter()
        .find_map(|folder| newest_library(folder))
        .ok_or_else(|| {
            let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            RuntimeError::LibraryMissing {
                searched: names.join(", "),
            }
        })
}

/// The highest version of `libonnxruntime.so*` in a folder.
fn newest_library(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix("libonnxruntime.so")?;
            let numbers: Vec<u32> = version
                .split('.')
                .skip(1)
                .map_while(|n| n.parse().ok())
                .collect();
            entry.path().is_file().then(|| (numbers, entry.path()))
        })
        .max()
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_written_in_the_docs() {
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::Cpu);
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        assert_eq!("cuda:1".parse::<Device>().unwrap(), Device::Cuda(1));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"] {
            let error = wrong.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains("expected cpu, cuda"), "{error}");
        }
    }

    #[test]
    fn the_newest_library_of_a_folder_wins() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_library(folder.path()), None);
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.21",
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.txt",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let newest = newest_library(folder.path()).unwrap();
        assert_eq!(newest.file_name().unwrap(), "libonnxruntime.so.1.21");
    }

    #[test]
    fn a_library_planted_outside_the_installation_is_not_found() {
        let home = tempfile::tempdir().unwrap();
        let put = |folder: &str| {
            let folder = home.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("libonnxruntime.so.99");
            std::fs::write(&path, "").unwrap();
            path
        };
        for planted in [
            "target/onnxruntime",
            ".local/target/onnxruntime",
            "gst-plugin-mfr",
            "lib/gst-plugin-mfr",
            ".local/gst-plugin-mfr",
            ".local/share/gst-plugin-mfr",
            ".local/share/gstreamer-1.0/plugins",
            ".local/bin",
            "tree/target/release",
            "tree/target/onnxruntime",
        ] {
            put(planted);
        }
        // `None` as in release builds, which do not search a source tree.
        let starts = [
            ".local/share/gstreamer-1.0/plugins",
            ".local/bin",
            "tree/target/release",
        ];
        let starts = starts.map(|start| home.path().join(start));
        let folders = locate::library_folders_from(&starts, None);
        let error = library_in(&folders).unwrap_err();
        assert!(error.is_missing_file(), "{error}");

        let installed = put(".local/lib/gst-plugin-mfr");
        assert_eq!(library_in(&folders).unwrap(), installed);
    }

    #[test]
    fn a_missing_library_is_reported_with_every_folder_that_was_searched() {
        let error = library_in(&["/nowhere/lib".into(), "/nowhere/else".into()]).unwrap_err();
        let text = error.to_string();
        for part in [
            "no libonnxruntime.so in /nowhere/lib, /nowhere/else.",
            "make install",
            LIBRARY_VARIABLE,
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_in_is_an_error() {
        let error = Device::Cuda(0).providers().err().unwrap().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
