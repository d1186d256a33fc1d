//! What is read: folders, photos and videos.

mod converter;
pub mod dataset;
mod jpeg;
pub mod photo;
pub mod source;
#[cfg(feature = "plugin")]
pub mod video;
