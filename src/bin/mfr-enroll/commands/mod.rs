//! One file for each command.

pub mod build;
pub mod check;
pub mod embed;
pub mod evaluate;
pub mod identify;
pub mod list;
pub mod mask;
pub mod model;

/// Status at the end of a run with --strict in which photos were rejected.
const REJECTED: u8 = 3;
