//! `mfrdetect`: detects faces and attaches them to the buffer.
//!
//! Writes a region of interest of type `face` for every face, with `detection`, `keypoints` and
//! `object_id`. Pixels are read, never written or copied. A stream that lies on its side or head is seen upright: by its tag
//! image-orientation, or else by its faces.
//!
//! ```text
//! gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert \
//!     ! mfrdetect min-face-size=60 ! mfroverlay ! videoconvert ! autovideosink
//! ```

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod imp;

glib::wrapper! {
    pub struct MfrDetect(ObjectSubclass<imp::MfrDetect>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

pub(super) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Created here so that --gst-debug-help lists it before the first element is created.
    LazyLock::force(&imp::CAT);
    gst::Element::register(
        Some(plugin),
        "mfrdetect",
        gst::Rank::NONE,
        MfrDetect::static_type(),
    )
}
