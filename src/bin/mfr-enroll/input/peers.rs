//! Photos of people as other programs keep them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gstmfr::io::files::read_regular;
use serde::Deserialize;

use crate::input::source::SourceFile;
use crate::output;

/// A program whose photos are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A folder of photos, each named after its person.
    FaceRecognition,
    /// `faces/<name>/*.webp`. The folder `train` there holds faces that nobody has named.
    Frigate,
    /// A folder of photos for each subject, or photos named by their id beside `faces.json`, the list of
    /// `GET /api/v1/recognition/faces`.
    CompreFace,
}

/// The folder in which Frigate keeps faces without a name.
const UNNAMED: &str = "train";

/// The list of a CompreFace export, and its largest size.
const LIST: &str = "faces.json";
const MOST_BYTES: u64 = 256 << 20;

#[derive(Deserialize)]
struct Faces {
    faces: Vec<Face>,
}

#[derive(Deserialize)]
struct Face {
    image_id: String,
    subject: String,
}

/// The photos with the names of their people. Those whose real path is outside the folder are refused.
pub fn photos(program: Program, root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let shown = || root.display().to_string();
    ensure!(root.is_dir(), "{}: expected a folder of photos", shown());
    let files = match program {
        Program::FaceRecognition => flat(root)?,
        Program::Frigate => {
            let faces = root.join("faces");
            let root = if faces.is_dir() { &faces } else { root };
            by_folder(root, &[UNNAMED])?
        }
        Program::CompreFace if root.join(LIST).exists() => by_list(root)?,
        Program::CompreFace => by_folder(root, &[])?,
    };
    ensure!(
        !files.is_empty(),
        "{}: no photo of anybody, expected {}",
        shown(),
        layout(program)
    );
    let real = root.canonicalize().with_context(shown)?;
    for (_, path) in &files {
        let own = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        if !own.starts_with(&real) {
            bail!(
                "{} is a symbolic link that leaves {}, and is not read",
                path.display(),
                shown()
            );
        }
    }
    Ok(files)
}

fn layout(program: Program) -> &'static str {
    match program {
        Program::FaceRecognition => "DIR/<name>.jpg",
        Program::Frigate => "faces/<name>/*.webp",
        Program::CompreFace => "DIR/<subject>/<photo>, or faces.json with DIR/<image_id>.jpg",
    }
}

/// What a folder holds, sorted by name, without hidden files.
fn inside(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if !name.as_encoded_bytes().starts_with(b".") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_photo(path: &Path) -> bool {
    matches!(SourceFile::of(path), Some(SourceFile::Photo(_))) && path.is_file()
}

/// The name of a file without its ending, or of a folder.
fn name(path: &Path) -> Result<String> {
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    let name = name.and_then(|name| name.to_str());
    name.map(str::to_owned)
        .with_context(|| format!("{}: the name is not UTF-8; rename it", path.display()))
}

fn flat(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let paths = inside(root)?.into_iter().filter(|path| is_photo(path));
    paths.map(|path| Ok((name(&path)?, path))).collect()
}

fn by_folder(root: &Path, left_out: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for folder in inside(root)?.into_iter().filter(|path| path.is_dir()) {
        let person = name(&folder)?;
        if left_out.contains(&person.as_str()) {
            output::note(&format!(
                "{}: faces that nobody has named; left out",
                folder.display()
            ));
            continue;
        }
        let photos = inside(&folder)?.into_iter().filter(|path| is_photo(path));
        files.extend(photos.map(|path| (person.clone(), path)));
    }
    Ok(files)
}

fn by_list(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = root.join(LIST);
    let shown = || list.display().to_string();
    let bytes = read_regular(&list, MOST_BYTES).with_context(shown)?;
    let Faces { faces } = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{}: expected {{\"faces\": [{{\"image_id\", \"subject\"}}]}}",
            shown()
        )
    })?;
    // Photos by id, in the folder itself or in one below it.
    let mut photos = flat(root)?;
    for folder in inside(root)?.into_iter().filter(|path| path.is_dir()) {
        photos.extend(flat(&folder)?);
    }
    photos.sort();
    let mut files = Vec::new();
    for face in faces {
        match photos.binary_search_by(|(id, _)| id.cmp(&face.image_id)) {
            Ok(at) => files.push((face.subject, photos[at].1.clone())),
            Err(_) => output::warning(&format!(
                "{}: there is no photo {:?}, of {:?}",
                shown(),
                face.image_id,
                face.subject
            )),
        }
    }
    Ok(files)
}
