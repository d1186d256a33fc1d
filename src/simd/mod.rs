//! What the networks' arithmetic needs of the CPU's vectors.

pub mod cpu;
pub mod pairs;
