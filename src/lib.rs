#![doc = "Face recognition for GStreamer, also under a mask."]
#![deny(unsafe_code)]

pub mod geometry;
pub mod image;
