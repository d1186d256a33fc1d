//! The contract of a gallery: what its embeddings were made with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DEFAULT_TARGET_FPIR, FORMAT};
use crate::detect::{self, DEFAULT_SCALE_FACTOR, DEFAULT_THRESHOLDS};
use crate::embed::PREPROCESSING;
use crate::paint::MaskType;

/// Default number of masked copies of an enrolled photo: more of them hardly improve recognition, and each takes the time of
/// a photo.
pub const DEFAULT_MASK_COPIES: usize = 4;

/// The network and the crops that the embeddings of a gallery were made with. Embeddings of another network or of
/// other crops cannot be compared with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// [`super::FORMAT`]
    pub format: String,
    /// SHA-256 of the network's file, in hexadecimal.
    pub model_sha256: String,
    pub embedding_dim: usize,
    /// [`crate::embed::PREPROCESSING`]
    pub preprocessing: String,
    pub detector: String,
    /// Date and time in RFC 3339 format.
    pub created: String,
    pub tool_version: String,
    /// Date and time of the last change in RFC 3339 format; None if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// The options of enrolment; None for files of earlier versions, see [`Contract::enrolment`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
    /// By name the last day, `YYYY-MM-DD` in UTC, on which a person is named; nobody else expires.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expires: BTreeMap<String, String>,
}

impl Contract {
    /// Of embeddings of this network, from crops as this version makes them. Who makes a gallery adds when, by what program and
    /// with which options.
    pub fn new(model_sha256: &str, embedding_dim: usize) -> Self {
        Self {
            format: FORMAT.to_owned(),
            model_sha256: model_sha256.to_owned(),
            embedding_dim,
            preprocessing: PREPROCESSING.to_owned(),
            detector: detect::NAME.to_owned(),
            created: String::new(),
            tool_version: String::new(),
            changed: None,
            enrolment: None,
            expires: BTreeMap::new(),
        }
    }
}

/// The options with which people are enrolled in a gallery, which are repeated when it is changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Share of strangers that may be named, 0…1.
    pub target_fpir: f64,
    /// Kinds of synthetic masks.
    pub masks: Vec<String>,
    /// Masked copies of every photo.
    pub mask_copies: usize,
    /// Shorter side of the smallest face in pixels; None for one in proportion to the photo.
    pub min_face_size: Option<u32>,
    /// Least probability in MTCNN's three stages.
    pub detection_thresholds: [f32; 3],
    /// Ratio of one size to the next in the image pyramid.
    pub scale_factor: f32,
}

impl Default for Enrolment {
    fn default() -> Self {
        Self {
            target_fpir: DEFAULT_TARGET_FPIR,
            masks: MaskType::ALL.map(|mask| mask.name().to_owned()).to_vec(),
            mask_copies: DEFAULT_MASK_COPIES,
            min_face_size: None,
            detection_thresholds: DEFAULT_THRESHOLDS,
            scale_factor: DEFAULT_SCALE_FACTOR,
        }
    }
}

impl Contract {
    /// The options of enrolment, the default ones for files that do not name them.
    pub fn enrolment(&self) -> Enrolment {
        self.enrolment.clone().unwrap_or_default()
    }

    /// Date and time at which the gallery became what it is.
    pub fn version(&self) -> &str {
        self.changed.as_ref().unwrap_or(&self.created)
    }

    /// The first difference to a gallery with whose embeddings these cannot be in one gallery, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (own, others) = (self.enrolment(), other.enrolment());
        let list = |masks: &[String]| masks.join(",");
        let regardless = |text: Option<u32>| text.map_or("in proportion".into(), |n| n.to_string());
        let pairs = [
            (
                "model",
                self.model_sha256.clone(),
                other.model_sha256.clone(),
            ),
            (
                "embedding_dim",
                self.embedding_dim.to_string(),
                other.embedding_dim.to_string(),
            ),
            (
                "preprocessing",
                self.preprocessing.clone(),
                other.preprocessing.clone(),
            ),
            ("detector", self.detector.clone(), other.detector.clone()),
            (
                "target-fpir",
                own.target_fpir.to_string(),
                others.target_fpir.to_string(),
            ),
            ("masks", list(&own.masks), list(&others.masks)),
            (
                "mask-copies",
                own.mask_copies.to_string(),
                others.mask_copies.to_string(),
            ),
            (
                "min-face-size",
                regardless(own.min_face_size),
                regardless(others.min_face_size),
            ),
            (
                "detection thresholds",
                format!("{:?}", own.detection_thresholds),
                format!("{:?}", others.detection_thresholds),
            ),
            (
                "scale-factor",
                own.scale_factor.to_string(),
                others.scale_factor.to_string(),
            ),
        ];
        pairs
            .into_iter()
            .find(|(_, own, others)| own != others)
            .map(|(name, own, others)| {
                format!("{name} is {own:?} in one and {others:?} in the other")
            })
    }
}
