//! Writes `.npz` files as `numpy.load` reads them, without pickle.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gstmfr::gallery::{NpzWriter, write_atomically};

/// Writes a file whole or not at all, readable by its owner alone: it is about faces.
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

/// Refuses a file that could not be written in the end, before hours of work.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    ensure!(
        path.file_name().is_some() && !path.is_dir(),
        "cannot write {}: it is a folder; name a file",
        path.display()
    );
    ensure!(
        folder.is_dir(),
        "cannot write {}: there is no folder {}",
        path.display(),
        folder.display()
    );
    tempfile::NamedTempFile::new_in(folder)
        .and_then(|probe| probe.close())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write_file(&path, |_| Err(io::Error::other("no data"))).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write_file(&path, |npz| npz.texts("a", &["b"])).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        check_writable(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_a_file_is_refused_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(&folder.path().join("none/a.npz")).is_err());
    }
}
