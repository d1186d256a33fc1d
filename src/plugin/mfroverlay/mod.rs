//! `mfroverlay`: draws what `mfrdetect` and `mfrrecognize` have found.
//!
//! Reads the regions of interest of type `face`; draws box, name, similarity, mask state and
//! landmarks in place, on every format, in a colour by identity state: known, unknown, not yet
//! tried. Faces whose id lasts over frames are drawn steadily.
//!
//! Where elements downstream lay a `GstVideoOverlayComposition` over the frames, what is drawn goes
//! with them as one, and the pixels stay as they are.
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
    // Listed by --gst-debug-help before the first element is made.
    LazyLock::force(&imp::CAT);
    gst::Element::register(
        Some(plugin),
        "mfroverlay",
        gst::Rank::NONE,
        MfrOverlay::static_type(),
    )
}
