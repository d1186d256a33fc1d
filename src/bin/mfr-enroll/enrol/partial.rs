//! Checkpoint of an enrolment in a file beside its output, so that an interrupted run can be
//! resumed.
//!
//! The first line has the settings; each of the others has the result for one file of the dataset, as soon as it is
//! ready. Each line is prefixed by the start of its SHA-256. From the first line whose hash does not match
//! on, lines were cut off or never reached the disk, and their files are processed again. The checkpoint holds
//! biometric data, like the gallery, and is deleted when the gallery is written.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gstmfr::embed::PREPROCESSING;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Keep;
use crate::input::dataset::Item;
use crate::options::{Masks, Vision};
use crate::output;
use crate::people::TOOL;
use crate::vision::batch::Embedders;

/// Appended to the name of the output.
const ENDING: &str = ".partial";

/// Hexadecimal digits of a line's hash; the prefix adds a space.
const HASH_DIGITS: usize = 16;
const PREFIX: usize = HASH_DIGITS + 1;

/// Longer than any line: twenty frames of a video with eight faces each, all with crops,
/// copies and thumbnails, take 40 MB.
const MAX_LINE: u64 = 256 << 20;

/// Everything besides the photos that determines results, by names for messages.
pub type RunSettings = BTreeMap<String, String>;

/// Identifies an unchanged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    size: u64,
    /// Modification time since 1970.
    seconds: i64,
    nanoseconds: i64,
}

impl FileStamp {
    /// None if the file does not exist.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            size: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        })
    }
}

/// Keeps other runs from an output while it is changed, by the file beside it that an enrolment locks as well.
#[derive(Debug)]
pub struct OutputLock {
    partial: Partial,
    is_discarded: bool,
}

impl OutputLock {
    pub fn of(output: &Path) -> Result<Self> {
        let partial = Partial::beside(output);
        let shown = partial.path.display().to_string();
        let file = partial
            .locked()
            .with_context(|| format!("cannot write {shown}"))?;
        let file = Some(file);
        Ok(Self {
            partial: Partial { file, ..partial },
            is_discarded: false,
        })
    }

    /// Deletes what an interrupted run has left.
    pub fn discard(mut self) {
        self.is_discarded = true;
    }
}

impl Drop for OutputLock {
    fn drop(&mut self) {
        let metadata = self.partial.file.as_ref().map(File::metadata);
        let is_empty = metadata.is_some_and(|m| m.is_ok_and(|m| m.len() == 0));
        if is_empty || self.is_discarded {
            self.partial.delete();
        }
    }
}

/// The result for a file.
#[derive(Debug, Serialize, Deserialize)]
struct FileRecord<N, S> {
    name: N,
    stamp: FileStamp,
    seen: S,
}

/// The checkpoint file beside the output, and the results of an earlier run in it.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    /// Locked while this run uses it; None if it cannot be written.
    file: Option<File>,
    /// Results as JSON, by names of files.
    known: HashMap<String, Vec<u8>>,
}

/// The settings on which the embeddings of a build depend.
pub fn settings(vision: &Vision, masks: &Masks, keep: Keep, embedders: &Embedders) -> RunSettings {
    // The executable is included, because builds of one version may differ in networks and masks.
    let program = std::env::current_exe().ok();
    let program = program.and_then(|path| FileStamp::of(&path));
    let kinds: Vec<_> = masks.types.iter().map(|mask| mask.name()).collect();
    let networks = vision.model_path.as_ref().map(|folder| {
        let files = ["pnet.onnx", "rnet.onnx", "onet.onnx"].map(|name| folder.join(name));
        files.map(|path| fs::read(path).map(|bytes| hash(&bytes)).ok())
    });
    let settings = [
        ("program", format!("{TOOL} {program:?}")),
        ("model", embedders.model_sha256().to_owned()),
        ("preprocessing", PREPROCESSING.to_owned()),
        ("detector", format!("{networks:?}")),
        ("device", vision.session.device.to_string()),
        ("min-face-size", format!("{:?}", vision.min_face)),
        ("detection", format!("{:?}", vision.params)),
        ("masks", format!("{kinds:?} {}", masks.seed)),
        ("mask-copies", masks.copies.to_string()),
        ("faces-output", keep.crops.to_string()),
        ("report", keep.thumbnails.to_string()),
    ];
    let settings = settings.into_iter();
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

impl Partial {
    /// Opens or creates the checkpoint beside an output. Results of an earlier run are read, unless
    /// its settings differ or they are not wanted (`fresh`).
    pub fn open(output: &Path, settings: RunSettings, fresh: bool) -> Result<Self> {
        let mut partial = Self::beside(output);
        let shown = partial.path.display().to_string();
        let mut file = partial
            .locked()
            .with_context(|| format!("cannot write {shown}"))?;
        let mut end = 0;
        if file.metadata()?.len() > 0 {
            let mut lines = Lines::new(&file);
            let found = lines.next().and_then(|line| parsed::<RunSettings>(&line));
            let found = match found {
                Some(found) => found,
                None if fresh => RunSettings::new(),
                None => bail!(
                    "{shown} is damaged or no file of mfr-enroll: move it, name another output, or discard it by --fresh"
                ),
            };
            let differing: Vec<_> = settings
                .iter()
                .filter(|(name, value)| found.get(*name) != Some(value))
                .map(|(name, _)| name.as_str())
                .collect();
            if !fresh && differing.is_empty() {
                for line in lines.by_ref() {
                    if let Some(record) = parsed::<FileRecord<String, serde::de::IgnoredAny>>(&line)
                    {
                        partial.known.insert(record.name, line);
                    }
                }
                end = lines.good;
            } else if !fresh && lines.next().is_some() {
                output::warning(&format!(
                    "{shown}: the interrupted run had other settings ({}); beginning anew",
                    differing.join(", ")
                ));
            }
        }
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        if end == 0 {
            write_line(&mut file, &settings)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {shown}"))?;
        }
        partial.file = Some(file);
        Ok(partial)
    }

    /// The file beside an output, which is not opened yet.
    fn beside(output: &Path) -> Self {
        let mut path = OsString::from(output);
        path.push(ENDING);
        Self {
            path: PathBuf::from(path),
            file: None,
            known: HashMap::new(),
        }
    }

    /// Opens and locks the file exclusively.
    fn locked(&self) -> Result<File> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)?;
            let metadata = file.metadata()?;
            ensure!(metadata.is_file(), "it is not a regular file");
            if metadata.mode() & 0o077 != 0 {
                ensure!(
                    !self.permissions_are_kept()?,
                    "others than its owner may read it; remove it"
                );
                output::warning(&format!(
                    "{}: the file system keeps no permissions (FAT, some network folders); others may be able to read this \
                     file and the gallery, which are biometric data",
                    self.path.display()
                ));
            }
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    bail!(
                        "another mfr-enroll is at work on this output; wait for it or name another"
                    )
                }
                // Some file systems do not support locks.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // Another run may have removed the file before it was locked.
            let is_there = fs::metadata(&self.path).is_ok_and(|m| m.ino() == metadata.ino());
            if is_there {
                return Ok(file);
            }
        }
    }

    /// Whether a file that is created beside the output with owner-only permissions keeps them.
    fn permissions_are_kept(&self) -> std::io::Result<bool> {
        let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        Ok(file.as_file().metadata()?.mode() & 0o077 == 0)
    }

    /// Takes the results for files that are unchanged; `is_sound` checks whether a result can be
    /// one that was written.
    pub fn take_known<S: DeserializeOwned>(
        &mut self,
        items: &[Item],
        is_sound: impl Fn(&S) -> bool,
    ) -> BTreeMap<usize, S> {
        let mut lines = std::mem::take(&mut self.known);
        let mut known = BTreeMap::new();
        for (i, item) in items.iter().enumerate() {
            let record = lines
                .remove(&item.name)
                .and_then(|line| parsed::<FileRecord<String, S>>(&line));
            if let Some(record) = record
                && Some(record.stamp) == FileStamp::of(item.source.path())
                && is_sound(&record.seen)
            {
                known.insert(i, record.seen);
            }
        }
        if !known.is_empty() {
            output::note(&format!(
                "{} of {} are known from an interrupted run ({}; --fresh begins anew)",
                known.len(),
                output::counted(items.len(), "file"),
                self.path.display()
            ));
        }
        known
    }

    /// Records the result for a file. If that fails, the run continues without a checkpoint.
    pub fn add(&mut self, name: &str, stamp: FileStamp, seen: &impl Serialize) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = write_line(file, &FileRecord { name, stamp, seen }) {
            output::warning(&format!(
                "cannot write {}: {error}; if this run is interrupted, the next one begins anew",
                self.path.display()
            ));
            self.file = None;
        }
    }

    /// Deletes the checkpoint after the run.
    pub fn remove(self) {
        self.delete();
    }

    fn delete(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            output::warning(&format!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

/// The lines of a file up to the first damaged one.
struct Lines<'f> {
    reader: BufReader<&'f File>,
    /// Number of bytes of the lines read so far.
    good: u64,
}

impl<'f> Lines<'f> {
    fn new(file: &'f File) -> Self {
        Self {
            reader: BufReader::new(file),
            good: 0,
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let length = self
            .reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line);
        let length = length.ok()?;
        let json = line.strip_suffix(b"\n")?.get(PREFIX..)?;
        if line[..HASH_DIGITS] != *hash(json).as_bytes() {
            return None;
        }
        self.good += length as u64;
        Some(json.to_vec())
    }
}

fn parsed<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

/// Writes the line with a single call, so that a run that is killed leaves complete lines.
fn write_line(file: &mut File, content: &impl Serialize) -> io::Result<()> {
    let mut line = vec![b' '; PREFIX];
    serde_json::to_writer(&mut line, content)?;
    let hash = hash(&line[PREFIX..]);
    line[..HASH_DIGITS].copy_from_slice(hash.as_bytes());
    line.push(b'\n');
    file.write_all(&line)
}

fn hash(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let bytes = hash.iter().take(HASH_DIGITS / 2);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding;
    use crate::input::source::SourceFile;

    fn settings(masks: &str) -> RunSettings {
        RunSettings::from([("masks".to_owned(), masks.to_owned())])
    }

    /// A dataset of photos in a folder, and an output beside them.
    fn dataset() -> (tempfile::TempDir, Vec<Item>, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let items = ["a", "b", "c"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            Item {
                is_enrolled: false,
                person: 0,
                name: name.to_owned(),
                source: SourceFile::Photo(path),
            }
        });
        let output = folder.path().join("gallery.npz");
        (folder, items.to_vec(), output)
    }

    /// The recorded results of items, by number; the file is kept.
    fn known(output: &Path, items: &[Item]) -> Vec<(usize, String)> {
        let mut partial = Partial::open(output, settings("all"), false).unwrap();
        let known = partial.take_known(items, |seen: &String| seen != "odd");
        known.into_iter().collect()
    }

    fn add(partial: &mut Partial, item: &Item, seen: &str) {
        let stamp = FileStamp::of(item.source.path()).unwrap();
        partial.add(&item.name, stamp, &seen);
    }

    #[test]
    fn what_was_noted_is_known_unless_the_file_is_another_or_it_cannot_be() {
        let (_folder, items, output) = dataset();
        assert_eq!(known(&output, &items), []);
        let mut partial = Partial::open(&output, settings("all"), false).unwrap();
        let noted = ["first", "odd", "third"];
        for (item, seen) in items.iter().zip(noted) {
            add(&mut partial, item, seen);
        }
        drop(partial);
        let first = (0, "first".to_owned());
        assert_eq!(
            known(&output, &items),
            [first.clone(), (2, "third".to_owned())]
        );
        fs::write(items[2].source.path(), "longer").unwrap();
        assert_eq!(known(&output, &items), [first]);
        // Of two records of a file the later one is valid.
        let mut partial = Partial::open(&output, settings("all"), false).unwrap();
        add(&mut partial, &items[0], "again");
        drop(partial);
        assert_eq!(known(&output, &items), [(0, "again".to_owned())]);
        Partial::open(&output, settings("none"), false).unwrap();
        assert_eq!(known(&output, &items), []);
    }

    #[test]
    fn a_damaged_end_is_cut_off_and_written_anew() {
        let (_folder, items, output) = dataset();
        let mut partial = Partial::open(&output, settings("all"), false).unwrap();
        add(&mut partial, &items[0], "first");
        let path = partial.path.clone();
        let whole = fs::read(&path).unwrap();
        add(&mut partial, &items[1], "second");
        drop(partial);
        let both = fs::read(&path).unwrap();
        let mut flipped = both.clone();
        *flipped.last_mut().unwrap() ^= 1;
        flipped[whole.len() + PREFIX + 3] ^= 1;
        let zeros = [whole.as_slice(), &[0; 500]].concat();
        for damaged in [&both[..both.len() - 1], &flipped, &zeros] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(known(&output, &items), [(0, "first".to_owned())]);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn numbers_and_bytes_come_back_as_they_were() {
        use crate::vision::portrait::Portrait;
        let odd = [f32::MIN_POSITIVE, -0.0, 0.1, f32::MAX];
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Values {
            #[serde(with = "encoding::floats")]
            floats: ndarray::Array1<f32>,
            portrait: Portrait,
        }
        let values = Values {
            floats: odd.into_iter().collect(),
            portrait: Portrait {
                measures: None,
                thumbnail: Some((0..=255).collect()),
                rotated: 270,
            },
        };
        let json = serde_json::to_vec(&values).unwrap();
        assert_eq!(parsed(&json), Some(values));
        assert_eq!(
            parsed::<Values>(br#"{"floats":"AAA=","portrait":{}}"#),
            None
        );
    }
}
