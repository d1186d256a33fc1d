//! `identify`: detects the faces of photos and identifies them.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use gstmfr::detect::Face;
use gstmfr::embed::crop_rgb8;
use gstmfr::embed::mask::{self, MaskNet};
use gstmfr::gallery::Gallery;
use serde::Serialize;

use crate::input::dataset::{self, Listed};
use crate::input::photo::DecodedPhoto;
use crate::input::source::SourceFile;
use crate::options::{IdentifyOptions, shown};
use crate::output::{self, Output, plain};
use crate::people::{self, NamedAnswer, NamedCandidate};
use crate::vision::batch::Embedders;
use crate::vision::finder::PhotoDetector;
use crate::workers;

/// The size of a photo that could be read, its faces and their crops.
struct PhotoFaces {
    width: usize,
    height: usize,
    rotated: u16,
    faces: Vec<(Face, Vec<u8>)>,
}

/// One line of the JSON output, whose field names are a public interface; coordinates are pixels of the upright
/// photo.
#[derive(Debug, Serialize)]
struct PhotoLine<'a> {
    path: &'a str,
    width: usize,
    height: usize,
    /// Degrees of clockwise rotation in addition to the file's orientation; left out if 0.
    #[serde(skip_serializing_if = "is_zero")]
    rotated: u16,
    faces: Vec<FaceLine>,
}

#[derive(Debug, Serialize)]
struct FaceLine {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    confidence: f32,
    landmarks: [[f32; 2]; 5],
    mask: MaskLine,
    #[serde(flatten)]
    identity: Option<IdentityLine>,
}

#[derive(Debug, Serialize)]
struct MaskLine {
    label: &'static str,
    confidence: f32,
}

#[derive(Debug, Serialize)]
struct IdentityLine {
    label: String,
    similarity: f32,
    confidence_identity: f32,
    candidates: Vec<NamedCandidate>,
}

pub fn run(options: &IdentifyOptions) -> Result<ExitCode> {
    let gallery = match &options.database {
        Some(database) => Some(Gallery::load(database)?),
        None => None,
    };
    let contract = gallery.as_ref().and_then(Gallery::contract);
    let vision = match gallery {
        Some(_) => options.vision.of_gallery(contract)?,
        None => options.vision.clone(),
    };
    let known = match (gallery, &options.database) {
        (Some(gallery), Some(database)) => {
            let embedders = Embedders::load(&vision)?;
            people::check(&gallery, database, &embedders)?;
            Some((gallery, embedders))
        }
        _ => None,
    };
    let listed = dataset::photos(&options.inputs)?;
    listed.warn_of_videos();
    let Listed {
        sources, failed, ..
    } = listed;
    let mut failures = failed.len();
    for (path, detail) in &failed {
        output::error(&format!("{}: {detail}", path.display()));
    }
    let mut net = MaskNet::load()?;
    let mut out = Output::stdout();
    workers::in_order(
        &sources,
        options.vision.jobs,
        || Ok(PhotoDetector::new(&options.vision)?),
        |finder, source| {
            let seen = look(finder, source)?;
            Ok(match (seen, &known) {
                (Ok(seen), Some((_, embedders))) => {
                    let crops: Vec<_> = seen.faces.iter().map(|(_, crop)| crop).collect();
                    let embedded = embedders.embed(&crops)?;
                    Ok((seen, Some(embedded)))
                }
                (seen, _) => seen.map(|seen| (seen, None)),
            })
        },
        |index, seen| {
            let path = shown(sources[index].path());
            let (seen, embedded) = match seen {
                Ok(seen) => seen,
                Err(detail) => {
                    failures += 1;
                    output::error(&format!("{path}: {detail}"));
                    return Ok(());
                }
            };
            let (masks, answers) = match (embedded, &known) {
                (Some(embedded), Some((gallery, _))) => {
                    let answers = people::in_one_photo(gallery, &embedded);
                    (embedded.masks, answers)
                }
                _ => {
                    let crops = seen.faces.iter();
                    let see = crops.map(|(_, crop)| net.see_rgb8(crop));
                    (see.collect::<Result<_, _>>()?, Vec::new())
                }
            };
            let line = PhotoLine {
                path: &path,
                width: seen.width,
                height: seen.height,
                rotated: seen.rotated,
                faces: face_lines(&seen.faces, &masks, answers),
            };
            if options.json {
                out.json(&line)?;
            } else {
                say(&mut out, &line)?;
            }
            Ok(())
        },
    )?;
    out.finish()?;
    ensure!(
        failures == 0,
        "{} of {} could not be read",
        failures,
        output::counted(sources.len() + failed.len(), "photo")
    );
    Ok(ExitCode::SUCCESS)
}

fn look(finder: &mut PhotoDetector, source: &SourceFile) -> Result<Result<PhotoFaces, String>> {
    let mut photo = match DecodedPhoto::of(source) {
        Ok(photo) => photo,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let faces = finder.find_upright(&mut photo)?;
    let view = photo.view()?;
    let faces = faces
        .into_iter()
        .map(|face| (face, crop_rgb8(&view, face.rect)))
        .collect();
    Ok(Ok(PhotoFaces {
        width: photo.width,
        height: photo.height,
        rotated: photo.rotated,
        faces,
    }))
}

fn is_zero(degrees: &u16) -> bool {
    *degrees == 0
}

fn face_lines(
    faces: &[(Face, Vec<u8>)],
    masks: &[mask::Mask],
    answers: Vec<NamedAnswer>,
) -> Vec<FaceLine> {
    let mut answers = answers.into_iter();
    faces
        .iter()
        .zip(masks)
        .map(|((face, _), mask)| FaceLine {
            x: face.rect.x,
            y: face.rect.y,
            w: face.rect.width,
            h: face.rect.height,
            confidence: face.confidence,
            landmarks: face.landmarks.0.map(|p| [p.x, p.y]),
            mask: MaskLine {
                label: mask.label(),
                confidence: mask.confidence(),
            },
            identity: answers.next().map(identity),
        })
        .collect()
}

fn identity(answer: NamedAnswer) -> IdentityLine {
    IdentityLine {
        label: answer.label().to_owned(),
        similarity: answer.similarity,
        confidence_identity: answer.confidence,
        candidates: answer.candidates,
    }
}

/// Prints the line as text.
fn say(out: &mut Output, line: &PhotoLine) -> Result<()> {
    let path = plain(line.path);
    if line.faces.is_empty() {
        out.line(format_args!("{path}: no face"))?;
    }
    for face in &line.faces {
        let masked = if face.mask.label == mask::WITH_MASK {
            "masked, "
        } else {
            ""
        };
        let rotated = match line.rotated {
            0 => String::new(),
            degrees => format!(" in the photo rotated by {degrees}°"),
        };
        let place = format!(
            "{masked}{:.0}×{:.0} at {:.0},{:.0}{rotated}",
            face.w, face.h, face.x, face.y
        );
        match &face.identity {
            None => out.line(format_args!(
                "{path}: face {place}, confidence {:.2}",
                face.confidence
            ))?,
            Some(who) => {
                let near = match who.candidates.first() {
                    Some(first) if first.label != who.label => {
                        format!(", most like {}", plain(&first.label))
                    }
                    _ => String::new(),
                };
                out.line(format_args!(
                    "{path}: {} (similarity {:.3}{near}) {place}",
                    plain(&who.label),
                    who.similarity,
                ))?;
            }
        }
    }
    Ok(())
}
