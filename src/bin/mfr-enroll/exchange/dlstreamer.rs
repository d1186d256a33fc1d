//! The gallery of DL Streamer: `gallery.json` and a `.tensor` file for each embedding, raw little-endian numbers of single
//! precision. What we add stands in a file of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gstmfr::gallery::{Contract, Entry};
use gstmfr::io::files::read_regular;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use super::{Exchanged, MOST_BYTES, MOST_NUMBERS, Origin, people};
use crate::new_folder::NewFolder;

/// The file that names people and files.
const INDEX: &str = "gallery.json";

/// The file with what DL Streamer does not know, and the folder of the tensors.
const OURS: &str = "mfr-gallery.json";
const TENSORS: &str = "features";

/// A person in the index.
#[derive(Debug, Serialize, Deserialize)]
struct Person {
    name: String,
    features: Vec<String>,
}

/// The two forms of the index.
#[derive(Deserialize)]
#[serde(untagged)]
enum Index {
    List(Vec<Person>),
    Object(BTreeMap<String, Features>),
}

#[derive(Deserialize)]
struct Features {
    features: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Ours {
    contract: Contract,
    /// By the path in the index.
    origins: BTreeMap<String, Origin>,
}

/// Fills a folder.
pub fn write(folder: &NewFolder, entries: &[Entry], contract: &Contract) -> Result<()> {
    let mut index = Vec::new();
    let mut origins = BTreeMap::new();
    for (number, (name, own)) in people(entries).enumerate() {
        let mut features = Vec::new();
        for (i, entry) in own.iter().enumerate() {
            // Numbers, because a name may be no name of a file.
            let file = format!("{number}_{i}.tensor");
            let bytes: Vec<u8> = entry
                .embedding
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect();
            folder.write(Path::new(TENSORS), &file, &bytes)?;
            let path = format!("{TENSORS}/{file}");
            origins.insert(path.clone(), Origin::of(entry));
            features.push(path);
        }
        index.push(Person {
            name: name.to_owned(),
            features,
        });
    }
    let contract = contract.clone();
    let ours = serde_json::to_vec(&Ours { contract, origins })?;
    folder.write(Path::new(""), OURS, &ours)?;
    let mut text = Vec::new();
    writeln!(text, "{}", serde_json::to_string_pretty(&index)?)?;
    folder.write(Path::new(""), INDEX, &text)
}

/// Names and paths of an index, in order.
pub fn parse_index(bytes: &[u8]) -> Result<Vec<(String, Vec<String>)>> {
    let index: Index = serde_json::from_slice(bytes).map_err(|_| {
        anyhow::anyhow!(
            "expected {{\"name\": {{\"features\": [\"path\", …]}}}} or [{{\"name\", \"features\"}}]"
        )
    })?;
    Ok(match index {
        Index::List(people) => people.into_iter().map(|p| (p.name, p.features)).collect(),
        Index::Object(people) => people.into_iter().map(|(n, p)| (n, p.features)).collect(),
    })
}

/// Checks a path of an index, which may not lead out of the index's folder.
pub fn inside(path: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    let is_inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    ensure!(
        is_inside && path.file_name().is_some(),
        "{} is not in the folder of the gallery, and is not read",
        path.display()
    );
    Ok(path.to_owned())
}

/// Reads a folder, or an index.
pub fn read(path: &Path) -> Result<Exchanged> {
    let index = match path.is_dir() {
        true => path.join(INDEX),
        false => path.to_owned(),
    };
    let shown = || index.display().to_string();
    let bytes = read_regular(&index, MOST_BYTES).with_context(shown)?;
    let people = parse_index(&bytes).with_context(shown)?;
    let parent = index.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let mut ours = ours(folder)?;
    // With symbolic links resolved, which must not lead out of the folder either.
    let root = folder.canonicalize().with_context(shown)?;
    let mut found = Exchanged::default();
    for (name, features) in people {
        for path in features {
            let file = root.join(inside(&path).with_context(shown)?);
            let real = file
                .canonicalize()
                .with_context(|| file.display().to_string())?;
            if !real.starts_with(&root) {
                bail!(
                    "{}: {} is a symbolic link that leaves the folder, and is not read",
                    shown(),
                    file.display()
                );
            }
            let embedding = tensor(&real).with_context(|| file.display().to_string())?;
            let origin = ours.as_mut().and_then(|ours| ours.origins.remove(&path));
            found
                .entries
                .push(Origin::entry(origin, name.clone(), embedding)?);
        }
    }
    found.contract = ours.map(|ours| ours.contract);
    Ok(found)
}

/// The file with the contract, if there is one.
fn ours(folder: &Path) -> Result<Option<Ours>> {
    let path = folder.join(OURS);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let bytes = read_regular(&path, MOST_BYTES).with_context(|| path.display().to_string())?;
    let ours = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
    Ok(Some(ours))
}

fn tensor(path: &Path) -> Result<Array1<f32>> {
    let bytes = read_regular(path, MOST_NUMBERS as u64 * 4)?;
    let (values, rest) = bytes.as_chunks::<4>();
    ensure!(
        rest.is_empty() && !values.is_empty(),
        "expected numbers of four bytes each, found {} bytes",
        bytes.len()
    );
    Ok(values.iter().map(|&v| f32::from_le_bytes(v)).collect())
}
