//! Errors of reading photos, and limits of the size of images.

use std::io;

use image::Limits;
use thiserror::Error;

use super::converter::ConverterError;

/// Maximum number of pixels of an image, except for JPEGs, which can be scaled down while they are decoded.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Maximum memory of a decoded image: 100 megapixels in RGB, 75 with transparency, 50 with 16 bits per channel.
/// Turning it upright and converting it to 8-bit RGB takes as much again.
pub const MAX_DECODED_BYTES: u64 = 300_000_000;
/// Why a file cannot be used as a photo.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PhotoError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("the file has {0} MB, more than any photo")]
    FileTooLarge(u64),
    #[error("{found}; expected a JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF image")]
    Format { found: String },
    #[error("{width}×{height} pixels are too many: at most {} megapixels", MAX_PIXELS / 1_000_000)]
    TooManyPixels { width: u32, height: u32 },
    #[error(
        "{width}×{height} pixels are too many for a progressive JPEG, which cannot be scaled down while it is decoded: save it \
         as a baseline JPEG, or with at most 50 megapixels"
    )]
    TooManyProgressive { width: u32, height: u32 },
    #[error("{width}×{height} pixels take {} MB, at most {} are decoded", bytes / 1_000_000, MAX_DECODED_BYTES / 1_000_000)]
    TooLarge { width: u32, height: u32, bytes: u64 },
    #[error("{width}×{height} pixels take about {} MB of memory, more than there is", bytes / 1_000_000)]
    NoMemory { width: u32, height: u32, bytes: u64 },
    #[error("{0}")]
    Converter(#[from] ConverterError),
    #[error("the image is damaged: {0}")]
    Damaged(String),
    #[error(
        "it is a video, and this command takes photos; the example program recognize, or a GStreamer pipeline with mfrdetect \
         and mfrrecognize (examples/file.sh), says who is in a video"
    )]
    Video,
    #[cfg(not(feature = "plugin"))]
    #[error("this build has no GStreamer, which videos need; take photos out of it")]
    NoGStreamer,
}

/// Limits of a decoder's allocations. Some decoders count the image itself, and some keep another copy of it.
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(2 * MAX_DECODED_BYTES);
    limits
}

pub fn damaged(error: image::ImageError) -> PhotoError {
    match error {
        image::ImageError::Unsupported(e) => PhotoError::Format {
            found: e.to_string(),
        },
        error => PhotoError::Damaged(error.to_string()),
    }
}

/// Checks that the available memory suffices to decode an image and to search it for faces. If an allocation of a
/// decoder fails, the process is aborted.
///
/// `decoder` is the number of bytes that the decoder needs. Turning the image upright, converting it to 8-bit RGB or
/// rotating it takes 3 bytes for each pixel of the result, and the search for faces another 2.
pub fn check_memory(
    (width, height): (u32, u32),
    decoder: u64,
    looked_at: u64,
) -> Result<(), PhotoError> {
    let bytes = decoder + 5 * looked_at;
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    Vec::<u8>::new()
        .try_reserve_exact(length)
        .map_err(|_| PhotoError::NoMemory {
            width,
            height,
            bytes,
        })
}
