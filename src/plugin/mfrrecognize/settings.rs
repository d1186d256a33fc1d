//! The properties of `mfrrecognize`.

use std::path::PathBuf;

use super::PostMessages;
use crate::embed::DEFAULT_BATCH_SIZE;
use crate::plugin::models::ModelSettings;
use crate::track::ReembedPolicy;

/// A value below 0 means the threshold that the gallery was calibrated with.
pub const DEFAULT_THRESHOLD: f64 = -1.0;
pub const DEFAULT_ATTACH_EMBEDDING: bool = false;
/// A value below 0 means adaptive.
pub const DEFAULT_RECLASSIFY_INTERVAL: i32 = -1;

/// The values of the properties at one moment.
#[derive(Debug, Clone)]
pub struct Settings {
    pub database: Option<PathBuf>,
    pub threshold: f64,
    pub reclassify_interval: i32,
    pub post_messages: PostMessages,
    pub attach_embedding: bool,
    pub model: ModelSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database: None,
            threshold: DEFAULT_THRESHOLD,
            reclassify_interval: DEFAULT_RECLASSIFY_INTERVAL,
            post_messages: PostMessages::default(),
            attach_embedding: DEFAULT_ATTACH_EMBEDDING,
            model: ModelSettings {
                batch_size: DEFAULT_BATCH_SIZE as u32,
                ..Default::default()
            },
        }
    }
}

impl Settings {
    pub fn policy(&self) -> ReembedPolicy {
        match u32::try_from(self.reclassify_interval) {
            Err(_) => ReembedPolicy::Adaptive,
            Ok(0) => ReembedPolicy::Once,
            Ok(n) => ReembedPolicy::Frames(n),
        }
    }
}
