//! A copy of a buffer's faces as JSON in a custom meta, which converters and scalers keep.
//!
//! It has the tags of a region of interest, so that elements that drop the regions because they crop, flip or rotate
//! drop the copy too, and its own transform function for scalers. Coordinates are fractions of the frame, so that
//! scaling does not change them; but a scaler that keeps the aspect ratio adds borders, and does not report them to
//! metas. In that case the mirror is dropped, and the regions of interest with it, because they were moved as if
//! there were no borders (GStreamer 1.22 to 1.26). Metas are transformed in their order on the buffer, so the mirror
//! must be the last.

#![allow(
    unsafe_code,
    reason = "the safe binding does not hand over the sizes of a scaler"
)]

use std::ffi::CStr;
use std::ops::ControlFlow;

use gst::buffer::BufferMetaForeachAction;
use gst::glib;
use gst::glib::translate::{FromGlibPtrBorrow, IntoGlib};
use gst_video::VideoRegionOfInterestMeta;
use gst_video::ffi::{GstVideoInfo, GstVideoMetaTransform};
use serde::{Deserialize, Serialize};

use super::{Face, FrameSize, Identity, Mask, ROI_TYPE};
use crate::frame::geometry::{Landmarks, Point, Rect};

/// Name of the custom meta and of its structure.
pub const MIRROR: &str = "MfrFacesMeta";
const MIRROR_C: &CStr = c"MfrFacesMeta";
/// Field of the mirror that holds the JSON text.
pub const MIRROR_FIELD: &str = "json";

/// Relative difference of display aspect ratios that is attributed to rounding; above it a scaler adds borders.
const SAME_ASPECT: f64 = 0.01;

/// Registers the custom meta with GStreamer, once, when the plugin is loaded.
pub(crate) fn register() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tags = [c"video", c"orientation", c"size"].map(CStr::as_ptr);
        let mut tags = [tags[0], tags[1], tags[2], std::ptr::null()];
        // SAFETY: GStreamer copies the null-terminated tags, and the function stays for the life of the process.
        unsafe {
            gst::ffi::gst_meta_register_custom(
                MIRROR_C.as_ptr(),
                tags.as_mut_ptr(),
                Some(transform),
                std::ptr::null_mut(),
                None,
            );
        }
    });
}

/// Copies the mirror from a buffer to one that was made from it; returns false if it cannot be kept.
///
/// # Safety
///
/// Only GStreamer may call this, as a `GstCustomMetaTransformFunction`.
unsafe extern "C" fn transform(
    target: *mut gst::ffi::GstBuffer,
    meta: *mut gst::ffi::GstCustomMeta,
    _source: *mut gst::ffi::GstBuffer,
    kind: glib::ffi::GQuark,
    data: glib::ffi::gpointer,
    _user_data: glib::ffi::gpointer,
) -> glib::ffi::gboolean {
    // SAFETY: the pointers are valid during the call; `data` of a scale is a GstVideoMetaTransform; the target is
    // writable because GStreamer is adding metas to it.
    let (json, has_borders, target) = unsafe {
        let is_scale = kind == gst_video::ffi::gst_video_meta_transform_scale_get_quark();
        let is_copy = kind == glib::Quark::from_str("gst-copy").into_glib();
        if !is_copy && !is_scale {
            return glib::ffi::GFALSE;
        }
        let structure = gst::ffi::gst_custom_meta_get_structure(meta);
        let structure: glib::translate::Borrowed<gst::Structure> =
            gst::Structure::from_glib_borrow(structure.cast_const());
        let Ok(json) = structure.get::<String>(MIRROR_FIELD) else {
            return glib::ffi::GFALSE;
        };
        let has_borders = is_scale && has_borders(&*data.cast::<GstVideoMetaTransform>());
        (json, has_borders, gst::BufferRef::from_mut_ptr(target))
    };
    if has_borders {
        remove_regions(target, &json);
        return glib::ffi::GFALSE;
    }
    write(target, json).into_glib()
}

/// Whether a scaler that keeps the aspect ratio adds borders between these two sizes.
///
/// # Safety
///
/// The two infos have to be null or valid.
unsafe fn has_borders(transform: &GstVideoMetaTransform) -> bool {
    let aspect = |info: *const GstVideoInfo| {
        // SAFETY: the caller guarantees that the pointer is null or valid.
        let info = unsafe { info.as_ref() }?;
        let [width, height, par_n, par_d] =
            [info.width, info.height, info.par_n, info.par_d].map(f64::from);
        Some(width * par_n / (height * par_d))
    };
    let ratio = aspect(transform.in_info)
        .zip(aspect(transform.out_info))
        .map(|(before, after)| (before / after - 1.0).abs());
    // The ratio is not finite for a size without area.
    !ratio.is_some_and(|difference| difference <= SAME_ASPECT)
}

/// Removes the regions of interest of the faces in a mirror.
fn remove_regions(buffer: &mut gst::BufferRef, json: &str) {
    let Ok(mirror) = serde_json::from_str::<Mirror>(json) else {
        return;
    };
    buffer.foreach_meta_mut(|mut meta| {
        let region = meta.downcast_ref::<VideoRegionOfInterestMeta>();
        let is_named = region.is_some_and(|region| {
            region.roi_type() == ROI_TYPE && mirror.faces.iter().any(|f| f.id == region.id())
        });
        ControlFlow::Continue(if is_named {
            BufferMetaForeachAction::Remove
        } else {
            BufferMetaForeachAction::Keep
        })
    });
}

/// Writes the mirror as the last meta of the buffer.
fn write(buffer: &mut gst::BufferRef, json: String) -> bool {
    if let Ok(meta) = gst::meta::CustomMeta::from_mut_buffer(buffer, MIRROR) {
        // Removing fails for locked metas only, and this one is not locked.
        let _ = meta.remove();
    }
    let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, MIRROR) else {
        return false;
    };
    meta.mut_structure().set(MIRROR_FIELD, json);
    true
}

/// Rewrites the mirror from the current regions of interest.
pub fn update_mirror(buffer: &mut gst::BufferRef, faces: &[Face], frame: FrameSize) {
    let mirror = Mirror {
        width: frame.0,
        height: frame.1,
        faces: faces.iter().map(|f| Record::new(f, frame)).collect(),
    };
    if let Ok(json) = serde_json::to_string(&mirror) {
        write(buffer, json);
    }
}

/// The faces in the mirror; none if there is no mirror or it is damaged.
pub(super) fn read(buffer: &gst::BufferRef, frame: FrameSize) -> Vec<Face> {
    let mirror = gst::meta::CustomMeta::from_buffer(buffer, MIRROR).ok();
    let json = mirror
        .as_ref()
        .and_then(|meta| meta.structure().get::<&str>(MIRROR_FIELD).ok());
    let Some(Ok(mirror)) = json.map(serde_json::from_str::<Mirror>) else {
        return Vec::new();
    };
    let faces = mirror.faces.into_iter();
    faces.map(|record| record.into_face(frame)).collect()
}

/// The content of the JSON text.
#[derive(Debug, Serialize, Deserialize)]
struct Mirror {
    /// Width of the frame when the mirror was written, in pixels.
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    faces: Vec<Record>,
}

/// A face in the mirror; coordinates are fractions 0…1 of the frame.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: i32,
    x: f64,
    y: f64,
    w: f64,
    h: f64,
    confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    landmarks: Option<[[f64; 2]; 5]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Mask>,
}

impl Record {
    fn new(face: &Face, (width, height): FrameSize) -> Self {
        let (width, height) = (f64::from(width), f64::from(height));
        Self {
            id: face.id,
            x: f64::from(face.rect.x) / width,
            y: f64::from(face.rect.y) / height,
            w: f64::from(face.rect.width) / width,
            h: f64::from(face.rect.height) / height,
            confidence: face.confidence,
            landmarks: face.landmarks.map(|Landmarks(points)| {
                points.map(|p| [f64::from(p.x) / width, f64::from(p.y) / height])
            }),
            identity: face.identity.clone(),
            mask: face.mask.clone(),
        }
    }

    fn into_face(self, (width, height): FrameSize) -> Face {
        let (width, height) = (f64::from(width), f64::from(height));
        Face {
            id: self.id,
            rect: Rect::new(
                (self.x * width) as f32,
                (self.y * height) as f32,
                (self.w * width) as f32,
                (self.h * height) as f32,
            ),
            confidence: self.confidence,
            landmarks: self.landmarks.map(|points| {
                Landmarks(points.map(|[x, y]| Point {
                    x: (x * width) as f32,
                    y: (y * height) as f32,
                }))
            }),
            identity: self.identity,
            mask: self.mask,
        }
    }
}
