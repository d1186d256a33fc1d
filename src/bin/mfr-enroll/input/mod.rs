//! What is read: folders, photos and videos.

pub mod dataset;
pub mod photo;
pub mod source;
#[cfg(feature = "plugin")]
pub mod video;
