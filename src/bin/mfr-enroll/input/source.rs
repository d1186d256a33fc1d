//! What a file is to be read as.

use std::path::{Path, PathBuf};

/// Endings taken for photos, whatever is inside. Formats that cannot be read are among them: their
/// owner is to be told, not to wonder where the photo went.
const PHOTO_ENDINGS: [&str; 14] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif",
    "avif", "jxl",
];
const VIDEO_ENDINGS: [&str; 6] = ["mp4", "m4v", "mkv", "webm", "avi", "mov"];

/// What a file is to be read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Photo(PathBuf),
    Video(PathBuf),
}

impl Source {
    /// By its ending; None for a file of another kind.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        if PHOTO_ENDINGS.contains(&ending.as_str()) {
            Some(Self::Photo(path.to_owned()))
        } else if VIDEO_ENDINGS.contains(&ending.as_str()) {
            Some(Self::Video(path.to_owned()))
        } else {
            None
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Photo(path) | Self::Video(path) => path,
        }
    }
}
