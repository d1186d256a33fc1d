//! Formats in which galleries are exchanged with other programs.

pub mod dlstreamer;
pub mod hailo;
pub mod json;
pub mod npz;
mod numbers;

use anyhow::{Result, ensure};
use gstmfr::gallery::{Contract, Entry, Kind};
use ndarray::Array1;
use serde::{Deserialize, Serialize};

/// Largest file that is read as a whole: 100,000 people with five embeddings each take 3 GB as text, which is imported
/// in parts.
pub const MOST_BYTES: u64 = 1 << 30;

/// Longest embedding that is read.
pub const MOST_NUMBERS: usize = 16_384;

/// What a file of any format holds.
#[derive(Debug, Default, PartialEq)]
pub struct Exchanged {
    pub entries: Vec<Entry>,
    /// What the embeddings were made with; None for files of other programs.
    pub contract: Option<Contract>,
}

/// What our own files say about an embedding beside what other programs read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The photo, as in a gallery.
    source: String,
    /// The number of the kind, as in a gallery.
    kind: u8,
}

impl Origin {
    fn of(entry: &Entry) -> Self {
        Self {
            source: entry.source.clone(),
            kind: entry.kind as u8,
        }
    }

    /// The entry of an embedding, whose origin is unknown in files of other programs.
    fn entry(origin: Option<Self>, name: String, embedding: Array1<f32>) -> Result<Entry> {
        let (source, kind) = origin.map_or((String::new(), 0), |o| (o.source, o.kind));
        Ok(Entry {
            kind: kind_of(kind)?,
            name,
            source,
            embedding,
        })
    }
}

fn kind_of(number: u8) -> Result<Kind> {
    let kinds = [Kind::Photo, Kind::SyntheticMask, Kind::MaskedPhoto];
    let kind = kinds.into_iter().find(|&kind| kind as u8 == number);
    kind.ok_or_else(|| anyhow::anyhow!("kind {number} is not 0, 1 or 2"))
}

impl Exchanged {
    /// Checks that there are embeddings, all of one length.
    pub fn check(&self) -> Result<usize> {
        let dim = self
            .entries
            .first()
            .map_or(0, |entry| entry.embedding.len());
        ensure!(
            dim > 0,
            "it holds nobody: at least one embedding is expected"
        );
        ensure!(
            dim <= MOST_NUMBERS,
            "embeddings of {dim} numbers, expected at most {MOST_NUMBERS}"
        );
        for entry in &self.entries {
            let found = entry.embedding.len();
            ensure!(
                found == dim,
                "an embedding of {:?} has {found} numbers, others have {dim}",
                entry.name
            );
            let is_finite = entry.embedding.iter().all(|v| v.is_finite());
            ensure!(
                is_finite && entry.embedding.dot(&entry.embedding) > 0.0,
                "an embedding of {:?} is zero or not finite",
                entry.name
            );
        }
        if let Some(contract) = &self.contract {
            ensure!(
                contract.embedding_dim == dim,
                "its embeddings have {dim} numbers, by its contract they have {}",
                contract.embedding_dim
            );
        }
        Ok(dim)
    }
}

/// The entries by person, as the formats have them. Those of a person follow each other in a gallery.
fn people(entries: &[Entry]) -> impl Iterator<Item = (&str, &[Entry])> {
    let people = entries.chunk_by(|a, b| a.name == b.name);
    people.filter_map(|own| Some((own.first()?.name.as_str(), own)))
}

#[cfg(test)]
mod tests;
