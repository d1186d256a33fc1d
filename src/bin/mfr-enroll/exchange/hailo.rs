//! The gallery of Hailo's TAPPAS: a list of people with their embeddings as matrices. What we add stands beside the key that
//! Hailo's reader looks for.

use std::io::{self, Write};

use anyhow::{Context, Result, ensure};
use gstmfr::gallery::{Contract, Entry};
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use super::numbers::decimals;
use super::{Exchanged, Origin, people};

#[derive(Serialize, Deserialize)]
struct Element<N> {
    #[serde(rename = "FaceRecognition")]
    face: Face<N>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mfr: Option<Ours>,
}

#[derive(Serialize, Deserialize)]
struct Face<N> {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Embeddings")]
    embeddings: Vec<Embedding<N>>,
}

#[derive(Serialize, Deserialize)]
struct Embedding<N> {
    #[serde(rename = "HailoMatrix")]
    matrix: Matrix<N>,
}

#[derive(Serialize, Deserialize)]
struct Matrix<N> {
    width: usize,
    height: usize,
    features: usize,
    data: Vec<N>,
}

/// What Hailo's format does not have.
#[derive(Serialize, Deserialize)]
struct Ours {
    /// Of the first person only, since it is the same for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contract: Option<Contract>,
    /// For each embedding.
    origins: Vec<Origin>,
}

pub fn write(out: &mut impl Write, entries: &[Entry], contract: &Contract) -> io::Result<()> {
    write!(out, "[")?;
    for (i, (name, own)) in people(entries).enumerate() {
        let embedding = |entry: &Entry| Embedding {
            matrix: Matrix {
                width: 1,
                height: 1,
                features: entry.embedding.len(),
                data: decimals(&entry.embedding),
            },
        };
        let element = Element {
            face: Face {
                name: name.to_owned(),
                embeddings: own.iter().map(embedding).collect(),
            },
            mfr: Some(Ours {
                contract: (i == 0).then(|| contract.clone()),
                origins: own.iter().map(Origin::of).collect(),
            }),
        };
        let comma = if i > 0 { "," } else { "" };
        write!(out, "{comma}\n{}", serde_json::to_string(&element)?)?;
    }
    writeln!(out, "]")
}

pub fn read(bytes: &[u8]) -> Result<Exchanged> {
    let elements: Vec<Element<f32>> = serde_json::from_slice(bytes).context(
        "expected [{\"FaceRecognition\": {\"Name\", \"Embeddings\": [{\"HailoMatrix\": {…}}]}}]",
    )?;
    let mut found = Exchanged::default();
    for Element { face, mfr } in elements {
        let mut origins = None;
        if let Some(ours) = mfr {
            found.contract = found.contract.or(ours.contract);
            ensure!(
                ours.origins.len() == face.embeddings.len(),
                "{:?} has {} embeddings and {} origins of them",
                face.name,
                face.embeddings.len(),
                ours.origins.len()
            );
            origins = Some(ours.origins.into_iter());
        }
        for Embedding { matrix } in face.embeddings {
            let size = matrix.width.checked_mul(matrix.height);
            let size = size.and_then(|size| size.checked_mul(matrix.features));
            ensure!(
                size == Some(matrix.data.len()),
                "a matrix of {:?} is {}×{}×{} and has {} numbers",
                face.name,
                matrix.width,
                matrix.height,
                matrix.features,
                matrix.data.len()
            );
            let origin = origins.as_mut().and_then(Iterator::next);
            let embedding = Array1::from(matrix.data);
            found
                .entries
                .push(Origin::entry(origin, face.name.clone(), embedding)?);
        }
    }
    Ok(found)
}
