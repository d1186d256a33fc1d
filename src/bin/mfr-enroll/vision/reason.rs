//! Reasons for not using a file.

use serde::{Deserialize, Serialize};

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    NoFace,
    SeveralFaces,
    TooSmall,
    Blurred,
    TooDark,
    TooBright,
    /// The head is turned too far.
    Pose,
    Unreadable,
    Duplicate,
    /// Another person, judged by the person's other photos.
    Outlier,
}

impl Reason {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFace => "no_face",
            Self::SeveralFaces => "several_faces",
            Self::TooSmall => "too_small",
            Self::Blurred => "blurred",
            Self::TooDark => "too_dark",
            Self::TooBright => "too_bright",
            Self::Pose => "pose",
            Self::Unreadable => "unreadable",
            Self::Duplicate => "duplicate",
            Self::Outlier => "outlier",
        }
    }
}

impl Reason {
    /// The reason as text.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NoFace => "no face",
            Self::SeveralFaces => "several faces",
            Self::TooSmall => "too small",
            Self::Blurred => "blurred",
            Self::TooDark => "too dark",
            Self::TooBright => "too bright",
            Self::Pose => "turned away",
            Self::Unreadable => "unreadable",
            Self::Duplicate => "duplicate",
            Self::Outlier => "somebody else",
        }
    }
}

/// A reason and its detail, for a file that the caller knows.
pub type Refusal = (Reason, String);
