//! Types of input files.

use std::path::{Path, PathBuf};

/// Extensions of photos, regardless of the content. They include formats that may be unsupported, so that
/// such files are reported instead of being ignored.
const PHOTO_ENDINGS: [&str; 14] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif",
    "avif", "jxl",
];
const VIDEO_ENDINGS: [&str; 6] = ["mp4", "m4v", "mkv", "webm", "avi", "mov"];

/// An input file by type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFile {
    Photo(PathBuf),
    Video(PathBuf),
}

impl SourceFile {
    /// Determines the type by the extension; None for other files.
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
