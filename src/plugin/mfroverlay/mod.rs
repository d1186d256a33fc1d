//! `mfroverlay`: draws the results of `mfrdetect` and `mfrrecognize`.
//!
//! Reads the regions of interest of type `face`; draws box, name, similarity, mask state and
//! landmarks in place, on every format, in a colour by identity state: known, unknown, not yet
//! identified. Faces whose id persists over frames are drawn without jitter.
//!
//! If an element downstream blends `GstVideoOverlayComposition`s over the frames, the annotations are attached
//! as one, and the pixels are not changed.
//!
//! ```text
//! gst-launch-1.0 v4l2src ! decodebin ! videoconvert ! mfrdetect \
//!     ! mfrrecognize database=gallery.npz ! mfroverlay ! videoconvert ! autovideosink
//! ```

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod imp;

glib::wrapper! {
    pub struct MfrOverlay(ObjectSubclass<imp::MfrOverlay>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

pub(super) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Created here so that --gst-debug-help lists it before the first element is created.
    LazyLock::force(&imp::CAT);
    gst::Element::register(
        Some(plugin),
        "mfroverlay",
        gst::Rank::NONE,
        MfrOverlay::static_type(),
    )
}
