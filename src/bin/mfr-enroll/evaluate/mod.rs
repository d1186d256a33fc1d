//! How well a gallery tells people apart.

pub mod calibration;
pub mod trial;
