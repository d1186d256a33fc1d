//! Safe reading and writing of files: reading is limited in size and never blocks on anything but a regular file, and
//! output files are written atomically.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Opens a regular file for reading. Opening does not block, as it otherwise would on a FIFO without a writer; the
/// type is checked on the open file, because the path may refer to another file by then.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("expected a regular file, found {}", kind_of(&metadata)),
    ))
}

/// Reads a regular file of at most `limit` bytes.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let too_large = |found: u64| {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("expected at most {limit} bytes, found {found}"),
        )
    };
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_large(length));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize + 1)?;
    // The file may have grown since its size was checked.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Describes the type of a file, for messages.
fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "a regular file",
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() => "a character device",
        () if kind.is_block_device() => "a block device",
        () => "something else",
    }
}

/// Destination of an output.
#[derive(Debug, PartialEq)]
enum Target {
    /// A temporary file in the same folder, which then replaces this file.
    Replace(PathBuf),
    /// A device or a FIFO, which is written to directly, because it must not be replaced.
    Through(PathBuf),
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Determines the destination of an output path. A symbolic link is followed, unless other users could have created
/// it.
fn target(path: &Path) -> io::Result<Target> {
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Target::Replace(path.to_owned()));
        }
        metadata => metadata?,
    };
    if metadata.is_symlink() {
        let folder = folder_of(path);
        let owner = folder.metadata()?;
        let is_others = owner.mode() & 0o022 != 0 && owner.uid() != own_uid()?;
        if is_others {
            return Err(refused(format!(
                "it is a symbolic link in {}, a folder that others may write to: name the file itself",
                folder.display()
            )));
        }
        // A dangling link is followed to the path that it names.
        let pointed_at = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Target::Replace(folder.join(path.read_link()?)));
            }
            pointed_at => pointed_at?,
        };
        return target(&pointed_at);
    }
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(Target::Replace(path.to_owned()))
    } else if kind.is_char_device() || kind.is_fifo() {
        Ok(Target::Through(path.to_owned()))
    } else {
        Err(refused(format!(
            "expected a file, found {}",
            kind_of(&metadata)
        )))
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The user that this process runs as.
fn own_uid() -> io::Result<u32> {
    Ok(tempfile::tempfile()?.metadata()?.uid())
}

/// Checks that a file could be written to `path`, before hours of work, without leaving anything behind.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let target = match target(path)? {
        // Opening a FIFO would block until it has a reader.
        Target::Through(_) => return Ok(()),
        Target::Replace(target) => target,
    };
    let folder = folder_of(&target);
    if path.file_name().is_none() {
        return Err(refused("it is a folder; name a file".to_owned()));
    }
    if !folder.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no folder {}", folder.display()),
        ));
    }
    tempfile::NamedTempFile::new_in(folder)?.close()
}

/// Writes a temporary file beside `path` with mode 0600, syncs it to disk, and then renames it, so that a reader
/// finds the old file or the new one, never half of it. A device or a FIFO is written to, a symbolic link is
/// followed.
///
/// A file that is a mount point, as in a container, cannot be replaced. It is overwritten instead, and the complete
/// new file stays beside it until that is done.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let (path, is_replaced) = match target(path)? {
        Target::Replace(path) => (path, true),
        Target::Through(path) => (path, false),
    };
    let folder = folder_of(&path);
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    // The temporary file has mode 0600, and is removed if anything fails before it is renamed.
    let temporary = if is_replaced {
        tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".tmp")
            .tempfile_in(folder)?
    } else {
        tempfile::NamedTempFile::new()?
    };
    let mut file = BufWriter::new(temporary.as_file().try_clone()?);
    write(&mut file)?;
    file.flush()?;
    if !is_replaced {
        return copy_into(temporary.as_file(), &path);
    }
    file.get_ref().sync_all()?;
    if let Err(error) = temporary.persist(&path) {
        if error.error.kind() != io::ErrorKind::ResourceBusy {
            return Err(error.error);
        }
        let journal = error.file;
        copy_into(journal.as_file(), &path)?;
        return journal.close();
    }
    // The file itself is already synced; some file systems do not support syncing a folder.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Overwrites the content of `path` with that of a file.
fn copy_into(mut source: &File, path: &Path) -> io::Result<()> {
    source.seek(SeekFrom::Start(0))?;
    let mut target = OpenOptions::new().write(true).open(path)?;
    let length = io::copy(&mut source, &mut target)?;
    if target.metadata()?.is_file() {
        target.set_len(length)?;
        target.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    fn fifo(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    fn write_text(path: &Path, text: &str) -> io::Result<()> {
        write_atomically(path, |file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn only_regular_files_are_read_and_only_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read_regular(&path, 4).unwrap_err().to_string();
        assert_eq!(error, "expected at most 4 bytes, found 5");
        let pipe = folder.path().join("pipe");
        fifo(&pipe);
        for (path, kind) in [
            (&*pipe, "a FIFO"),
            (Path::new("/dev/zero"), "a character device"),
            (folder.path(), "a folder"),
        ] {
            let error = read_regular(path, 1000).unwrap_err().to_string();
            assert_eq!(error, format!("expected a regular file, found {kind}"));
        }
    }

    #[test]
    fn a_device_and_a_fifo_are_written_to_and_stay() {
        write_text(Path::new("/dev/null"), "text").unwrap();
        assert!(
            Path::new("/dev/null")
                .metadata()
                .unwrap()
                .file_type()
                .is_char_device()
        );
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        fifo(&pipe);
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        check_writable(&pipe).unwrap();
        write_text(&pipe, "text").unwrap();
        assert_eq!(reader.join().unwrap(), b"text");
        assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
        // Neither call leaves any other file behind.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_followed_unless_others_could_have_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        symlink("real", &link).unwrap();
        // The link's target does not exist the first time, and does the second time.
        for text in ["one", "two"] {
            check_writable(&link).unwrap();
            write_text(&link, text).unwrap();
            assert_eq!(std::fs::read_to_string(&real).unwrap(), text);
            assert!(link.symlink_metadata().unwrap().is_symlink());
        }
        // This needs a world-writable folder that belongs to the superuser, if there is one.
        let tmp = Path::new("/tmp").metadata().unwrap();
        if tmp.mode() & 0o022 != 0 && tmp.uid() != own_uid().unwrap() {
            let link = Path::new("/tmp").join(format!("mfr-link-{}", std::process::id()));
            symlink(&real, &link).unwrap();
            let error = write_text(&link, "three").unwrap_err().to_string();
            std::fs::remove_file(&link).unwrap();
            assert!(error.contains("symbolic link in /tmp"), "{error}");
        }
    }

    #[test]
    fn folders_and_sockets_are_no_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, kind) in [(folder.path(), "a folder"), (&*socket, "a socket")] {
            for outcome in [check_writable(path), write_text(path, "text")] {
                let error = outcome.unwrap_err().to_string();
                assert_eq!(error, format!("expected a file, found {kind}"));
            }
        }
        let error = check_writable(&folder.path().join("none/a")).unwrap_err();
        assert!(error.to_string().starts_with("there is no folder"));
    }

    #[test]
    fn a_file_is_whole_or_not_there_at_all_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |_| Err(io::Error::other("no data"))).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write_text(&path, "text").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        check_writable(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
