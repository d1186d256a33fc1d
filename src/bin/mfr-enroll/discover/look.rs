//! The faces of a file, before they are embedded.

use std::time::Duration;

use anyhow::Result;
use gstmfr::detect::Face;
use gstmfr::embed::crop_rgb8;

use super::{FoundFace, FoundFile, FoundImage};
use crate::input::photo::DecodedPhoto;
use crate::input::source::SourceFile;
use crate::vision::finder::PhotoDetector;
use crate::vision::portrait::{Portrait, thumbnail};
use crate::vision::quality::Measures;

/// A face that is not embedded yet, and its crop, as returned by `embed::crop_rgb8`, if it is good enough.
type PendingFace = (FoundFace, Option<Vec<u8>>);

/// Detects and crops the faces of a file.
pub fn look_at(
    finder: &mut PhotoDetector,
    source: &SourceFile,
    thumbnails: bool,
) -> Result<FoundFile<PendingFace>> {
    match source {
        SourceFile::Photo(path) => {
            let mut photo = match DecodedPhoto::load(path) {
                Ok(photo) => photo,
                Err(error) => return Ok(FoundFile::failed(error.to_string())),
            };
            let faces = finder.find_upright(&mut photo)?;
            let images = vec![image(finder, &photo, None, &faces, thumbnails)?];
            Ok(FoundFile {
                images,
                error: None,
            })
        }
        SourceFile::Video(path) => {
            let watched = super::crops::watch(path, |time, photo| {
                let faces = finder.find(&photo.view()?)?;
                image(finder, photo, Some(time), &faces, thumbnails)
            })?;
            Ok(FoundFile {
                images: watched.0,
                error: watched.1,
            })
        }
    }
}

fn image(
    finder: &mut PhotoDetector,
    photo: &DecodedPhoto,
    time: Option<Duration>,
    faces: &[Face],
    thumbnails: bool,
) -> Result<FoundImage<PendingFace>> {
    let faces = faces.iter();
    let faces = faces.map(|face| pending(finder, photo, face, thumbnails));
    Ok(FoundImage {
        time,
        faces: faces.collect::<Result<_>>()?,
    })
}

fn pending(
    finder: &mut PhotoDetector,
    photo: &DecodedPhoto,
    face: &Face,
    thumbnails: bool,
) -> Result<PendingFace> {
    let view = photo.view()?;
    let crop = crop_rgb8(&view, face.rect);
    let measures = Measures::of(face, &crop);
    let is_masked = finder.mask(&crop)?.is_worn();
    let face = FoundFace {
        rect: [face.rect.x, face.rect.y, face.rect.width, face.rect.height],
        is_masked,
        portrait: Portrait {
            measures: Some(measures),
            thumbnail: thumbnails.then(|| thumbnail(&view, &[face.rect])).flatten(),
            rotated: photo.rotated,
        },
        embedding: None,
    };
    Ok((face, measures.check().is_ok().then_some(crop)))
}
