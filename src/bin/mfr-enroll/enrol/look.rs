//! The candidate faces of a file: detection, quality, and copies with synthetic masks.

use std::fmt::Display;
use std::path::Path;

use anyhow::Result;
use gstmfr::detect::Face;
use gstmfr::embed::crop_rgb8;
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::ImageView;

use super::{FaceCandidate, FileOutcome, Keep, Refused, Usable};
use crate::enrol::disguise::disguises;
use crate::enrol::settle::too_many;
use crate::input::dataset::Item;
use crate::input::photo::DecodedPhoto;
use crate::input::source::SourceFile;
use crate::options::Masks;
use crate::vision::finder::PhotoDetector;
use crate::vision::portrait::{Portrait, thumbnail};
use crate::vision::quality::{Measures, prominent};
use crate::vision::reason::Reason;

/// Minimum probability of a mask for a photo to count as one of a masked face.
const SURELY_MASKED: f32 = 0.9;

/// Maximum number of people in a photo; with more, its person is not searched for.
const MAX_RIVALS: usize = 8;

/// Detects and crops the faces of a file.
pub(super) fn look_at(
    finder: &mut PhotoDetector,
    item: &Item,
    masks: &Masks,
    keep: Keep,
) -> Result<FileOutcome<FaceCandidate>> {
    match &item.source {
        SourceFile::Photo(path) => Ok(match DecodedPhoto::load(path) {
            Ok(mut photo) => {
                let faces = finder.find_upright(&mut photo)?;
                usable_faces(finder, &photo, &faces, masks, keep)?.into()
            }
            Err(error) => unreadable(&error).into(),
        }),
        SourceFile::Video(path) => watch(finder, path, masks, keep),
    }
}

fn unreadable(error: &dyn Display) -> Result<Usable<FaceCandidate>, Refused> {
    Err((Reason::Unreadable, error.to_string()).into())
}

#[cfg(feature = "plugin")]
fn watch(
    finder: &mut PhotoDetector,
    path: &Path,
    masks: &Masks,
    keep: Keep,
) -> Result<FileOutcome<FaceCandidate>> {
    let frames = crate::input::video::MAX_FRAMES;
    let watched = crate::input::video::watch(path, frames, |_, photo| {
        let faces = finder.find(&photo.view()?)?;
        usable_faces(finder, photo, &faces, masks, keep)
    })?;
    let error = watched.error.map(|error| error.to_string());
    Ok(match error {
        Some(error) if watched.frames.is_empty() => unreadable(&error).into(),
        error => FileOutcome {
            shots: watched
                .frames
                .into_iter()
                .map(|(time, outcome)| (Some(time), outcome))
                .collect(),
            error,
        },
    })
}

#[cfg(not(feature = "plugin"))]
fn watch(
    _: &mut PhotoDetector,
    path: &Path,
    _: &Masks,
    _: Keep,
) -> Result<FileOutcome<FaceCandidate>> {
    let error = match std::fs::metadata(path) {
        Ok(_) => crate::input::error::PhotoError::NoGStreamer,
        Err(error) => error.into(),
    };
    Ok(unreadable(&error).into())
}

/// The candidate faces of a photo for its person, or why there is none.
fn usable_faces(
    finder: &mut PhotoDetector,
    photo: &DecodedPhoto,
    faces: &[Face],
    masks: &Masks,
    keep: Keep,
) -> Result<Result<Usable<FaceCandidate>, Refused>> {
    let view = photo.view()?;
    let faces = prominent(faces, photo.width, photo.height);
    let refused = |refusal, measures| {
        let rects: Vec<_> = faces.iter().map(|face| face.rect).collect();
        let portrait = portrait(photo, &view, &rects, measures, keep);
        Err(Refused { refusal, portrait })
    };
    if faces.is_empty() {
        let detail = format!("no face in {}×{} pixels", photo.width, photo.height);
        return Ok(refused((Reason::NoFace, detail), None));
    }
    if faces.len() > MAX_RIVALS {
        return Ok(refused(too_many(faces.len()), None));
    }
    let mut usable = Vec::new();
    for face in &faces {
        let crop = crop_rgb8(&view, face.rect);
        let measures = Measures::of(face, &crop);
        match measures.check() {
            Ok(()) => {
                let mask = finder.mask(&crop)?;
                let is_masked = mask.is_worn() && mask.confidence() >= SURELY_MASKED;
                // A face that wears a real mask needs no synthetic ones.
                let disguises = match is_masked {
                    true => Vec::new(),
                    false => disguises(finder, photo, face, masks, keep.thumbnails)?,
                };
                usable.push(FaceCandidate {
                    crop,
                    portrait: portrait(photo, &view, &[face.rect], Some(measures), keep),
                    is_masked,
                    disguises,
                });
            }
            Err(refusal) if faces.len() == 1 => return Ok(refused(refusal, Some(measures))),
            // One of several faces is unusable, and could be the person's.
            Err(_) => return Ok(refused(too_many(faces.len()), None)),
        }
    }
    Ok(Ok(Usable {
        faces: usable,
        sha256: photo.sha256,
    }))
}

fn portrait(
    photo: &DecodedPhoto,
    view: &ImageView,
    faces: &[Rect],
    measures: Option<Measures>,
    keep: Keep,
) -> Portrait {
    let thumbnail = keep.thumbnails.then(|| thumbnail(view, faces)).flatten();
    Portrait {
        measures,
        thumbnail,
        rotated: photo.rotated,
    }
}
