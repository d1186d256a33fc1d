//! Face recognition for GStreamer, including faces with masks.
//!
//! The data flow: frame → [`detect`] → faces → [`embed`] → embeddings → gallery → identity.
//! With the feature `plugin` the library is the GStreamer plugin `mfr`; without it, it does not
//! depend on GStreamer.
//!
//! An application uses the elements of the installed plugin in a pipeline, or links this crate and
//! calls `gstmfr::plugin_register_static()` after `gst::init()`. Without GStreamer,
//! [`pipeline::Pipeline`] processes an image from end to end, and [`gallery::Gallery`] identifies
//! the faces. Colours are RGB, boxes and landmarks are pixels of the image, similarities are 0…1 and
//! higher is more certain.
#![deny(unsafe_code)]

pub mod detect;
#[cfg(feature = "draw")]
pub mod draw;
pub mod embed;
pub mod frame;
pub mod gallery;
pub mod io;
pub mod nn;
pub mod paint;
pub mod pipeline;
#[cfg(feature = "plugin")]
pub mod plugin;
#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;
mod threads;
pub mod track;

#[cfg(feature = "plugin")]
use plugin::register;
#[cfg(feature = "plugin")]
pub use plugin::{message::Message, meta::Face};

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
