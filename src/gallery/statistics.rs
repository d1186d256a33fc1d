//! How faces differ: general statistics of embeddings, estimated from thousands of people.
//!
//! The model is probabilistic linear discriminant analysis (PLDA; Ioffe 2006, Prince and Elder
//! 2007) after length normalisation (Garcia-Romero and Espy-Wilson 2011): an embedding, minus the
//! mean of bare or of masked faces and scaled to unit length, is the sum of a person and of what differs
//! between images of one person (light, pose, age, the mask), both normally distributed. In the
//! coordinates of [`Statistics::project`] the latter has variance 1 and the former [`between`], all
//! independent.
//!
//! Two means and two covariances over 6,300 people do not reveal anyone's face.
//!
//! [`between`]: Statistics::between

use base64::Engine;
use ndarray::{Array1, Array2, ArrayView1};
use once_cell::sync::OnceCell;
use serde::Deserialize;

use super::GalleryError;

/// Written by `models/statistics.py`.
const BUILT_IN: &str = include_str!("../../models/facenet.statistics.json");

/// General statistics of the embeddings of one network.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// `[2, D]`: the mean of bare and of masked faces.
    pub(super) centres: Array2<f32>,
    /// `[D, R]`: maps a centred embedding of unit length to coordinates in which images of one person
    /// have variance 1 each, ordered by falling variance between people. R is less than D where
    /// embeddings span fewer dimensions than they have numbers.
    pub(super) projection: Array2<f32>,
    /// `[R]`: the variance between people in these coordinates, above 0.
    pub(super) between: Array1<f32>,
}

/// The JSON file: numbers as base64 of little-endian integers, each row or column with its scale.
#[derive(Debug, Deserialize)]
struct File {
    model_sha256: String,
    dim: usize,
    rank: usize,
    /// int16 `[2, D]`, one scale for all.
    centres: String,
    centres_scale: f32,
    /// int8 `[D, R]`, a scale for each column.
    projection: String,
    projection_scales: Vec<f32>,
    between: Vec<f32>,
}

impl Statistics {
    /// The statistics built into this library, if they belong to the network with this SHA-256.
    pub fn built_in(model_sha256: &str) -> Result<Option<&'static Self>, GalleryError> {
        static PARSED: OnceCell<(String, Statistics)> = OnceCell::new();
        let (sha256, statistics) = PARSED.get_or_try_init(|| Self::parse(BUILT_IN))?;
        Ok((sha256 == model_sha256).then_some(statistics))
    }

    fn parse(text: &str) -> Result<(String, Self), GalleryError> {
        let fail = |what: String| GalleryError::contents(format!("statistics of faces: {what}"));
        let file: File = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
        let decode = |name: &str, text: &str| {
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|e| fail(format!("{name}: {e}")))
        };
        let shape = |name: &str, shape: (usize, usize), values: Vec<f32>| {
            Array2::from_shape_vec(shape, values).map_err(|e| fail(format!("{name}: {e}")))
        };
        let bytes = decode("centres", &file.centres)?;
        let values = bytes.as_chunks::<2>().0.iter();
        let values = values.map(|&v| f32::from(i16::from_le_bytes(v)) * file.centres_scale);
        let centres = shape("centres", (2, file.dim), values.collect())?;
        let bytes = decode("projection", &file.projection)?;
        let values = bytes.into_iter().map(|v| f32::from(v as i8)).collect();
        let mut projection = shape("projection", (file.dim, file.rank), values)?;
        if file.projection_scales.len() != file.rank {
            return Err(fail("a scale for each column is expected".into()));
        }
        projection *= &Array1::from(file.projection_scales);
        let statistics = Self::new(centres, projection, Array1::from(file.between))?;
        Ok((file.model_sha256, statistics))
    }

    /// Cosine of an embedding to the mean of bare or of masked faces. It is positive for most faces, and 0 on average for
    /// embeddings of a network with other axes. The embedding has the length of the statistics, or it is 0.
    pub fn typicality(&self, embedding: ArrayView1<f32>, masked: bool) -> f32 {
        let centre = self.centres.row(usize::from(masked));
        if embedding.len() != centre.len() {
            return 0.0;
        }
        let lengths = embedding.dot(&embedding) * centre.dot(&centre);
        embedding.dot(&centre) / lengths.sqrt().max(f32::MIN_POSITIVE)
    }

    /// Checks that the parts are complete and of matching sizes.
    pub(super) fn new(
        centres: Array2<f32>,
        projection: Array2<f32>,
        between: Array1<f32>,
    ) -> Result<Self, GalleryError> {
        let (dim, rank) = projection.dim();
        if rank == 0 || centres.dim() != (2, dim) || between.len() != rank {
            return Err(GalleryError::contents(format!(
                "statistics of faces: expected the shapes [2, D], [D, R] and [R], found {:?}, {:?} and [{}]",
                centres.dim(),
                projection.dim(),
                between.len()
            )));
        }
        let finite = centres.iter().chain(&projection).all(|v| v.is_finite());
        if !finite || !between.iter().all(|v| v.is_finite() && *v > 0.0) {
            return Err(GalleryError::contents(
                "statistics of faces: numbers that are not finite, or a variance that is not above 0"
                    .into(),
            ));
        }
        Ok(Self {
            centres,
            projection,
            between,
        })
    }

    /// Length of an embedding (D).
    pub(super) fn dim(&self) -> usize {
        self.projection.nrows()
    }

    /// Dimensions of the model (R).
    pub(super) fn rank(&self) -> usize {
        self.between.len()
    }

    /// An embedding minus the mean of bare or of masked faces, scaled to unit length.
    pub(super) fn centred(&self, embedding: ArrayView1<f32>, masked: bool) -> Array1<f32> {
        let mut centred = &embedding - &self.centres.row(usize::from(masked));
        let length = centred.dot(&centred).sqrt();
        if length > 0.0 {
            centred /= length;
        }
        centred
    }

    /// Projects a centred embedding, or the mean of several, to the coordinates of the model.
    pub(super) fn project(&self, centred: ArrayView1<f32>) -> Array1<f32> {
        centred.dot(&self.projection)
    }
}
