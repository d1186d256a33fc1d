//! Processes one image from end to end: detection, crop, embedding, mask check. It combines the steps of the two
//! elements for the command line, tests and programs without GStreamer.

use std::path::Path;

use crate::detect::{Detector, Face, Params};
use crate::embed::{Embedded, Embedder};
use crate::frame::geometry::Rect;
use crate::frame::image::ImageView;
use crate::nn::{RuntimeError, SessionOptions};

/// A detector and an embedder that run one after another.
#[derive(Debug)]
pub struct Pipeline {
    pub detector: Detector,
    pub embedder: Embedder,
}

impl Pipeline {
    /// A pipeline of the built-in detector and the given FaceNet model, or else the installed one.
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

    /// The faces of an image, the most confident first, and their embeddings and masks: row i belongs to face i.
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
