//! Faces as metadata of a buffer.
//!
//! A face is a `GstVideoRegionOfInterestMeta` of type `face` whose params (`detection`,
//! `keypoints`, `object_id`, `identity`, `mask`) have the names and fields of DL Streamer, where it
//! has them. Converters and scalers keep the rectangle but drop the params; therefore everything is
//! repeated as JSON in a `GstCustomMeta` called [`MIRROR`], which they keep. Downstream of an element that crops,
//! flips, rotates or adds borders there is neither.

use gst_video::VideoRegionOfInterestMeta;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::detect;
use crate::embed;
use crate::embed::mask;
use crate::frame::geometry::{Landmarks, Point, Rect};

mod mirror;

pub(crate) use mirror::register;
pub use mirror::{MIRROR, MIRROR_FIELD, update_mirror};

/// Type of the regions of interest.
pub const ROI_TYPE: &str = "face";
/// Label of a face that was compared with the gallery and is not in it.
pub const UNKNOWN: &str = "unknown";

/// IEEE single precision in DL Streamer's enumeration of tensor types.
const PRECISION_FP32: i32 = 10;

/// The identity of a face. Absent until it has been compared with the gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the person, or [`UNKNOWN`].
    pub label: String,
    /// Index of the person in the gallery, −1 for unknown.
    pub label_id: i32,
    /// Probability that the identity is right, 0…1.
    pub confidence: f64,
    /// Similarity, 0…1, higher is more certain.
    pub similarity: f64,
    pub model_name: String,
    pub model_version: String,
    /// File name of the gallery.
    pub gallery: String,
    /// Frames since the face was last compared; 0 for this one.
    pub frames_ago: i32,
}

impl Identity {
    pub fn is_known(&self) -> bool {
        self.label_id >= 0
    }
}

/// Whether a mask is worn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mask {
    /// [`mask::WITH_MASK`] or [`mask::WITHOUT_MASK`]
    pub label: String,
    /// 0…1
    pub confidence: f64,
    pub model_name: String,
}

impl From<mask::Mask> for Mask {
    fn from(mask: mask::Mask) -> Self {
        Self {
            label: mask.label().to_owned(),
            confidence: f64::from(mask.confidence()),
            model_name: mask::NAME.to_owned(),
        }
    }
}

/// A face of a buffer. Coordinates are pixels of the frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// Unique among the faces of a stream, above 0.
    pub id: i32,
    /// The box from the detector; may extend outside the frame.
    pub rect: Rect,
    /// Confidence of the detection, 0…1; None for a region of interest without one.
    pub confidence: Option<f64>,
    pub landmarks: Option<Landmarks>,
    pub identity: Option<Identity>,
    pub mask: Option<Mask>,
}

impl Face {
    /// Returns the faces of a buffer, for applications, for instance in an appsink or a pad probe. Without a
    /// `GstVideoMeta` the size of the frame is unknown; boxes are then those of the regions of interest, in whole
    /// pixels and inside the frame, and faces that have passed a converter lack landmarks.
    pub fn iter(buffer: &gst::BufferRef) -> impl Iterator<Item = Self> + use<> {
        let video = buffer.meta::<gst_video::VideoMeta>();
        let size = video.map_or(UNKNOWN_SIZE, |video| (video.width(), video.height()));
        faces(buffer, size).into_iter()
    }
}

/// An unknown frame size; values that depend on the size are left out.
const UNKNOWN_SIZE: FrameSize = (0, 0);

/// Width and height of the frame in pixels.
pub type FrameSize = (u32, u32);

/// Adds a detected face.
pub fn add_face(buffer: &mut gst::BufferRef, face: &detect::Face, id: i32, frame: FrameSize) {
    let roi = clip(face.rect, frame);
    let mut meta = VideoRegionOfInterestMeta::add(buffer, ROI_TYPE, roi);
    meta.set_id(id);
    meta.add_param(detection(face, frame));
    meta.add_param(keypoints(&face.landmarks, roi));
    meta.add_param(gst::Structure::builder("object_id").field("id", id).build());
}

/// The faces of a buffer, in the order in which they were added.
pub fn faces(buffer: &gst::BufferRef, frame: FrameSize) -> Vec<Face> {
    let mut faces: Vec<_> = buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .filter(|meta| meta.roi_type() == ROI_TYPE)
        .map(|meta| face(&meta, frame))
        .collect();
    // A converter has dropped the params, but kept the id, by which the mirror is searched.
    if faces.iter().any(|f| f.confidence.is_none() && f.id > 0) {
        let mirrored = mirror::read(buffer, frame);
        for face in faces.iter_mut().filter(|f| f.confidence.is_none()) {
            let Some(m) = mirrored.iter().find(|m| m.id == face.id) else {
                continue;
            };
            *face = if frame == UNKNOWN_SIZE {
                Face {
                    rect: face.rect,
                    landmarks: None,
                    ..m.clone()
                }
            } else {
                m.clone()
            };
        }
    }
    faces
}

/// Whether face detection has left its metadata on a buffer. `mfrdetect` does on each frame that it has searched, also if
/// there is no face in it; other detectors only where there is one.
pub fn has_detection(buffer: &gst::BufferRef) -> bool {
    let mut regions = buffer.iter_meta::<VideoRegionOfInterestMeta>();
    regions.any(|meta| meta.roi_type() == ROI_TYPE)
        || gst::meta::CustomMeta::from_buffer(buffer, MIRROR).is_ok()
}

/// Writes identities to the regions of interest, `identities[i]` to face i in the order of
/// [`faces`]. A face that already has one keeps it.
pub fn set_identities(buffer: &mut gst::BufferRef, identities: &[Option<Identity>]) {
    let metas = buffer
        .iter_meta_mut::<VideoRegionOfInterestMeta>()
        .filter(|meta| meta.roi_type() == ROI_TYPE);
    for (mut meta, identity) in metas.zip(identities) {
        if let Some(identity) = identity
            && meta.param("identity").is_none()
        {
            meta.add_param(identity_structure(identity));
        }
    }
}

/// Writes mask states to the regions of interest, `masks[i]` to face i in the order of
/// [`faces`]. A face that already has one keeps it.
pub fn set_masks(buffer: &mut gst::BufferRef, masks: &[Option<Mask>]) {
    let metas = buffer
        .iter_meta_mut::<VideoRegionOfInterestMeta>()
        .filter(|meta| meta.roi_type() == ROI_TYPE);
    for (mut meta, mask) in metas.zip(masks) {
        if let Some(mask) = mask
            && meta.param("mask").is_none()
        {
            meta.add_param(mask_structure(mask));
        }
    }
}

/// Writes embeddings to the regions of interest as a param `embedding`: row i to face `indices[i]` in the
/// order of [`faces`].
pub fn set_embeddings(buffer: &mut gst::BufferRef, indices: &[usize], embeddings: &Array2<f32>) {
    let metas = buffer
        .iter_meta_mut::<VideoRegionOfInterestMeta>()
        .filter(|meta| meta.roi_type() == ROI_TYPE);
    for (number, mut meta) in metas.enumerate() {
        let Some(row) = indices.iter().position(|&i| i == number) else {
            continue;
        };
        let embedding = embeddings.row(row);
        meta.add_param(
            gst::Structure::builder("embedding")
                .field("type", "embedding")
                .field("precision", PRECISION_FP32)
                .field("dims", gst::Array::new([embedding.len() as i32]))
                .field("data", gst::Array::new(embedding.iter().copied()))
                .field("model_name", embed::NAME)
                .build(),
        );
    }
}

/// The part of a box inside the frame in whole pixels: x, y, width, height.
fn clip(rect: Rect, (width, height): FrameSize) -> (u32, u32, u32, u32) {
    // `as` clamps to 0 and turns NaN to 0.
    let x = (rect.x.round() as u32).min(width.saturating_sub(1));
    let y = (rect.y.round() as u32).min(height.saturating_sub(1));
    let right = (rect.right().round() as u32).clamp(x + 1, width.max(x + 1));
    let bottom = (rect.bottom().round() as u32).clamp(y + 1, height.max(y + 1));
    (x, y, right - x, bottom - y)
}

fn detection(face: &detect::Face, (width, height): FrameSize) -> gst::Structure {
    let (width, height) = (f64::from(width), f64::from(height));
    let rect = face.rect;
    let [x, y, w, h] = [
        f64::from(rect.x) / width,
        f64::from(rect.y) / height,
        f64::from(rect.width) / width,
        f64::from(rect.height) / height,
    ];
    gst::Structure::builder("detection")
        .field("label_id", 0i32)
        .field("confidence", f64::from(face.confidence))
        .field("x_min", x.clamp(0.0, 1.0))
        .field("x_max", (x + w).clamp(0.0, 1.0))
        .field("y_min", y.clamp(0.0, 1.0))
        .field("y_max", (y + h).clamp(0.0, 1.0))
        // The box before clipping is kept because the crop for recognition is taken around its centre.
        .field("x", x)
        .field("y", y)
        .field("w", w)
        .field("h", h)
        .field("model_name", detect::NAME)
        .build()
}

fn keypoints(landmarks: &Landmarks, (x, y, width, height): (u32, u32, u32, u32)) -> gst::Structure {
    let data = landmarks.0.iter().flat_map(|p| {
        [
            (p.x - x as f32) / width as f32,
            (p.y - y as f32) / height as f32,
        ]
    });
    gst::Structure::builder("keypoints")
        .field("type", "keypoints")
        .field("format", "face-landmarks/centerface-5")
        .field("precision", PRECISION_FP32)
        .field("dims", gst::Array::new([5i32, 2]))
        .field("data", gst::Array::new(data))
        .build()
}

fn identity_structure(identity: &Identity) -> gst::Structure {
    gst::Structure::builder("identity")
        .field("type", "classification_result")
        .field("label", &identity.label)
        .field("label_id", identity.label_id)
        .field("confidence", identity.confidence)
        .field("similarity", identity.similarity)
        .field("model_name", &identity.model_name)
        .field("model_version", &identity.model_version)
        .field("gallery", &identity.gallery)
        .field("frames_ago", identity.frames_ago)
        .build()
}

fn mask_structure(mask: &Mask) -> gst::Structure {
    gst::Structure::builder("mask")
        .field("type", "classification_result")
        .field("label", &mask.label)
        .field("confidence", mask.confidence)
        .field("model_name", &mask.model_name)
        .build()
}

/// Reads a region of interest and its params.
fn face(meta: &VideoRegionOfInterestMeta, frame: FrameSize) -> Face {
    let (x, y, w, h) = meta.rect();
    let roi = Rect::new(x as f32, y as f32, w as f32, h as f32);
    let detection = meta.param("detection");
    Face {
        id: meta.id(),
        rect: detection
            .and_then(|s| exact_rect(s, (x, y, w, h), frame))
            .unwrap_or(roi),
        confidence: detection.and_then(|s| s.get("confidence").ok()),
        landmarks: meta.param("keypoints").and_then(|s| read_points(s, roi)),
        identity: meta.param("identity").and_then(read_identity),
        mask: meta.param("mask").and_then(read_mask),
    }
}

/// The box before clipping, if it still matches the region of interest, which another
/// element may have moved since.
fn exact_rect(
    detection: &gst::StructureRef,
    roi: (u32, u32, u32, u32),
    frame: FrameSize,
) -> Option<Rect> {
    let get = |name| detection.get::<f64>(name).ok();
    let (width, height) = (f64::from(frame.0), f64::from(frame.1));
    let rect = Rect::new(
        (get("x")? * width) as f32,
        (get("y")? * height) as f32,
        (get("w")? * width) as f32,
        (get("h")? * height) as f32,
    );
    (clip(rect, frame) == roi).then_some(rect)
}

fn read_points(keypoints: &gst::StructureRef, roi: Rect) -> Option<Landmarks> {
    let data = keypoints.get::<gst::ArrayRef>("data").ok()?;
    let values: Vec<f32> = data
        .as_slice()
        .iter()
        .filter_map(|v| v.get::<f32>().ok())
        .collect();
    let points: Vec<_> = values
        .chunks_exact(2)
        .map(|p| Point {
            x: roi.x + p[0] * roi.width,
            y: roi.y + p[1] * roi.height,
        })
        .collect();
    Some(Landmarks(points.try_into().ok()?))
}

fn read_identity(s: &gst::StructureRef) -> Option<Identity> {
    let text = |name| s.get::<String>(name).unwrap_or_default();
    Some(Identity {
        label: s.get("label").ok()?,
        label_id: s.get("label_id").ok()?,
        confidence: s.get("confidence").ok()?,
        similarity: s.get("similarity").unwrap_or_default(),
        model_name: text("model_name"),
        model_version: text("model_version"),
        gallery: text("gallery"),
        frames_ago: s.get("frames_ago").unwrap_or_default(),
    })
}

fn read_mask(s: &gst::StructureRef) -> Option<Mask> {
    Some(Mask {
        label: s.get("label").ok()?,
        confidence: s.get("confidence").ok()?,
        model_name: s.get("model_name").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
