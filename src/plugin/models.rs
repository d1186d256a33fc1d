//! Models of the elements: loading, sharing between elements, and the errors of it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use gst::glib;
use gst::prelude::*;

use crate::nn::{RuntimeError, SessionOptions};
use crate::workers::lock;

pub const DEFAULT_DEVICE: &str = "cpu";
pub const DEFAULT_THREADS: u32 = 0;

/// What decides which model an element loads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelSettings {
    /// File or folder; None for what the project brings along.
    pub path: Option<PathBuf>,
    pub device: String,
    pub threads: u32,
    /// Elements with the same id share one model.
    pub instance_id: Option<String>,
    /// Faces in one run; part of the model because a worker holds the memory for them.
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
                .blurb("Elements with the same id and the same model, device and threads share one model in memory; FaceNet is shared without an id too")
                .mutable_ready()
                .build(),
        ]
    }

    /// Takes one of [`properties`](Self::properties); false for another.
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

type Shared = Weak<dyn Any + Send + Sync>;
type Key = (TypeId, ModelSettings);

static SHARED: Mutex<Option<HashMap<Key, Shared>>> = Mutex::new(None);

/// The model for these settings: with an instance id the one that another element has loaded, if
/// any; otherwise a new one.
pub fn get<T: Send + 'static>(
    settings: &ModelSettings,
    load: impl FnOnce(&ModelSettings, &SessionOptions) -> Result<T, RuntimeError>,
) -> Result<Arc<Mutex<T>>, RuntimeError> {
    let options = settings.session_options()?;
    if settings.instance_id.is_none() {
        return Ok(Arc::new(Mutex::new(load(settings, &options)?)));
    }
    // Held while loading: of two elements that start at once the second waits for the first.
    let mut shared = lock(&SHARED);
    let models = shared.get_or_insert_with(HashMap::new);
    models.retain(|_, model| model.strong_count() > 0);
    let key = (TypeId::of::<T>(), settings.clone());
    if let Some(model) = models.get(&key).and_then(Weak::upgrade)
        && let Ok(model) = model.downcast::<Mutex<T>>()
    {
        return Ok(model);
    }
    let model = Arc::new(Mutex::new(load(settings, &options)?));
    let any: Arc<dyn Any + Send + Sync> = model.clone();
    models.insert(key, Arc::downgrade(&any));
    Ok(model)
}

/// The error as GStreamer posts it on the bus.
pub fn error_message(error: &RuntimeError) -> gst::ErrorMessage {
    let text = error.to_string();
    match error {
        e if e.is_missing_file() => gst::error_msg!(gst::ResourceError::NotFound, ("{text}")),
        RuntimeError::Device { .. } => gst::error_msg!(gst::LibraryError::Settings, ("{text}")),
        RuntimeError::Run { .. } => gst::error_msg!(gst::StreamError::Failed, ("{text}")),
        _ => gst::error_msg!(gst::LibraryError::Init, ("{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(id: Option<&str>, threads: u32) -> ModelSettings {
        ModelSettings {
            device: "cpu".into(),
            threads,
            instance_id: id.map(Into::into),
            ..Default::default()
        }
    }

    #[test]
    fn elements_with_the_same_id_share_one_model_while_one_of_them_lives() {
        let load = |_: &ModelSettings, _: &SessionOptions| Ok(7u8);
        let a = get(&settings(Some("a"), 1), load).unwrap();
        assert!(Arc::ptr_eq(
            &a,
            &get(&settings(Some("a"), 1), load).unwrap()
        ));
        assert!(!Arc::ptr_eq(
            &a,
            &get(&settings(Some("a"), 2), load).unwrap()
        ));
        assert!(!Arc::ptr_eq(&a, &get(&settings(None, 1), load).unwrap()));
        drop(a);
        let again = get(&settings(Some("a"), 1), |_, _| Ok(8u8)).unwrap();
        assert_eq!(*lock(&again), 8);
    }
}
