#![doc = "Face recognition for GStreamer, also under a mask."]
#![deny(unsafe_code)]

#[cfg(feature = "draw")]
pub mod draw;
pub mod geometry;
pub mod image;
