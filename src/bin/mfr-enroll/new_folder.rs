//! A folder that is filled under another name, and gets its own when it is complete.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gstmfr::io::files::write_atomically;

/// Appended to the name of the folder while it is filled.
const ENDING: &str = ".unfinished";

/// A file in an unfinished folder by which a later run knows that it may delete it.
const MARK: &str = ".mfr-enroll-unfinished";

/// A folder that is being filled.
#[derive(Debug)]
pub struct NewFolder {
    path: PathBuf,
    unfinished: PathBuf,
}

impl NewFolder {
    /// Checks that the folder does not exist or is empty, and that it can be made, before hours of work.
    pub fn check(path: &Path) -> Result<()> {
        let shown = path.display();
        match fs::read_dir(path) {
            Ok(mut inside) => ensure!(
                inside.next().is_none(),
                "{shown} is not empty, and nothing in it is overwritten; name a new folder"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                ensure!(
                    path.symlink_metadata().is_err(),
                    "{shown} is a symbolic link that leads nowhere"
                );
            }
            Err(error) => return Err(error).with_context(|| shown.to_string()),
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        ensure!(parent.is_dir(), "there is no folder {}", parent.display());
        tempfile::NamedTempFile::new_in(parent)
            .and_then(tempfile::NamedTempFile::close)
            .with_context(|| format!("cannot write {shown}"))
    }

    /// Begins the folder. What an interrupted run has left of it is deleted.
    pub fn begin(path: &Path) -> Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(ENDING);
        let unfinished = PathBuf::from(unfinished);
        let shown = unfinished.display().to_string();
        if unfinished.symlink_metadata().is_ok() {
            let is_ours = unfinished.is_dir() && !unfinished.is_symlink();
            if !is_ours || !unfinished.join(MARK).is_file() {
                bail!("{shown} is in the way, and was not made by mfr-enroll: move it");
            }
            fs::remove_dir_all(&unfinished).with_context(|| format!("cannot delete {shown}"))?;
        }
        let folder = Self {
            path: path.to_owned(),
            unfinished,
        };
        make(&folder.unfinished)?;
        fs::write(folder.unfinished.join(MARK), b"")
            .with_context(|| format!("cannot write {shown}"))?;
        Ok(folder)
    }

    /// Writes a file with mode 0600 to a folder in this one, which is made, or to this one itself for an empty path.
    pub fn write(&self, folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.unfinished.join(folder);
        if !folder.is_dir() {
            make(&folder)?;
        }
        let path = folder.join(name);
        write_atomically(&path, |file| io::Write::write_all(file, bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Gives the folder its name.
    pub fn finish(self) -> Result<()> {
        let shown = self.path.display();
        fs::remove_file(self.unfinished.join(MARK))?;
        // An empty folder of that name is replaced; one that has been filled meanwhile is not.
        fs::rename(&self.unfinished, &self.path).with_context(|| {
            format!(
                "cannot make {shown}; what was to be in it is in {}",
                self.unfinished.display()
            )
        })
    }
}

/// Makes a folder that only its owner may read.
fn make(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}
