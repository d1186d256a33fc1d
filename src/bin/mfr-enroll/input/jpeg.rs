//! JPEG photos: scaled down while they are decoded if they are very large, and rejected if pixels are missing.

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use jpeg_decoder::{CodingProcess, Decoder, PixelFormat};
use sha2::{Digest, Sha256};

use super::error::{PhotoError, check_memory, damaged, limits};

/// The start-of-image marker of every JPEG.
pub const START: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];

/// Larger images are scaled down by 2, 4 or 8 in the inverse DCT, until they are not larger. 50 megapixels take 150
/// MB, and as much again while they are turned upright; a face of 24 pixels in 200 megapixels is not the subject of a
/// photo.
const UNSCALED_PIXELS: u64 = 50_000_000;
/// The largest scale of the inverse DCT.
const MAX_SCALE: u64 = 8;
/// Side of a DCT block, in fractions of which [`Decoder::scale`] scales.
const BLOCK: u64 = 8;

/// Maximum number of bytes that the decoders need per pixel: components and RGB, and all coefficients of progressive
/// files.
const DECODER_BYTES: u64 = 9;

/// Bytes that are appended in place of missing ones. A decoder that reads them outputs different pixels for each.
const PADS: [u8; 2] = [0x00, 0x55];
const PAD_LENGTH: usize = 4096;

/// Decodes a JPEG file, upright.
///
/// A decoder silently fills missing pixels with grey, and half a face would spoil a gallery. A file with an
/// end-of-image marker is complete. Panoramas of some phones lack that marker, and so do files with a video appended
/// in its place: they are decoded twice, with different bytes at the end, and are complete if the pixels are the
/// same.
pub fn decode(bytes: &[u8]) -> Result<DynamicImage, PhotoError> {
    let data = without_video(bytes);
    if has_end(data) {
        return decode_padded(bytes);
    }
    let padded = |pad: u8| [data, &[pad; PAD_LENGTH], &END].concat();
    let cut = || PhotoError::Damaged("the file ends too early".to_owned());
    let first = decode_padded(&padded(PADS[0])).map_err(|_| cut())?;
    let digest = Sha256::digest(first.as_bytes());
    // Freed before the second image takes as much memory.
    drop(first);
    let second = decode_padded(&padded(PADS[1])).map_err(|_| cut())?;
    match Sha256::digest(second.as_bytes()) == digest {
        true => Ok(second),
        false => Err(cut()),
    }
}

fn decode_padded(bytes: &[u8]) -> Result<DynamicImage, PhotoError> {
    let mut decoder = Decoder::new(bytes);
    let info = match decoder.read_info() {
        Ok(()) => decoder.info(),
        Err(jpeg_decoder::Error::Unsupported(feature)) => return Err(unsupported(&feature)),
        // The other decoder is tried, which supports more files.
        Err(_) => None,
    };
    let Some(info) = info else {
        return decode_unscaled(bytes);
    };
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= UNSCALED_PIXELS {
        check_memory((width, height), DECODER_BYTES * pixels, pixels)?;
        // Each decoder supports chroma subsamplings that the other does not.
        return decode_unscaled(bytes)
            .or_else(|error| decode_scaled(decoder, 1).map_err(|_| error));
    }
    if info.coding_process != CodingProcess::DctSequential {
        return Err(PhotoError::TooManyProgressive { width, height });
    }
    let scale = (1..=MAX_SCALE)
        .filter(|scale| scale.is_power_of_two())
        .find(|scale| pixels / (scale * scale) <= UNSCALED_PIXELS);
    match scale {
        Some(scale) => {
            let pixels = pixels / (scale * scale);
            check_memory((width, height), DECODER_BYTES * pixels, pixels)?;
            decode_scaled(decoder, scale)
        }
        None => Err(PhotoError::TooManyPixels { width, height }),
    }
}

/// Decodes with the image crate.
fn decode_unscaled(bytes: &[u8]) -> Result<DynamicImage, PhotoError> {
    let reader = ImageReader::with_format(std::io::Cursor::new(bytes), image::ImageFormat::Jpeg);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    decoder.set_limits(limits()).map_err(damaged)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Decodes with jpeg-decoder, which scales in the inverse DCT and supports all subsamplings with integral ratios.
fn decode_scaled(mut decoder: Decoder<&[u8]>, scale: u64) -> Result<DynamicImage, PhotoError> {
    let info = decoder.info().ok_or_else(no_header)?;
    let scaled = |side: u16| (u64::from(side) * (BLOCK / scale)).div_ceil(BLOCK) as u16;
    let (width, height) = decoder
        .scale(scaled(info.width), scaled(info.height))
        .map_err(reason)?;
    let pixels = decoder.decode().map_err(reason)?;
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    let rgb = match info.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        PixelFormat::L16 => pixels
            .as_chunks::<2>()
            .0
            .iter()
            .flat_map(|&grey| [(u16::from_ne_bytes(grey) >> 8) as u8; 3])
            .collect(),
        PixelFormat::CMYK32 => pixels
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| product(255 - ink, 255 - k)))
            .collect(),
    };
    let image = RgbImage::from_raw(u32::from(width), u32::from(height), rgb);
    let mut image = DynamicImage::from(image.ok_or_else(no_header)?);
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(image)
}

/// Product of two values in 0…255 that represent 0…1.
fn product(a: u8, b: u8) -> u8 {
    ((u16::from(a) * u16::from(b) + 127) / 255) as u8
}

fn no_header() -> PhotoError {
    PhotoError::Damaged("the size in its header is not that of its data".to_owned())
}

fn reason(error: jpeg_decoder::Error) -> PhotoError {
    match error {
        jpeg_decoder::Error::Unsupported(feature) => unsupported(&feature),
        error => PhotoError::Damaged(error.to_string()),
    }
}

fn unsupported(feature: &jpeg_decoder::UnsupportedFeature) -> PhotoError {
    use jpeg_decoder::UnsupportedFeature as Feature;
    let what = match feature {
        Feature::ArithmeticEntropyCoding => "arithmetic coding".to_owned(),
        Feature::Hierarchical => "the hierarchical process".to_owned(),
        Feature::SamplePrecision(bits) => format!("{bits} bits a sample"),
        Feature::ComponentCount(count) => format!("{count} components"),
        Feature::SubsamplingRatio | Feature::NonIntegerSubsamplingRatio => {
            "this chroma subsampling".to_owned()
        }
        other => format!("{other:?}"),
    };
    PhotoError::Format {
        found: format!("JPEG files with {what} are not supported"),
    }
}

/// The file without an appended ISO media file (MP4, MOV).
fn without_video(bytes: &[u8]) -> &[u8] {
    // The first box starts with a short length and its type. The four bytes of the type alone occur by chance in one
    // of some hundred large photos.
    let video = bytes
        .windows(8)
        .position(|w| w[..3] == [0, 0, 0] && w[4..] == *b"ftyp");
    &bytes[..video.unwrap_or(bytes.len())]
}

/// Whether there is an end-of-image marker after the image data.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = START.len();
    while let Some(rest) = bytes.get(at..) {
        // Searches the next marker: 0xff and neither 0 (a stuffed byte of pixel data), a restart marker nor
        // another 0xff (a fill byte).
        let Some(found) = rest.windows(2).position(|w| {
            w[0] == 0xff && !matches!(w[1], 0 | 0xff) && !(0xd0..=0xd7).contains(&w[1])
        }) else {
            return false;
        };
        if rest[found..].starts_with(&END) {
            return true;
        }
        // Every other marker is followed by the length of its segment, which may contain a thumbnail.
        let Some(&[high, low]) = rest.get(found + 2..found + 4) else {
            return false;
        };
        at += found + 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    false
}
