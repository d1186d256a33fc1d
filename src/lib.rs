//! Face recognition for GStreamer, also under a mask.
//!
//! The way of the data: frame → [`detect`] → faces → [`embed`] → embeddings → gallery → identity.
//! With the feature `plugin` the library is the GStreamer plugin `mfr`; without it, it knows
//! nothing of GStreamer.
#![deny(unsafe_code)]

pub mod detect;
#[cfg(feature = "draw")]
pub mod draw;
pub mod embed;
pub mod gallery;
pub mod geometry;
pub mod image;
pub mod locate;
pub mod orientation;
pub mod pipeline;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod resize;
pub mod runtime;
pub mod svm;
pub mod track;

#[cfg(feature = "plugin")]
use plugin::register;

#[cfg(feature = "plugin")]
gst::plugin_define!(
    mfr,
    env!("CARGO_PKG_DESCRIPTION"),
    register,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
