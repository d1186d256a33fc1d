//! Detects the faces of a photo.

use gstmfr::detect::{Detector, Face, MIN_FACE_SIZES, Params};
use gstmfr::embed::mask::{Mask, MaskNet};
use gstmfr::frame::geometry::{Landmarks, Point, Rect};
use gstmfr::frame::image::ImageView;
use gstmfr::frame::resize::{Border, Filter, Resize, Resizer};
use gstmfr::nn::RuntimeError;

use crate::input::photo::DecodedPhoto;
use crate::options::{MinFace, Vision};

/// Width and height for the second search, relative to the photo, which gets a black border. It finds faces in 8
/// of the 13 tight gallery crops of RMFRD in which the first search finds none, and in 24 of 60 masked
/// ones; 1.5 to 2.2 are about as good.
const PADDING: f32 = 1.8;
/// Longer side for the second search in pixels; the face that it is meant for fills most of the photo.
const PADDED_SIDE: f32 = 480.0;
/// Smallest face in the second search, relative to the shorter side of the photo.
const PADDED_MIN_FACE: f32 = 0.3;
/// Minimum confidence of a face in the second search that fills the photo, relative to the usual one: in
/// a photo that is nothing but a face, less evidence is sufficient. Of 26 tight, masked crops of RMFRD in which
/// no face is found otherwise, a face is found in 15; in 258 images without a face it adds one.
const PADDED_CONFIDENCE: f32 = 0.7;

/// Confidence of a face from which its photo certainly is upright: of 176 upright photos of LFW one has less (.981),
/// of those rotated by a half turn one has more (.991); of 400 photos of masked faces (RMFRD, MFR2) 30 have less.
const CLEAR: f32 = 0.99;
/// Minimum confidence of a face in a rotated photo, and factor by which it must be less likely to be an error than
/// the face in the original photo. False faces in wrongly rotated photos reach .99, but not if the face in the
/// upright photo has less.
const CLEAR_ROTATED: f32 = 0.95;
const ODDS: f32 = 5.0;
/// Maximum number of pixels of a photo to rotate, because the copy takes as much memory as the photo.
const MOST_ROTATED: usize = 50_000_000;

/// Minimum ratio of sizes for a face to be of about the same size as another.
const SMALLER: f32 = 0.6;

/// Detects faces; each worker has its own.
#[derive(Debug)]
pub struct PhotoDetector {
    detector: Detector,
    masks: MaskNet,
    min_face: MinFace,
    params: Params,
    resizer: Resizer,
    padded: Vec<u8>,
}

impl PhotoDetector {
    pub fn new(vision: &Vision) -> Result<Self, RuntimeError> {
        Ok(Self {
            detector: vision.detector()?,
            masks: MaskNet::load()?,
            min_face: vision.min_face,
            params: vision.params.clone(),
            resizer: Resizer::default(),
            padded: Vec::new(),
        })
    }

    /// The faces of a photo in its pixels, the most confident first. If there is none, the photo is searched
    /// again with a border around it: MTCNN misses faces that fill the image to its edges.
    pub fn find(&mut self, view: &ImageView) -> Result<Vec<Face>, RuntimeError> {
        self.params.min_face_size = self.min_face.pixels(view.width(), view.height());
        let faces = self.detector.detect(view, &self.params)?;
        if faces.is_empty() && self.params.regions.is_empty() {
            return self.find_padded(view);
        }
        Ok(faces)
    }

    /// The faces of a photo, which is rotated by quarter turns if a face is clearly visible only then: scans and
    /// files that have lost their orientation lie on their side or upside down. In the latter MTCNN takes the chin
    /// for a forehead, and the embedding matches nobody.
    pub fn find_upright(&mut self, photo: &mut DecodedPhoto) -> anyhow::Result<Vec<Face>> {
        let faces = self.find(&photo.view()?)?;
        let surest = |faces: &[Face]| faces.first().map_or(0.0, |face| face.confidence);
        let confidence = surest(&faces);
        let is_large = photo.width * photo.height > MOST_ROTATED;
        // Regions refer to the photo in its original orientation.
        if confidence >= CLEAR || is_large || !self.params.regions.is_empty() {
            return Ok(faces);
        }
        let (mut best, mut quarters) = (Vec::new(), 0);
        for turn in 1..4 {
            // A copy, not a view that is read rotated: boxes would differ from those of the upright photo by up to 2 pixels.
            let found = self.find(&photo.rotated(turn).view()?)?;
            if surest(&found) > surest(&best) {
                (best, quarters) = (found, turn);
            }
        }
        let doubt = 1.0 - surest(&best);
        if surest(&best) < CLEAR_ROTATED || doubt * ODDS > 1.0 - confidence {
            return Ok(faces);
        }
        *photo = photo.rotated(quarters);
        Ok(best)
    }

    /// Whether the face in a crop, as returned by `embed::crop_rgb8`, wears a mask.
    pub fn mask(&mut self, crop: &[u8]) -> Result<Mask, RuntimeError> {
        self.masks.see_rgb8(crop)
    }

    /// The faces of an image that are about as large as this one or larger.
    pub fn find_like(&mut self, view: &ImageView, face: Rect) -> Result<Vec<Face>, RuntimeError> {
        let side = face.width.min(face.height) * SMALLER;
        let params = Params {
            min_face_size: (side as u32).max(*MIN_FACE_SIZES.start()),
            regions: Vec::new(),
            // The face may be one of the smallest, which must not have stricter thresholds.
            fine_odds: 1.0,
            ..self.params.clone()
        };
        self.detector.detect(view, &params)
    }

    fn find_padded(&mut self, view: &ImageView) -> Result<Vec<Face>, RuntimeError> {
        let photo = Rect::new(0.0, 0.0, view.width() as f32, view.height() as f32);
        let source = photo.scaled(PADDING);
        // The photo is never enlarged, because this adds no information.
        let scale = (PADDED_SIDE / source.width.max(source.height)).min(1.0);
        let (width, height) = (
            (source.width * scale).round().max(1.0) as usize,
            (source.height * scale).round().max(1.0) as usize,
        );
        let shorter = photo.width.min(photo.height);
        let min_face = (shorter * PADDED_MIN_FACE).max(self.params.min_face_size as f32);
        let resize = Resize {
            source,
            width,
            height,
            filter: Filter::Area,
            border: Border::Black,
        };
        self.resizer.rgb8(view, &resize, &mut self.padded);
        let Ok(padded) = ImageView::rgb(&self.padded, width, height) else {
            return Ok(Vec::new());
        };
        let params = Params {
            min_face_size: (min_face * scale) as u32,
            known: vec![Rect::new(
                -source.x * scale,
                -source.y * scale,
                photo.width * scale,
                photo.height * scale,
            )],
            ..self.params.clone()
        };
        let least = params.thresholds[2] * PADDED_CONFIDENCE;
        // Rounding makes the two scales slightly different.
        let (scale_x, scale_y) = (source.width / width as f32, source.height / height as f32);
        let back = |p: Point| Point {
            x: p.x * scale_x + source.x,
            y: p.y * scale_y + source.y,
        };
        let faces = self.detector.detect(&padded, &params)?;
        Ok(faces
            .into_iter()
            .filter(|face| face.confidence >= least)
            .map(|face| {
                let corner = back(Point {
                    x: face.rect.x,
                    y: face.rect.y,
                });
                Face {
                    rect: Rect::new(
                        corner.x,
                        corner.y,
                        face.rect.width * scale_x,
                        face.rect.height * scale_y,
                    ),
                    confidence: face.confidence,
                    landmarks: Landmarks(face.landmarks.0.map(back)),
                }
            })
            .collect())
    }
}
