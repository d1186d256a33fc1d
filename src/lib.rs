#![doc = "Face recognition for GStreamer, also under a mask."]
#![deny(unsafe_code)]

pub mod detect;
#[cfg(feature = "draw")]
pub mod draw;
pub mod embed;
pub mod geometry;
pub mod image;
pub mod locate;
pub mod pipeline;
pub mod resize;
pub mod runtime;
