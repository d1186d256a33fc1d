//! Writes `.npz` files as `numpy.load` reads them, without pickle.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::{ArrayBase, Data, Dimension};
use ndarray_npy::{WritableElement, WriteNpyExt};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The length of a `.npy` header is a multiple of this (numpy's format description).
const HEADER_ALIGNMENT: usize = 64;

/// Arrays are appended to one.
pub struct Npz<W: Write + Seek> {
    zip: ZipWriter<W>,
}

impl<W: Write + Seek> Npz<W> {
    pub fn new(writer: W) -> Self {
        Self {
            zip: ZipWriter::new(writer),
        }
    }

    fn start(&mut self, name: &str) -> Result<()> {
        // Stored as numpy.savez does; large_file: crops of a large dataset exceed 4 GB.
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(true);
        self.zip.start_file(format!("{name}.npy"), options)?;
        Ok(())
    }

    /// Adds an array of numbers.
    pub fn add<A, S, D>(&mut self, name: &str, array: &ArrayBase<S, D>) -> Result<()>
    where
        A: WritableElement,
        S: Data<Elem = A>,
        D: Dimension,
    {
        self.start(name)?;
        array.write_npy(&mut self.zip)?;
        Ok(())
    }

    /// Adds bytes of this shape, block by block, so that they need not lie in one piece.
    pub fn add_bytes<'a>(
        &mut self,
        name: &str,
        shape: &[usize],
        blocks: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        self.start(name)?;
        self.zip.write_all(&header("|u1", shape))?;
        for block in blocks {
            self.zip.write_all(block)?;
        }
        Ok(())
    }

    /// Adds a one-dimensional array of texts, `<U` in numpy's notation: UTF-32, padded with zeros.
    pub fn add_texts(&mut self, name: &str, texts: &[impl AsRef<str>]) -> Result<()> {
        let longest = texts.iter().map(|t| t.as_ref().chars().count()).max();
        // numpy has no texts of length zero.
        let width = longest.unwrap_or(0).max(1);
        self.start(name)?;
        self.zip
            .write_all(&header(&format!("<U{width}"), &[texts.len()]))?;
        for text in texts {
            let mut cell: Vec<u8> = text
                .as_ref()
                .chars()
                .flat_map(|c| u32::from(c).to_le_bytes())
                .collect();
            cell.resize(width * 4, 0);
            self.zip.write_all(&cell)?;
        }
        Ok(())
    }

    /// Writes the directory of the archive.
    pub fn finish(self) -> Result<W> {
        Ok(self.zip.finish()?)
    }
}

/// Magic, version 1.0 and the description of an array.
fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let shape = match shape {
        [length] => format!("({length},)"),
        _ => {
            let lengths: Vec<_> = shape.iter().map(ToString::to_string).collect();
            format!("({})", lengths.join(", "))
        }
    };
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    let prefix = 10;
    let length = (prefix + text.len() + 1).next_multiple_of(HEADER_ALIGNMENT) - prefix;
    while text.len() + 1 < length {
        text.push(' ');
    }
    text.push('\n');
    // Our shapes have four numbers at most: far below the 65,535 of version 1.0.
    [
        b"\x93NUMPY\x01\x00",
        &(length as u16).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

/// Writes a file whole or not at all: beside it first, then renamed. Readable by its owner alone,
/// for it is about faces.
pub fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut Npz<io::BufWriter<File>>) -> Result<()>,
) -> Result<()> {
    let part = part_of(path);
    let result = write_part(&part, fill).and_then(|()| Ok(fs::rename(&part, path)?));
    if result.is_err() {
        // What matters has failed already.
        let _ = fs::remove_file(&part);
    }
    result.with_context(|| format!("cannot write {}", path.display()))
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn write_part(
    part: &Path,
    fill: impl FnOnce(&mut Npz<io::BufWriter<File>>) -> Result<()>,
) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)?;
    let mut npz = Npz::new(io::BufWriter::new(file));
    fill(&mut npz)?;
    let file = npz.finish()?.into_inner().map_err(|e| e.into_error())?;
    file.sync_all()?;
    Ok(())
}

/// Refuses a file that could not be written in the end, before hours of work.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let context = || format!("cannot write {}", path.display());
    anyhow::ensure!(
        path.file_name().is_some() && !path.is_dir(),
        "cannot write {}: it is a folder; name a file",
        path.display()
    );
    anyhow::ensure!(
        folder.is_dir(),
        "cannot write {}: there is no folder {}",
        path.display(),
        folder.display()
    );
    let probe = part_of(path);
    File::create_new(&probe).with_context(context)?;
    fs::remove_file(&probe).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::NpzReader;
    use std::io::Cursor;

    #[test]
    fn the_header_is_the_one_that_numpy_writes() {
        // numpy.save of an array of two texts of three characters; 128 bytes with the magic.
        let header = header("<U3", &[2]);
        assert_eq!(header.len(), 128);
        let text = "{'descr': '<U3', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(&header[10..10 + text.len()], text.as_bytes());
        assert_eq!(header[127], b'\n');
    }

    #[test]
    fn arrays_can_be_read_back() {
        let mut npz = Npz::new(Cursor::new(Vec::new()));
        npz.add("numbers", &ndarray::arr2(&[[1.5f32, -2.0]]))
            .unwrap();
        let blocks: [&[u8]; 2] = [&[1, 2], &[3, 4]];
        npz.add_bytes("bytes", &[2, 2], blocks.into_iter()).unwrap();
        npz.add_texts("none", &[""; 0]).unwrap();
        let mut reader = NpzReader::new(npz.finish().unwrap()).unwrap();
        let numbers: ndarray::Array2<f32> = reader.by_name("numbers").unwrap();
        assert_eq!(numbers, ndarray::arr2(&[[1.5, -2.0]]));
        let bytes: ndarray::Array2<u8> = reader.by_name("bytes").unwrap();
        assert_eq!(bytes, ndarray::arr2(&[[1, 2], [3, 4]]));
    }

    #[test]
    fn a_file_is_whole_or_not_there_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write_file(&path, |_| anyhow::bail!("no data")).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write_file(&path, |npz| npz.add_texts("a", &["b"])).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(&path.join("below")).is_err());
        check_writable(&path).unwrap();
    }
}
