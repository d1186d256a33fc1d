//! End-to-end tests of `mfr-enroll`: exit status, standard output and standard error, a module for each command and for
//! what several commands share.

mod build;
mod change;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod discover;
mod embed;
mod evaluate;
mod exchange;
mod gallery;
mod helpers;
mod identify;
mod mask;
mod model;
mod networks;
mod resume;
mod upgrade;
mod usage;
#[cfg(feature = "plugin")]
mod videos;
