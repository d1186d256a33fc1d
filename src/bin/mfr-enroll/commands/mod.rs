//! The commands, one per file.

mod before;
pub mod build;
pub mod change;
pub mod check;
pub mod discover;
pub mod embed;
pub mod evaluate;
pub mod export;
pub mod identify;
pub mod import;
pub mod list;
pub mod mask;
pub mod model;
pub mod show;
pub mod upgrade;

/// Exit status of a run with --strict in which photos were rejected.
const REJECTED: u8 = 3;
