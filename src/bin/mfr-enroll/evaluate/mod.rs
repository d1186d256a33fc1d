//! Measures how well a gallery distinguishes people.

pub mod calibration;
pub mod trial;
