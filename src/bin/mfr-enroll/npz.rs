//! Writes `.npz` files as `numpy.load` reads them, without pickle.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::{Context, Result};
use gstmfr::gallery::NpzWriter;
use gstmfr::io::files::{self, write_atomically};

/// Writes a file atomically, readable by its owner only, because it is about faces.
pub fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut NpzWriter<&mut BufWriter<File>>) -> io::Result<()>,
) -> Result<()> {
    write_atomically(path, |file| {
        let mut npz = NpzWriter::new(file);
        fill(&mut npz)?;
        npz.finish().map(|_| ())
    })
    .with_context(|| format!("cannot write {}", path.display()))
}

/// Checks that a file can be written, before hours of work.
pub fn check_writable(path: &Path) -> Result<()> {
    files::check_writable(path).with_context(|| format!("cannot write {}", path.display()))
}
