//! The `embedd.npz` of the original scripts, with what they do not know in further arrays; and gallery files.

use std::io::{self, Seek, Write};
use std::path::Path;

use anyhow::Result;
use gstmfr::gallery::{Contract, Entry, Gallery, NpzWriter};
use ndarray::{Array1, Array2};

use super::Exchanged;

/// Writes the embeddings as those of training photos; there are none of validation photos.
pub fn write(
    out: &mut (impl Write + Seek),
    entries: &[Entry],
    contract: &Contract,
) -> io::Result<()> {
    let dim = contract.embedding_dim;
    let mut rows = Array2::zeros((entries.len(), dim));
    for (mut row, entry) in rows.rows_mut().into_iter().zip(entries) {
        row.assign(&entry.embedding);
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let sources: Vec<&str> = entries.iter().map(|entry| entry.source.as_str()).collect();
    let kinds: Array1<u8> = entries.iter().map(|entry| entry.kind as u8).collect();
    let mut npz = NpzWriter::new(out);
    npz.numbers("arr_0", &rows)?;
    npz.texts("arr_1", &names)?;
    npz.numbers("arr_2", &Array2::<f32>::zeros((0, dim)))?;
    npz.texts::<&str>("arr_3", &[])?;
    npz.texts("sources", &sources)?;
    npz.numbers("kinds", &kinds)?;
    npz.numbers("contract", &Array1::from(serde_json::to_vec(contract)?))?;
    npz.finish()?.flush()
}

/// Reads a file of the original scripts, of `export`, or a gallery.
pub fn read(path: &Path) -> Result<Exchanged> {
    let gallery = Gallery::load(path)?;
    Ok(Exchanged {
        contract: gallery.contract().cloned(),
        entries: gallery.entries(),
    })
}
