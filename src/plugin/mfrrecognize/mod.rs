//! `mfrrecognize`: identifies faces, and determines whether they wear masks.
//!
//! Reads the regions of interest of type `face` that `mfrdetect` (or another detector) has
//! attached, writes `identity` and `mask` onto the same ones and posts element messages on the bus.
//! Pixels are read, never written or copied.
//!
//! ```text
//! gst-launch-1.0 -m filesrc location=in.mp4 ! decodebin ! videoconvert ! mfrdetect \
//!     ! mfrrecognize database=gallery.npz ! fakesink | grep 'mfrrecognize,'
//! ```

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod database;
mod imp;
mod presence;
mod recognizer;
mod settings;

/// Which element messages are posted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[repr(i32)]
#[enum_type(name = "GstMfrPostMessages")]
pub enum PostMessages {
    #[enum_value(name = "None: no messages", nick = "none")]
    None,
    #[default]
    #[enum_value(
        name = "Changes: when someone appears, is identified, changes or leaves",
        nick = "changes"
    )]
    Changes,
    #[enum_value(name = "All: the faces of every frame", nick = "all")]
    All,
}

glib::wrapper! {
    pub struct MfrRecognize(ObjectSubclass<imp::MfrRecognize>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

pub(super) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Created here so that --gst-debug-help lists it before the first element is created.
    LazyLock::force(&imp::CAT);
    PostMessages::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(
        Some(plugin),
        "mfrrecognize",
        gst::Rank::NONE,
        MfrRecognize::static_type(),
    )
}
