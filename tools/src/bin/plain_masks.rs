//! Paints plain masks onto photos: polygons of one colour, without shade, folds or straps. It shares
//! no code with the painter that makes galleries, so that accuracy with masks can be measured on
//! masks that the gallery has not seen (docs/accuracy.md).
//!
//! ```text
//! cargo run --release -p mfr-tools --bin plain_masks -- photos masked
//! ```
//!
//! Writes a copy of every JPEG, PNG and WebP of the first folder, as PNG, to the same place below
//! the second. Photos without a face are named and left out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gstmfr::detect::{Detector, Face, Params};
use gstmfr::frame::geometry::Point;
use gstmfr::frame::image::ImageView;
use gstmfr::nn::SessionOptions;

/// White, blue, black, beige, grey: medical masks and the commonest cloth.
const COLOURS: [[u8; 3]; 5] = [
    [245, 245, 245],
    [120, 170, 210],
    [25, 25, 28],
    [235, 215, 190],
    [130, 130, 135],
];

/// Samples of a pixel, each way, by which the edge is smoothed.
const SAMPLES: usize = 4;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [photos, masked] = &arguments[..] else {
        eprintln!("usage: plain_masks PHOTOS MASKED");
        return ExitCode::from(2);
    };
    match run(photos, masked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain_masks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(photos: &Path, masked: &Path) -> Result<(), Error> {
    let mut detector = Detector::built_in(&SessionOptions::default())?;
    let mut files = Vec::new();
    list(photos, &mut files)?;
    files.sort();
    let mut painted = 0;
    for (index, path) in files.iter().enumerate() {
        let mut photo = image::open(path)
            .map_err(|error| format!("{}: {error}", path.display()))?
            .to_rgb8();
        let (width, height) = (photo.width() as usize, photo.height() as usize);
        let view = ImageView::rgb(&photo, width, height)?;
        let params = Params {
            min_face_size: (width.min(height) / 8).max(20) as u32,
            ..Params::default()
        };
        let faces = detector.detect(&view, &params)?;
        let Some(face) = main_face(&faces, width, height) else {
            eprintln!("{}: no face", path.display());
            continue;
        };
        fill(&mut photo, width, &outline(face, index), colour(index));
        let target = masked
            .join(path.strip_prefix(photos)?)
            .with_extension("png");
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        photo.save(&target)?;
        painted += 1;
    }
    println!("{painted} of {} photos painted", files.len());
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if path.is_dir() {
            list(&path, files)?;
        } else if matches!(extension, Some("jpg" | "jpeg" | "png" | "webp")) {
            files.push(path);
        }
    }
    Ok(())
}

/// Large and in the middle.
fn main_face(faces: &[Face], width: usize, height: usize) -> Option<&Face> {
    let rating = |face: &Face| {
        let center = face.rect.center();
        let off = (center.x - width as f32 / 2.0).hypot(center.y - height as f32 / 2.0);
        face.rect.width - 2.0 * off
    };
    faces.iter().max_by(|a, b| rating(a).total_cmp(&rating(b)))
}

/// From the bridge of the nose over the cheeks to the chin; higher on every third photo, lower on
/// the next.
fn outline(face: &Face, index: usize) -> Vec<Point> {
    let [left, right, nose, mouth_left, mouth_right] = face.landmarks.0;
    let middle = |a: Point, b: Point| ((a.x + b.x) / 2.0, (a.y + b.y) / 2.0);
    let eyes = middle(left, right);
    let mouth = middle(mouth_left, mouth_right);
    let (down_x, down_y) = (mouth.0 - eyes.0, mouth.1 - eyes.1);
    let length = down_x.hypot(down_y).max(1.0);
    let (down_x, down_y) = (down_x / length, down_y / length);
    // The way from the left to the right eye, at a right angle to the way down.
    let (right_x, right_y) = (down_y, -down_x);
    let apart = (right.x - left.x).hypot(right.y - left.y);
    let half = (face.rect.width * 0.5).max(apart * 0.95);
    let turned = (nose.x - eyes.0) * right_x + (nose.y - eyes.1) * right_y;
    let top = [0.35, 0.475, 0.6][index % 3];
    // Sideways in half faces; down in distances from the eyes to the mouth.
    let at = |side: f32, turn: f32, down: f32| Point {
        x: eyes.0 + right_x * (half * side + turned * turn) + down_x * length * down,
        y: eyes.1 + right_y * (half * side + turned * turn) + down_y * length * down,
    };
    vec![
        at(0.0, 0.8, top),
        at(0.75, 0.0, top + 0.1),
        at(1.0, 0.0, 0.75),
        at(0.8, 0.0, 1.35),
        at(0.35, 0.3, 1.75),
        at(-0.35, 0.3, 1.75),
        at(-0.8, 0.0, 1.35),
        at(-1.0, 0.0, 0.75),
        at(-0.75, 0.0, top + 0.1),
    ]
}

/// A colour of the list, a little lighter or darker each time it comes round.
fn colour(index: usize) -> [u8; 3] {
    let change = (index / COLOURS.len() * 7 % 21) as i16 - 10;
    COLOURS[index % COLOURS.len()].map(|v| (i16::from(v) + change).clamp(0, 255) as u8)
}

/// Fills a polygon with a smooth edge.
fn fill(photo: &mut [u8], width: usize, polygon: &[Point], colour: [u8; 3]) {
    for (index, pixel) in photo.chunks_exact_mut(3).enumerate() {
        let (x, y) = (index % width, index / width);
        let inside = (0..SAMPLES * SAMPLES)
            .filter(|sample| {
                let part = |i: usize| (i as f32 + 0.5) / SAMPLES as f32;
                contains(
                    polygon,
                    x as f32 + part(sample % SAMPLES),
                    y as f32 + part(sample / SAMPLES),
                )
            })
            .count();
        let cover = inside as f32 / (SAMPLES * SAMPLES) as f32;
        for (value, colour) in pixel.iter_mut().zip(colour) {
            *value = (f32::from(*value) * (1.0 - cover) + f32::from(colour) * cover).round() as u8;
        }
    }
}

/// Whether a line from the point to the right crosses the outline an odd number of times.
fn contains(polygon: &[Point], x: f32, y: f32) -> bool {
    let next = polygon.iter().cycle().skip(1);
    let crossings = polygon
        .iter()
        .zip(next)
        .filter(|(a, b)| (a.y > y) != (b.y > y) && x < a.x + (b.x - a.x) * (y - a.y) / (b.y - a.y));
    crossings.count() % 2 == 1
}
