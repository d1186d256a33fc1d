//! Photos as mfr-enroll reads them: JPEG with Exif, with and without its end, PNG, WebP, TIFF, BMP and GIF.
#![no_main]

/// The modules of the program that reading a photo takes.
#[allow(dead_code, unused_imports, reason = "the program uses all of them")]
#[path = "../../src/bin/mfr-enroll/input"]
mod input {
    mod converter;
    pub mod error;
    mod jpeg;
    pub mod photo;
    pub mod source;
}

use std::io::Cursor;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};
use input::error::MAX_PIXELS;
use input::photo::DecodedPhoto;
use libfuzzer_sys::fuzz_target;

/// An Exif segment that says nothing but the orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif = [
        b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation],
        b"\0\0\0\0\0\0",
    ]
    .concat();
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let colours: DynamicImage =
        ImageBuffer::from_fn(24, 16, |x, y| Rgb([(x * 10) as u8, (y * 16) as u8, 77])).into();
    let grey: DynamicImage = ImageBuffer::from_fn(9, 5, |x, y| Luma([(x * y) as u8])).into();
    let clear: DynamicImage =
        ImageBuffer::from_fn(6, 7, |x, y| Rgba([x as u8, y as u8, 9, 40])).into();
    let deep: DynamicImage = ImageBuffer::from_pixel(3, 3, Rgb([0xffffu16, 0x8080, 0])).into();
    let mut seeds = Vec::new();
    for image in [&colours, &grey, &clear, &deep] {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
        ] {
            let mut file = Cursor::new(Vec::new());
            // Not every format has every kind of pixels.
            if image.write_to(&mut file, format).is_ok() {
                seeds.push(file.into_inner());
            }
        }
    }
    let jpeg = seeds[0].clone();
    seeds.push(jpeg[..jpeg.len() - 2].to_vec());
    let video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom";
    seeds.push([&jpeg[..jpeg.len() - 2], video].concat());
    seeds.extend((1..=8).map(|orientation| with_orientation(&jpeg, orientation)));
    seeds
}

fuzz_target!(
    init: {
        // Panics of decoders are caught where photos are read; all others still end the run.
        let _ = std::panic::take_hook();
        // Nowhere is a program that converts other formats: starting one takes longer than thousands of inputs.
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("PATH", "") };
        fuzz_targets::begin(seeds);
    },
    |input: &[u8]| {
        let Ok(photo) = DecodedPhoto::read(input) else { return };
        assert!(photo.width as u64 * photo.height as u64 <= MAX_PIXELS);
        assert_eq!(photo.pixels().len(), photo.width * photo.height * 3);
        assert!(photo.view().is_ok());
    }
);
