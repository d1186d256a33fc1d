//! Input: folders, photos and videos.

mod converter;
pub mod dataset;
pub mod error;
mod jpeg;
pub mod names;
pub mod peers;
pub mod photo;
pub mod source;
#[cfg(feature = "plugin")]
pub mod video;
