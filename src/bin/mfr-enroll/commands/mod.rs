//! The commands, one per file.

pub mod build;
pub mod check;
pub mod embed;
pub mod evaluate;
pub mod identify;
pub mod list;
pub mod mask;
pub mod model;

/// Exit status of a run with --strict in which photos were rejected.
const REJECTED: u8 = 3;
