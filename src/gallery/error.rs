use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::io::text::printable;

/// Why a gallery cannot be made, read, written or used. Each message is complete, so no
/// variant has a source that a chain of errors would repeat.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GalleryError {
    #[error("gallery {path}: {reason}")]
    Read {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error("gallery {path} cannot be written: {reason}")]
    Write {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error(
        "gallery {} cannot be used: expected a gallery that mfr-enroll has written, or the \
         embedd.npz of the original scripts; found {found}",
        display(path)
    )]
    Format {
        path: Option<PathBuf>,
        found: String,
    },
    #[error(
        "gallery {} is damaged: {reason}; make it anew with mfr-enroll",
        display(path)
    )]
    Contents {
        path: Option<PathBuf>,
        reason: String,
    },
    #[error(
        "gallery {} does not fit the model: {reason}; make it anew with mfr-enroll and this model, \
         or name the model it was made with",
        display(path)
    )]
    Model {
        path: Option<PathBuf>,
        reason: String,
    },
}

fn display(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map_or_else(|| "(in memory)".to_owned(), |p| p.display().to_string())
}

/// Characters of a message that may be what the file says: its strings and headers are as long as it likes.
const MESSAGE_LENGTH: usize = 500;

/// What a file says of itself may be meant to control the terminal that a message goes to.
fn shown(message: &str) -> String {
    let mut shown: String = message.chars().take(MESSAGE_LENGTH).collect();
    if shown.len() < message.len() {
        shown.push('…');
    }
    printable(&shown)
}

impl GalleryError {
    pub(super) fn contents(reason: String) -> Self {
        let reason = shown(&reason);
        Self::Contents { path: None, reason }
    }

    pub(super) fn format(found: String) -> Self {
        let found = shown(&found);
        Self::Format { path: None, found }
    }

    pub(super) fn model(reason: String) -> Self {
        let reason = shown(&reason);
        Self::Model { path: None, reason }
    }

    /// Sets the file that the error is about.
    pub fn at(mut self, file: &Path) -> Self {
        match &mut self {
            Self::Read { .. } | Self::Write { .. } => {}
            Self::Format { path, .. } | Self::Contents { path, .. } | Self::Model { path, .. } => {
                *path = Some(file.to_owned());
            }
        }
        self
    }

    /// Whether the error is a missing file.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Read { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound)
    }
}
