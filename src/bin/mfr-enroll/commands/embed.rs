//! `embed`: writes the embedding of every photo, for use by other programs.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use gstmfr::detect::Face;
use gstmfr::embed::crop_rgb8;
use ndarray::{Array1, Array2, Axis};

use crate::input::dataset::{self, Listed};
use crate::input::photo::DecodedPhoto;
use crate::input::source::SourceFile;
use crate::npz;
use crate::options::{EmbedOptions, shown};
use crate::output::{self, Output, counted};
use crate::vision::batch::{Embedders, embed_in_order};
use crate::vision::finder::PhotoDetector;

/// Result for a photo: the face and its crop, no face, or an error.
type PhotoOutcome = Result<Option<(Face, Vec<u8>)>, String>;

pub fn run(options: &EmbedOptions) -> Result<ExitCode> {
    npz::check_writable(&options.output)?;
    let embedders = Embedders::load(&options.vision)?;
    let listed = dataset::photos(&options.inputs)?;
    listed.warn_of_videos();
    let Listed {
        sources, failed, ..
    } = listed;
    let mut failures = failed.len();
    for (path, detail) in &failed {
        output::error(&format!("{}: {detail}", path.display()));
    }
    let bar = output::progress("embedding", sources.len());
    let mut faces: Vec<Option<Face>> = Vec::new();
    let mut embeddings = Array2::zeros((0, embedders.dim()));
    embed_in_order(
        &sources,
        &embedders,
        1,
        |finder, source| {
            Ok(match largest_face(finder, source)? {
                Ok(Some((face, crop))) => (Ok(Some(face)), vec![crop]),
                Ok(None) => (Ok(None), Vec::new()),
                Err(detail) => (Err(detail), Vec::new()),
            })
        },
        |index, face, seen| {
            bar.inc(1);
            faces.push(face.unwrap_or_else(|detail| {
                failures += 1;
                let path = sources[index].path().display();
                bar.suspend(|| output::error(&format!("{path}: {detail}")));
                None
            }));
            Ok(embeddings.append(Axis(0), seen.embeddings.view())?)
        },
    )?;
    bar.finish_and_clear();
    let photos = sources.len() + failed.len();
    ensure!(
        failures < photos,
        "none of {} could be read; {} is not written",
        counted(photos, "photo"),
        options.output.display()
    );
    write(options, &sources, &faces, &embeddings)?;
    let mut out = Output::stdout();
    out.line(format_args!(
        "{}: a row for each of {}, {} with a face",
        options.output.display(),
        counted(faces.len(), "photo"),
        embeddings.nrows()
    ))?;
    out.finish()?;
    ensure!(
        failures == 0,
        "{failures} of {} could not be read; the others are in {}",
        counted(photos, "photo"),
        options.output.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn largest_face(finder: &mut PhotoDetector, source: &SourceFile) -> Result<PhotoOutcome> {
    let mut photo = match DecodedPhoto::of(source) {
        Ok(photo) => photo,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let faces = finder.find_upright(&mut photo)?;
    let view = photo.view()?;
    let largest = faces
        .into_iter()
        .max_by(|a, b| a.rect.area().total_cmp(&b.rect.area()));
    Ok(Ok(largest.map(|face| (face, crop_rgb8(&view, face.rect)))))
}

/// Writes a row for each photo; NaN and zeros if there is no face.
fn write(
    options: &EmbedOptions,
    sources: &[SourceFile],
    faces: &[Option<Face>],
    embeddings: &Array2<f32>,
) -> Result<()> {
    let mut rows = Array2::from_elem((faces.len(), embeddings.ncols()), f32::NAN);
    let mut boxes = Array2::zeros((faces.len(), 4));
    let mut confidences = Array1::zeros(faces.len());
    let mut embedded = embeddings.rows().into_iter();
    for (i, face) in faces.iter().enumerate() {
        if let Some(face) = face
            && let Some(embedding) = embedded.next()
        {
            rows.row_mut(i).assign(&embedding);
            let r = face.rect;
            boxes
                .row_mut(i)
                .assign(&ndarray::arr1(&[r.x, r.y, r.width, r.height]));
            confidences[i] = face.confidence;
        }
    }
    let names: Vec<_> = sources.iter().map(|s| shown(s.path())).collect();
    npz::write_file(&options.output, |npz| {
        npz.numbers("embeddings", &rows)?;
        npz.texts("sources", &names)?;
        npz.numbers::<f32, _>("boxes", &boxes)?;
        npz.numbers::<f32, _>("confidences", &confidences)
    })
}
