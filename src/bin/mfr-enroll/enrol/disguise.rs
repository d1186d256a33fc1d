//! Masked copies of an enrolled face, as a camera would see them.

use anyhow::Result;
use gstmfr::detect::Face;
use gstmfr::embed::crop_rgb8;
use gstmfr::frame::geometry::{Landmarks, Point, Rect};
use gstmfr::frame::image::ImageView;
use gstmfr::paint::{self, MaskType};

use crate::input::photo::DecodedPhoto;
use crate::options::{MaskedCopy, Masks};
use crate::vision::finder::PhotoDetector;
use crate::vision::portrait::thumbnail;

/// Width and height, relative to the face, of the part of the photo that is painted on. It contains mask, straps
/// and the crop for the network.
const SURROUNDINGS: f32 = 2.6;

/// Overlap (IoU) from which a face found in the copy counts as the one that was painted on.
const SAME_FACE: f32 = 0.4;

/// A face with a synthetic mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Disguise {
    pub mask: MaskType,
    /// The crop, as returned by `embed::crop_rgb8`.
    pub crop: Vec<u8>,
    /// A JPEG, if requested.
    pub thumbnail: Option<Vec<u8>>,
}

/// A part of a photo, packed RGB, and the face in its pixels.
struct FaceSurroundings {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
    face: Face,
}

/// The masked copies of a face. The box is the one that the detector returns for the masked face, as it
/// will in a pipeline; if it finds none, the box of the bare face is used.
pub fn disguises(
    finder: &mut PhotoDetector,
    photo: &DecodedPhoto,
    face: &Face,
    masks: &Masks,
    thumbnails: bool,
) -> Result<Vec<Disguise>> {
    let part = FaceSurroundings::around(photo, face);
    let copies = masks.copies(&photo.sha256);
    copies
        .map(|copy| disguise(finder, &part, copy, thumbnails))
        .collect()
}

fn disguise(
    finder: &mut PhotoDetector,
    part: &FaceSurroundings,
    copy: MaskedCopy,
    thumbnails: bool,
) -> Result<Disguise> {
    let (width, height, face) = (part.width, part.height, &part.face);
    let mut pixels = part.pixels.clone();
    paint::paint(&mut pixels, width, height, face, copy.mask, copy.seed)?;
    let view = ImageView::rgb(&pixels, width, height)?;
    let found = finder.find_like(&view, face.rect)?.into_iter();
    let rect = found
        .map(|found| (found.rect.iou(&face.rect), found.rect))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(iou, _)| *iou >= SAME_FACE)
        .map_or(face.rect, |(_, rect)| rect);
    Ok(Disguise {
        mask: copy.mask,
        crop: crop_rgb8(&view, rect),
        thumbnail: thumbnails.then(|| thumbnail(&view, &[face.rect])).flatten(),
    })
}

impl FaceSurroundings {
    fn around(photo: &DecodedPhoto, face: &Face) -> Self {
        let whole = Rect::new(0.0, 0.0, photo.width as f32, photo.height as f32);
        let part = face.rect.scaled(SURROUNDINGS).intersection(&whole);
        let (left, top) = (part.x as usize, part.y as usize);
        let right = (part.right().ceil() as usize).min(photo.width);
        let bottom = (part.bottom().ceil() as usize).min(photo.height);
        let rows = photo.pixels().chunks_exact(photo.width * 3);
        let rows = rows.take(bottom).skip(top);
        let pixels = rows.flat_map(|row| &row[left * 3..right * 3]).copied();
        let moved = |p: Point| Point {
            x: p.x - left as f32,
            y: p.y - top as f32,
        };
        Self {
            pixels: pixels.collect(),
            width: right - left,
            height: bottom - top,
            face: Face {
                rect: face.rect.translated(-(left as f32), -(top as f32)),
                confidence: face.confidence,
                landmarks: Landmarks(face.landmarks.0.map(moved)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_around_a_face_ends_at_the_edges_of_the_photo() {
        let (width, height) = (100, 80);
        let pixels: Vec<u8> = (0..width * height)
            .flat_map(|i| [(i % width) as u8, (i / width) as u8, 0])
            .collect();
        let photo = DecodedPhoto::from_rgb(pixels, width, height);
        let corner = Point { x: 70.0, y: 10.0 };
        let face = Face {
            rect: Rect::new(60.0, 5.0, 20.0, 30.0),
            confidence: 1.0,
            landmarks: Landmarks([corner; 5]),
        };
        let part = FaceSurroundings::around(&photo, &face);
        // The part extends 26 to either side and 39 up and down of (70, 20), and is cut off above and at the right.
        assert_eq!((part.width, part.height), (96 - 44, 59));
        assert_eq!(part.pixels.len(), part.width * part.height * 3);
        assert_eq!(part.pixels[..3], [44, 0, 0]);
        assert_eq!(part.face.rect, Rect::new(16.0, 5.0, 20.0, 30.0));
        assert_eq!(part.face.landmarks.0[0], Point { x: 26.0, y: 10.0 });
    }
}
