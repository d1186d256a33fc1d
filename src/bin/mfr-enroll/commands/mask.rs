//! `mask`: writes copies of photos in which every face wears a mask.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use gstmfr::detect::Face;
use gstmfr::paint;
use serde::Serialize;

use crate::input::dataset::{self, Listed};
use crate::input::photo::{DecodedPhoto, png};
use crate::input::source::SourceFile;
use crate::options::{MaskOptions, MaskedCopy, shown};
use crate::output::{self, Output, plain};
use crate::vision::finder::PhotoDetector;
use crate::workers;

/// A photo and the path of its copies: the output folder, the folders below the one that the user
/// passed, and a name without extension that is unique among the photos.
struct Job {
    source: SourceFile,
    target: PathBuf,
}

/// Result for a photo.
struct Painted {
    faces: usize,
    copies: Vec<Written>,
}

#[derive(Debug, Serialize)]
struct Written {
    path: String,
    mask: &'static str,
}

/// One line of the JSON output.
#[derive(Debug, Serialize)]
struct CopiesLine<'a> {
    path: &'a str,
    faces: usize,
    copies: &'a [Written],
}

pub fn run(options: &MaskOptions) -> Result<ExitCode> {
    let mut jobs = Vec::new();
    let mut failures = 0;
    let mut taken = HashSet::new();
    for input in &options.inputs {
        let listed = dataset::photos(std::slice::from_ref(input))?;
        listed.warn_of_videos();
        let Listed {
            sources, failed, ..
        } = listed;
        for (path, detail) in &failed {
            failures += 1;
            output::error(&format!("{}: {detail}", path.display()));
        }
        for source in sources {
            let target = target(&options.output, input, source.path(), &mut taken);
            jobs.push(Job { source, target });
        }
    }
    let count = jobs.len() + failures;
    let mut out = Output::stdout();
    workers::in_order(
        &jobs,
        options.vision.jobs,
        || Ok(PhotoDetector::new(&options.vision)?),
        |finder, job| work(finder, job, options),
        |index, painted| {
            let path = shown(jobs[index].source.path());
            let painted = match painted {
                Ok(painted) => painted,
                Err(detail) => {
                    failures += 1;
                    output::error(&format!("{path}: {detail}"));
                    return Ok(());
                }
            };
            if painted.faces == 0 {
                output::warning(&format!("{path}: no face was found, nothing is written"));
            }
            say(&mut out, options.json, &path, &painted)
        },
    )?;
    out.finish()?;
    ensure!(
        failures == 0,
        "{failures} of {} could not be painted on",
        output::counted(count, "photo")
    );
    Ok(ExitCode::SUCCESS)
}

/// Path of a photo's copies, without extension.
fn target(output: &Path, input: &Path, photo: &Path, taken: &mut HashSet<PathBuf>) -> PathBuf {
    let below = photo.strip_prefix(input).ok();
    // A file that the user passed itself has no folders in between.
    let relative = below.filter(|p| !p.as_os_str().is_empty()).map_or_else(
        || PathBuf::from(photo.file_name().unwrap_or_default()),
        PathBuf::from,
    );
    // ana.jpg and ana.png need different targets, as do files of the same name in two folders.
    let short = output.join(relative.with_extension(""));
    let full = output.join(&relative);
    let numbered = (2..).map(|n| with_ending(&full, &format!("-{n}")));
    let free = [short, full.clone()]
        .into_iter()
        .chain(numbered)
        .find(|path| taken.insert(path.clone()));
    free.unwrap_or(full)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// Paints and writes all copies of a photo.
fn work(
    finder: &mut PhotoDetector,
    job: &Job,
    options: &MaskOptions,
) -> Result<Result<Painted, String>> {
    let mut photo = match DecodedPhoto::of(&job.source) {
        Ok(photo) => photo,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut faces = finder.find_upright(&mut photo)?;
    // Larger faces are nearer and are painted last, because they are in front.
    faces.sort_by(|a, b| a.rect.area().total_cmp(&b.rect.area()));
    let copies = if faces.is_empty() {
        Ok(Vec::new())
    } else {
        copies(&photo, &faces, &job.target, options).map_err(|error| format!("{error:#}"))
    };
    Ok(copies.map(|copies| Painted {
        faces: faces.len(),
        copies,
    }))
}

fn copies(
    photo: &DecodedPhoto,
    faces: &[Face],
    target: &Path,
    options: &MaskOptions,
) -> Result<Vec<Written>> {
    let mut written: Vec<Written> = Vec::new();
    for copy in options.masks.copies(&photo.sha256) {
        let kind = copy.mask.name();
        let ending = match written.iter().filter(|w| w.mask == kind).count() {
            0 => format!("-{kind}.png"),
            earlier => format!("-{kind}-{}.png", earlier + 1),
        };
        let path = with_ending(target, &ending);
        let pixels = masked(photo, faces, copy)?;
        write(&path, &png(&pixels, photo.width, photo.height)?)
            .with_context(|| path.display().to_string())?;
        written.push(Written {
            path: shown(&path),
            mask: kind,
        });
    }
    Ok(written)
}

/// The pixels of a photo with a mask on every face.
fn masked(photo: &DecodedPhoto, faces: &[Face], copy: MaskedCopy) -> Result<Vec<u8>> {
    let mut pixels = photo.pixels().to_vec();
    for (i, face) in faces.iter().enumerate() {
        let seed = copy.seed.wrapping_add(i as u64);
        paint::paint(
            &mut pixels,
            photo.width,
            photo.height,
            face,
            copy.mask,
            seed,
        )?;
    }
    Ok(pixels)
}

/// Writes a new file, under a temporary name until it is complete.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let is_there = || anyhow!("the file is there already, and is kept");
    ensure!(path.symlink_metadata().is_err(), is_there());
    let mut file = tempfile::Builder::new()
        .prefix(".mfr-enroll-")
        .suffix(".tmp")
        // Readable like any image file, as far as the umask allows.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(is_there()),
        Err(error) => Err(error.error.into()),
    }
}

fn say(out: &mut Output, json: bool, path: &str, painted: &Painted) -> Result<()> {
    if json {
        let line = CopiesLine {
            path,
            faces: painted.faces,
            copies: &painted.copies,
        };
        return Ok(out.json(&line)?);
    }
    for copy in &painted.copies {
        out.line(format_args!(
            "{}: {}, {} of {}",
            plain(&copy.path),
            copy.mask,
            output::counted(painted.faces, "face"),
            plain(path)
        ))?;
    }
    Ok(())
}
