//! Reads photos from files, whose format is determined by their content, as upright 8-bit RGB.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gstmfr::frame::image::{ImageError, ImageView};
use gstmfr::io::files::open_regular;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader,
};
use sha2::{Digest, Sha256};

use crate::input::converter::Converter;
use crate::input::error::{
    MAX_DECODED_BYTES, MAX_PIXELS, PhotoError, check_memory, damaged, limits,
};
use crate::input::jpeg;
use crate::input::source::SourceFile;

/// Maximum size of a file; larger files are not read into memory.
const MAX_FILE_SIZE: u64 = 512 << 20;

/// A decoded photo.
#[derive(Debug)]
pub struct DecodedPhoto {
    pixels: Vec<u8>,
    pub width: usize,
    pub height: usize,
    /// SHA-256 of the file, or of the pixels of a frame, which identifies the same photo under another
    /// name.
    pub sha256: [u8; 32],
    /// Degrees by which it was rotated clockwise in addition to the file's orientation.
    pub rotated: u16,
}

impl DecodedPhoto {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, PhotoError> {
        Self::read(open_regular(path)?)
    }

    /// Reads a photo where a video is not supported.
    pub fn of(source: &SourceFile) -> Result<Self, PhotoError> {
        match source {
            SourceFile::Photo(path) => Self::load(path),
            SourceFile::Video(_) => Err(PhotoError::Video),
        }
    }

    /// Reads an image file from a reader.
    pub fn read(reader: impl Read) -> Result<Self, PhotoError> {
        let mut bytes = Vec::new();
        reader.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            return Err(PhotoError::FileTooLarge(MAX_FILE_SIZE >> 20));
        }
        // Third-party decoders process untrusted files here: if one panics, only the photo is
        // rejected.
        let image = catch_unwind(AssertUnwindSafe(|| decode(&bytes)))
            .unwrap_or_else(|_| Err(PhotoError::Damaged("its decoder gave up".to_owned())))?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Self {
            width: image.width() as usize,
            height: image.height() as usize,
            pixels: rgb8(image),
            sha256,
            rotated: 0,
        })
    }

    /// A frame of a video in packed 8-bit RGB.
    #[cfg(any(feature = "plugin", test))]
    pub fn from_rgb(pixels: Vec<u8>, width: usize, height: usize) -> Self {
        Self {
            sha256: Sha256::digest(&pixels).into(),
            pixels,
            width,
            height,
            rotated: 0,
        }
    }

    /// The same photo rotated clockwise, by 0 to 3 quarter turns.
    pub fn rotated(&self, quarters: u16) -> Self {
        let (width, height) = (self.width, self.height);
        let (new_width, new_height) = match quarters % 2 {
            0 => (width, height),
            _ => (height, width),
        };
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (x, y) = match quarters {
                    0 => (x, y),
                    1 => (y, height - 1 - x),
                    2 => (width - 1 - x, height - 1 - y),
                    _ => (width - 1 - y, x),
                };
                let at = (y * width + x) * 3;
                pixels.extend_from_slice(&self.pixels[at..at + 3]);
            }
        }
        Self {
            pixels,
            width: new_width,
            height: new_height,
            sha256: self.sha256,
            rotated: (self.rotated + 90 * quarters) % 360,
        }
    }

    /// Packed 8-bit RGB.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels, for detection.
    pub fn view(&self) -> Result<ImageView<'_>, ImageError> {
        ImageView::rgb(&self.pixels, self.width, self.height)
    }
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, PhotoError> {
    if bytes.is_empty() {
        return Err(PhotoError::Empty);
    }
    if bytes.starts_with(&jpeg::START) {
        return jpeg::decode(bytes);
    }
    if let Some(converter) = Converter::of(bytes) {
        // The orientation is part of these formats, and the converters apply it.
        return decode_with(&converter.convert(bytes)?, |_| {
            Ok(Orientation::NoTransforms)
        });
    }
    decode_with(bytes, |decoder| decoder.orientation())
}

fn decode_with(
    bytes: &[u8],
    orientation: impl Fn(&mut dyn ImageDecoder) -> image::ImageResult<Orientation>,
) -> Result<DynamicImage, PhotoError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let Some(format) = reader.format() else {
        return Err(PhotoError::Format {
            found: kind(bytes).to_owned(),
        });
    };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(PhotoError::TooManyPixels { width, height });
    }
    let mut bytes = decoder.total_bytes();
    if format == ImageFormat::WebP {
        // The decoder uses four channels internally, whatever it outputs.
        bytes = 4 * pixels;
    }
    if bytes > MAX_DECODED_BYTES {
        return Err(PhotoError::TooLarge {
            width,
            height,
            bytes,
        });
    }
    check_memory((width, height), bytes, pixels)?;
    decoder.set_limits(limits()).map_err(damaged)?;
    let orientation = orientation(&mut decoder).map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Describes a file that is not a supported image.
fn kind(bytes: &[u8]) -> &'static str {
    if std::str::from_utf8(bytes).is_ok() {
        "the file is text"
    } else {
        "the content is not that of an image"
    }
}

/// Converts to packed 8-bit RGB; transparent parts become black, like everything outside the image.
fn rgb8(image: DynamicImage) -> Vec<u8> {
    if !image.color().has_alpha() {
        return image.into_rgb8().into_raw();
    }
    let rgba = image.into_rgba8();
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for &[r, g, b, alpha] in rgba.as_raw().as_chunks::<4>().0 {
        let over_black = |v: u8| ((u16::from(v) * u16::from(alpha) + 127) / 255) as u8;
        rgb.extend([r, g, b].map(over_black));
    }
    rgb
}

/// Encodes packed 8-bit RGB as a PNG file.
pub fn png(rgb: &[u8], width: usize, height: usize) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    // Photos that were read are never that large, so the conversion does not fail.
    let side = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
    PngEncoder::new(&mut bytes).write_image(
        rgb,
        side(width),
        side(height),
        ExtendedColorType::Rgb8,
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn pixels(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let photo = DecodedPhoto::read(bytes).unwrap();
        assert_eq!(photo.view().unwrap().width(), photo.width);
        (photo.width, photo.height, photo.pixels)
    }

    fn error(bytes: &[u8]) -> String {
        DecodedPhoto::read(bytes).unwrap_err().to_string()
    }

    /// Two columns, red and blue, in blocks large enough to survive JPEG.
    fn two_colours() -> DynamicImage {
        ImageBuffer::from_fn(64, 32, |x, _| {
            Rgb(if x < 32 { [200u8, 0, 0] } else { [0, 0, 200] })
        })
        .into()
    }

    /// An Exif segment that contains only the orientation.
    fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let exif = [
            b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
            &[orientation],
            b"\0\0\0\0\0\0",
        ]
        .concat();
        [&jpeg[..2], &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn photos_are_turned_upright() {
        let jpeg = encoded(two_colours(), ImageFormat::Jpeg);
        assert_eq!(pixels(&jpeg).0, 64);
        // Orientation 6: the top of the scene is the right side of the stored image. Red, stored on the left,
        // is then above.
        let (width, height, upright) = pixels(&with_orientation(&jpeg, 6));
        assert_eq!((width, height), (32, 64));
        assert!(upright[0] > 150 && upright[2] < 50, "{:?}", &upright[..3]);
        // Orientation 8: the other way round, with red below.
        let (_, _, upright) = pixels(&with_orientation(&jpeg, 8));
        assert!(upright[0] < 50 && upright[2] > 150, "{:?}", &upright[..3]);
    }

    #[test]
    fn quarter_turns_add_up() {
        let photo = DecodedPhoto::from_rgb((0..18).collect(), 3, 2);
        let once = photo.rotated(1);
        assert_eq!((once.width, once.height, once.rotated), (2, 3, 90));
        // The lower left pixel becomes the upper left one.
        assert_eq!(once.pixels[..6], [9, 10, 11, 0, 1, 2]);
        let twice = once.rotated(1);
        assert_eq!(twice.pixels, photo.rotated(2).pixels);
        assert_eq!(twice.rotated(1).pixels, photo.rotated(3).pixels);
        let back = photo.rotated(3).rotated(1);
        assert_eq!((back.pixels, back.rotated), (photo.pixels, 0));
    }

    #[test]
    fn sixteen_bits_and_grey_become_eight_bits_rgb() {
        let deep = ImageBuffer::from_pixel(1, 1, Rgb([0xffffu16, 0x8080, 0]));
        assert_eq!(
            pixels(&encoded(deep, ImageFormat::Png)).2,
            [0xff, 0x80, 0x00]
        );
        let grey = ImageBuffer::from_pixel(1, 1, Luma([77u8]));
        assert_eq!(pixels(&encoded(grey, ImageFormat::Png)).2, [77; 3]);
    }

    #[test]
    fn transparent_is_black() {
        let image = ImageBuffer::from_pixel(1, 1, Rgba([200u8, 100, 50, 0]));
        assert_eq!(pixels(&encoded(image, ImageFormat::Png)).2, [0, 0, 0]);
        let image = ImageBuffer::from_pixel(1, 1, LumaA([200u8, 255]));
        assert_eq!(pixels(&encoded(image, ImageFormat::Png)).2, [200; 3]);
    }

    #[test]
    fn cmyk_is_converted() {
        // 16×16, 100 % cyan only, as Pillow writes it (Adobe's inverted CMYK).
        let (width, height, rgb) = pixels(crate::testdata::CYAN_CMYK_JPEG);
        assert_eq!((width, height), (16, 16));
        assert!(
            rgb[0] < 10 && rgb[1] > 245 && rgb[2] > 245,
            "{:?}",
            &rgb[..3]
        );
    }

    #[test]
    fn the_first_picture_of_an_animation_counts() {
        let frames = [[255u8, 0, 0, 255], [0, 0, 255, 255]]
            .map(|c| image::Frame::new(ImageBuffer::from_pixel(4, 4, Rgba(c))));
        let mut gif = Vec::new();
        image::codecs::gif::GifEncoder::new(&mut gif)
            .encode_frames(frames)
            .unwrap();
        assert_eq!(pixels(&gif).2[..3], [255, 0, 0]);
        // Two lossless frames, red and blue, as Pillow writes them.
        let (_, _, rgb) = pixels(crate::testdata::RED_BLUE_WEBP);
        assert_eq!(rgb[..3], [255, 0, 0]);
    }

    #[test]
    fn what_is_not_a_photo_is_called_by_its_name() {
        assert_eq!(error(b""), "the file is empty");
        assert_eq!(
            error(b"Dear Ana, the photos are in the other folder."),
            "the file is text; expected a JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF image"
        );
        assert!(error(&[0x93; 100]).starts_with("the content is not that of an image"));
    }

    #[test]
    fn a_cut_file_is_damaged() {
        let jpeg = encoded(two_colours(), ImageFormat::Jpeg);
        assert!(error(&jpeg[..jpeg.len() - 10]).contains("ends too early"));
        assert!(error(&jpeg[..30]).contains("damaged"));
        let png = encoded(two_colours(), ImageFormat::Png);
        assert!(error(&png[..png.len() / 2]).contains("damaged"));
    }

    /// The start of a video as phones append it to a photo, with bytes that look like markers.
    const VIDEO: &[u8] =
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\xff\xda\0\x08\xff\xd9\xff\xc0\x12\x34\xff\xd9";

    #[test]
    fn what_follows_the_image_in_a_jpeg_and_a_missing_end_marker_are_ignored() {
        let jpeg = encoded(two_colours(), ImageFormat::Jpeg);
        let whole = pixels(&jpeg);
        let (image, end) = jpeg.split_at(jpeg.len() - 2);
        assert_eq!(end, [0xff, 0xd9]);
        for complete in [
            [&jpeg, &b"\xff\xda\x01\x02\x03"[..]].concat(),
            [&jpeg, VIDEO].concat(),
            [&jpeg, &[0; 1000][..]].concat(),
            image.to_vec(),
            [image, VIDEO].concat(),
        ] {
            assert_eq!(pixels(&complete), whole);
        }
        for missing in [1, 5, image.len() / 8] {
            let cut = &image[..image.len() - missing];
            for damaged in [cut.to_vec(), [cut, VIDEO].concat()] {
                assert!(error(&damaged).contains("ends too early"), "{missing}");
            }
        }
    }

    #[test]
    fn jpegs_are_read_with_any_sampling_and_arithmetic_coding_is_named() {
        use crate::testdata::{ARITHMETIC_JPEG, SAMPLED_3X1_JPEG, SAMPLED_4X1_JPEG};
        for jpeg in [SAMPLED_3X1_JPEG, SAMPLED_4X1_JPEG] {
            let (width, height, rgb) = pixels(jpeg);
            assert_eq!((width, height), (48, 16));
            assert!(rgb[0] > 170 && rgb[2] < 30, "{:?}", &rgb[..3]);
            let last = &rgb[rgb.len() - 3..];
            assert!(last[0] < 30 && last[2] > 170, "{last:?}");
        }
        assert!(
            error(ARITHMETIC_JPEG)
                .starts_with("JPEG files with arithmetic coding are not supported; expected"),
            "{}",
            error(ARITHMETIC_JPEG)
        );
    }

    #[test]
    fn jpegs_beyond_50_megapixels_are_scaled_down_upright() {
        // The left half is lighter than the right one.
        let (width, height) = (9_000, 6_001);
        let image = ImageBuffer::from_fn(width, height, |x, _| {
            Luma(if x < width / 2 { [200u8] } else { [50] })
        });
        let jpeg = encoded(image, ImageFormat::Jpeg);
        let photo = DecodedPhoto::read(&with_orientation(&jpeg, 6)[..]).unwrap();
        // It is stored on its side, so the left half is above.
        assert_eq!((photo.width, photo.height), (3_001, 4_500));
        let pixel = |y: usize| &photo.pixels[(y * photo.width + 1_500) * 3..][..3];
        assert!(pixel(100).iter().all(|v| v.abs_diff(200) < 3));
        assert!(pixel(4_400).iter().all(|v| v.abs_diff(50) < 3));
    }

    /// The photo encoded by an installed program for this format; None, with a message, if it is not installed.
    fn encoded_by(program: &str, options: &[&str], ending: &str) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let [input, output] = ["in.png".to_owned(), format!("out.{ending}")];
        let png = encoded(two_colours(), ImageFormat::Png);
        std::fs::write(folder.path().join(&input), png).unwrap();
        let ran = std::process::Command::new(program)
            .args(options.iter().map(|&option| match option {
                "IN" => input.as_str(),
                "OUT" => output.as_str(),
                option => option,
            }))
            .current_dir(folder.path())
            .output();
        if !ran.as_ref().is_ok_and(|ran| ran.status.success()) {
            crate::skip::skip(format_args!("{program} that writes {ending}: {ran:?}"));
            return None;
        }
        Some(std::fs::read(folder.path().join(output)).unwrap())
    }

    #[test]
    fn photos_in_formats_of_phones_and_archives_are_converted() {
        for (program, options, ending) in [
            ("heif-enc", &["-q", "90", "IN", "-o", "OUT"][..], "heic"),
            ("heif-enc", &["-A", "-q", "90", "IN", "-o", "OUT"], "avif"),
            ("opj_compress", &["-i", "IN", "-o", "OUT"], "jp2"),
            ("opj_compress", &["-i", "IN", "-o", "OUT"], "j2k"),
            ("cjxl", &["IN", "OUT"], "jxl"),
        ] {
            let Some(bytes) = encoded_by(program, options, ending) else {
                continue;
            };
            let (width, height, rgb) = pixels(&bytes);
            assert_eq!((width, height), (64, 32), "{ending}");
            assert!(rgb[0] > 170 && rgb[2] < 40, "{ending}: {:?}", &rgb[..3]);
            // Half a file is an error with a reason, whatever the converter reports.
            let half = error(&bytes[..bytes.len() / 2]);
            assert!(half.contains("cannot read the"), "{ending}: {half}");
        }
    }

    #[test]
    fn tiff_images_are_read() {
        let (width, height, rgb) = pixels(&encoded(two_colours(), ImageFormat::Tiff));
        assert_eq!((width, height), (64, 32));
        assert_eq!(rgb[..3], [200, 0, 0]);
    }

    #[test]
    fn an_image_whose_pixels_take_too_much_memory_is_refused() {
        // The header of a PNG of 8000×8000 pixels with four channels of 16 bits.
        let mut header = b"IHDR\0\0\x1f\x40\0\0\x1f\x40\x10\x06\0\0\0".to_vec();
        let mut crc = flate2::Crc::new();
        crc.update(&header);
        header.extend(crc.sum().to_be_bytes());
        let end = b"\0\0\0\0IEND\xae\x42\x60\x82";
        let idat = b"\0\0\0\0IDAT\x35\xaf\x06\x1e";
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\x0d", &header[..], idat, end].concat();
        assert_eq!(
            error(&png),
            "8000×8000 pixels take 512 MB, at most 300 are decoded"
        );
    }

    #[test]
    fn no_file_cut_or_changed_anywhere_panics() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp] {
            let bytes = encoded(two_colours(), format);
            for i in 0..bytes.len().min(700) {
                let _ = DecodedPhoto::read(&bytes[..i]);
                let mut changed = bytes.clone();
                changed[i] ^= 0xff;
                let _ = DecodedPhoto::read(&changed[..]);
            }
        }
    }

    #[test]
    fn a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() {
        // The header of a BMP of 60,000×60,000 pixels, without pixel data.
        let mut bmp = vec![0u8; 54];
        bmp[..2].copy_from_slice(b"BM");
        bmp[10] = 54;
        bmp[14] = 40;
        bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
        bmp[26] = 1;
        bmp[28] = 24;
        assert_eq!(
            error(&bmp),
            "60000×60000 pixels are too many: at most 100 megapixels"
        );
    }
}
