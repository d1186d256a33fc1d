//! The GStreamer elements.

mod clock;
mod filter;
mod frame;
pub mod gallery_message;
mod latency;
mod load;
pub mod message;
pub mod meta;
mod mfrdetect;
mod mfroverlay;
mod mfrrecognize;
mod models;
mod stream;

use gst::glib;

pub use mfrdetect::MfrDetect;
pub use mfroverlay::MfrOverlay;
pub use mfrrecognize::{MfrRecognize, PostMessages};

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // The installation keeps models and ONNX Runtime relative to the folder of the plugin's file.
    if let Some(folder) = plugin
        .filename()
        .as_deref()
        .and_then(std::path::Path::parent)
    {
        crate::io::locate::add_start_folder(folder);
    }
    meta::register();
    mfrdetect::register(plugin)?;
    mfrrecognize::register(plugin)?;
    mfroverlay::register(plugin)
}
