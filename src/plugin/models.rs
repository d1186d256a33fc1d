//! Models of the elements: loading, sharing between elements, and their errors.

use std::path::PathBuf;
use std::sync::Arc;

use gst::glib;
use gst::prelude::*;

use crate::detect::Detector;
use crate::embed::Embedder;
use crate::nn::{Network, RuntimeError, SessionOptions};
use crate::threads::cache::Cache;

pub const DEFAULT_DEVICE: &str = "cpu";
pub const DEFAULT_THREADS: u32 = 0;

/// The settings that determine which model an element loads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelSettings {
    /// File or folder; None for the built-in model.
    pub path: Option<PathBuf>,
    pub device: String,
    pub threads: u32,
    /// Elements with the same id share one model.
    pub instance_id: Option<String>,
    /// Faces per run; part of the key because a worker's memory depends on it.
    pub batch_size: u32,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            path: None,
            device: DEFAULT_DEVICE.to_owned(),
            threads: DEFAULT_THREADS,
            instance_id: None,
            batch_size: 0,
        }
    }
}

impl ModelSettings {
    /// The properties that every element with a model has.
    pub fn properties() -> [glib::ParamSpec; 3] {
        [
            glib::ParamSpecString::builder("device")
                .nick("Device")
                .blurb("Where the networks run: cpu, cuda or cuda:N, as built; a device that is absent is an error")
                .default_value(DEFAULT_DEVICE)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads of one inference; 0 = automatic, by the number of cores")
                .maximum(256)
                .default_value(DEFAULT_THREADS)
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("model-instance-id")
                .nick("Model instance id")
                .blurb("Elements with the same id and the same model, device and threads share one model in memory and run it at the same time; networks of our own kernels are shared without an id too")
                .mutable_ready()
                .build(),
        ]
    }

    /// Sets one of [`properties`](Self::properties); returns false for any other.
    pub fn set_property(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "device" => {
                let device: Option<String> = value.get().expect("type checked upstream");
                self.device = device.unwrap_or_else(|| DEFAULT_DEVICE.to_owned());
            }
            "threads" => self.threads = value.get().expect("type checked upstream"),
            "model-instance-id" => {
                self.instance_id = value.get().expect("type checked upstream");
            }
            _ => return false,
        }
        true
    }

    /// The value of one of [`properties`](Self::properties).
    pub fn property(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "device" => self.device.to_value(),
            "threads" => self.threads.to_value(),
            "model-instance-id" => self.instance_id.to_value(),
            _ => return None,
        })
    }

    pub fn session_options(&self) -> Result<SessionOptions, RuntimeError> {
        Ok(SessionOptions {
            device: self.device.parse()?,
            threads: self.threads as usize,
        })
    }
}

/// A model whose networks can be shared by workers with memory of their own, which run concurrently.
pub trait Model: Sized + Send + Sync + 'static {
    /// Cache of the models whose workers are used by elements with an instance id.
    fn cache() -> &'static Cache<ModelSettings, Self>;
    fn fork(&self) -> Self;
    /// The model's networks, by the names that the property `engine` uses.
    fn networks(&self) -> Vec<(&'static str, &Network)>;
}

impl Model for Detector {
    fn cache() -> &'static Cache<ModelSettings, Self> {
        static CACHE: Cache<ModelSettings, Detector> = Cache::new();
        &CACHE
    }

    fn fork(&self) -> Self {
        self.fork()
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        let [pnet, rnet, onet] = self.networks();
        vec![("pnet", pnet), ("rnet", rnet), ("onet", onet)]
    }
}

impl Model for Embedder {
    fn cache() -> &'static Cache<ModelSettings, Self> {
        static CACHE: Cache<ModelSettings, Embedder> = Cache::new();
        &CACHE
    }

    fn fork(&self) -> Self {
        self.fork()
    }

    fn networks(&self) -> Vec<(&'static str, &Network)> {
        let [facenet, mask] = self.networks();
        vec![("facenet", facenet), ("mask", mask)]
    }
}

/// An element's own instance of a model; other elements may share its networks.
pub struct Worker<T> {
    pub model: T,
    /// The model that workers of other elements with the same id are forked from; it lives as long as one of them.
    _prototype: Option<Arc<T>>,
}

/// Returns a worker for these settings. With an instance id it shares the networks that another element has loaded,
/// if any; otherwise a new model is loaded.
pub fn get<T: Model>(
    settings: &ModelSettings,
    load: impl FnOnce(&ModelSettings, &SessionOptions) -> Result<T, RuntimeError>,
) -> Result<Worker<T>, RuntimeError> {
    let options = settings.session_options()?;
    if settings.instance_id.is_none() {
        return Ok(Worker {
            model: load(settings, &options)?,
            _prototype: None,
        });
    }
    let prototype = T::cache().get(settings.clone(), || load(settings, &options))?;
    Ok(Worker {
        model: prototype.fork(),
        _prototype: Some(prototype),
    })
}

/// The property that reports which engine runs the networks.
pub fn engine_property() -> glib::ParamSpec {
    glib::ParamSpecString::builder("engine")
        .nick("Engine")
        .blurb("What runs each network: the kernel of this plugin, or onnxruntime; null before the element has loaded them")
        .read_only()
        .build()
}

/// Logs which engine runs each network of a model and why, and which operations the built-in kernels do not support;
/// returns the text of the property `engine`.
pub fn log_engines(
    category: gst::DebugCategory,
    element: &gst::Element,
    model: &impl Model,
) -> String {
    let networks = model.networks();
    for (name, network) in &networks {
        gst::info!(
            category,
            obj = element,
            "{name} ({}) runs by {}: {}",
            network.name(),
            network.kernel(),
            network.chosen().reason
        );
        for refusal in network.refusals() {
            gst::debug!(
                category,
                obj = element,
                "{name}: our kernels refuse {refusal}"
            );
        }
    }
    let engines = networks
        .iter()
        .map(|(name, network)| format!("{name}: {}", network.kernel()));
    engines.collect::<Vec<_>>().join(", ")
}

/// Converts the error to the one that GStreamer posts on the bus.
pub fn error_message(error: &RuntimeError) -> gst::ErrorMessage {
    let text = error.to_string();
    match error {
        RuntimeError::Unreadable { reason, .. } => {
            gst::error_msg!(resource_error(reason), ("{text}"))
        }
        e if e.is_missing_file() => gst::error_msg!(gst::ResourceError::NotFound, ("{text}")),
        RuntimeError::Device { .. }
        | RuntimeError::Variable { .. }
        | RuntimeError::NotOwn { .. } => gst::error_msg!(gst::LibraryError::Settings, ("{text}")),
        RuntimeError::Run { .. } => gst::error_msg!(gst::StreamError::Failed, ("{text}")),
        _ => gst::error_msg!(gst::LibraryError::Init, ("{text}")),
    }
}

/// GStreamer's error code for a file that cannot be opened.
pub fn resource_error(reason: &std::io::Error) -> gst::ResourceError {
    match reason.kind() {
        std::io::ErrorKind::NotFound => gst::ResourceError::NotFound,
        std::io::ErrorKind::PermissionDenied => gst::ResourceError::NotAuthorized,
        _ => gst::ResourceError::OpenRead,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn settings(id: Option<&str>, threads: u32) -> ModelSettings {
        ModelSettings {
            device: "cpu".into(),
            threads,
            instance_id: id.map(Into::into),
            ..Default::default()
        }
    }

    /// A model without networks that counts how often it was loaded, and the number of the worker.
    struct Counted(Arc<AtomicU32>);

    impl Model for Counted {
        fn cache() -> &'static Cache<ModelSettings, Self> {
            static CACHE: Cache<ModelSettings, Counted> = Cache::new();
            &CACHE
        }

        fn fork(&self) -> Self {
            Self(Arc::clone(&self.0))
        }

        fn networks(&self) -> Vec<(&'static str, &Network)> {
            Vec::new()
        }
    }

    #[test]
    fn elements_with_the_same_id_share_one_model_while_one_of_them_lives() {
        let loaded = Arc::new(AtomicU32::new(0));
        let load = |_: &ModelSettings, _: &SessionOptions| {
            loaded.fetch_add(1, Ordering::Relaxed);
            Ok(Counted(Arc::new(AtomicU32::new(0))))
        };
        let count = || loaded.load(Ordering::Relaxed);
        let a = get(&settings(Some("a"), 1), load).unwrap();
        let b = get(&settings(Some("a"), 1), load).unwrap();
        assert_eq!(count(), 1);
        assert!(Arc::ptr_eq(&a.model.0, &b.model.0));
        let _others = [
            get(&settings(Some("a"), 2), load).unwrap(),
            get(&settings(None, 1), load).unwrap(),
        ];
        assert_eq!(count(), 3);
        // A third element shares the second one's model after the first one, which loaded it, is gone.
        drop(a);
        let c = get(&settings(Some("a"), 1), load).unwrap();
        assert_eq!(count(), 3);
        drop((b, c));
        let _again = get(&settings(Some("a"), 1), load).unwrap();
        assert_eq!(count(), 4);
    }

    #[test]
    fn errors_of_files_have_the_codes_that_say_why() {
        use gst::ResourceError::{NotAuthorized, NotFound, OpenRead};
        use std::io::ErrorKind::{InvalidInput, PermissionDenied};
        for (kind, expected) in [
            (std::io::ErrorKind::NotFound, NotFound),
            (PermissionDenied, NotAuthorized),
            (InvalidInput, OpenRead),
        ] {
            assert_eq!(resource_error(&kind.into()), expected);
        }
    }
}
