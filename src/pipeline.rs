//! One image end to end: detection, crop, embedding, masks. What the elements do in two steps; for the
//! command line, tests and programs without GStreamer.

use std::path::Path;

use crate::detect::{Detector, Face, Params};
use crate::embed::{Embedded, Embedder};
use crate::frame::geometry::Rect;
use crate::frame::image::ImageView;
use crate::nn::{RuntimeError, SessionOptions};

/// A detector and an embedder that work one after the other.
#[derive(Debug)]
pub struct Pipeline {
    pub detector: Detector,
    pub embedder: Embedder,
}

impl Pipeline {
    /// The built-in detector and the FaceNet found beside the plugin or named.
    pub fn new(model: Option<&Path>, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let model = match model {
            Some(path) => path.to_owned(),
            None => Embedder::default_model()?,
        };
        Ok(Self {
            detector: Detector::built_in(options)?,
            embedder: Embedder::from_file(&model, options, 0)?,
        })
    }

    /// The faces of an image, surest first, and what is known of them: row i belongs to face i.
    pub fn faces(
        &mut self,
        view: &ImageView,
        params: &Params,
    ) -> Result<(Vec<Face>, Embedded), RuntimeError> {
        let faces = self.detector.detect(view, params)?;
        let rects: Vec<Rect> = faces.iter().map(|f| f.rect).collect();
        let embedded = self.embedder.embed(view, &rects)?;
        Ok((faces, embedded))
    }
}
