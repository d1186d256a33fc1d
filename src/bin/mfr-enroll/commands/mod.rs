//! One file for each command.

pub mod build;
pub mod embed;
pub mod evaluate;
pub mod identify;
pub mod list;
pub mod mask;
