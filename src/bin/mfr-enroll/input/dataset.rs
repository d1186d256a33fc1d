//! Lists the files of a dataset and the people they belong to, without opening them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::input::error::PhotoError;
use crate::input::names::{self, NameMeaning};
use crate::input::source::SourceFile;
use crate::options::shown;
use crate::output;
use crate::vision::portrait::{Portrait, Rejected};
use crate::vision::reason::Reason;

/// Maximum depth of folders, deeper than any folder structure of photos.
const MAX_DEPTH: usize = 16;

/// The supported layouts, for messages.
const LAYOUT: &str = "expected DIR/<name>/<photos>, DIR/train/<name>/<photos> with \
                      DIR/val/<name>/<photos>, or DIR/<name>.jpg";

/// Detail for a file of another type.
const NO_PHOTO: &str = "neither a photo nor a video";

/// A file and its person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Index into the people.
    pub person: usize,
    /// Path relative to the dataset, for reports and the gallery.
    pub name: String,
    pub source: SourceFile,
    /// Whether its embedding is in the gallery already that photos are added to.
    pub is_enrolled: bool,
}

/// People and their files, sorted by name.
#[derive(Debug, Default)]
pub struct Collection {
    pub people: Vec<String>,
    pub items: Vec<Item>,
    /// Files and folders that could not be listed.
    pub rejected: Vec<Rejected>,
    /// Files and folders that belong to no person, and files that are neither photo nor video.
    pub skipped: Vec<Skipped>,
}

/// A file or folder that is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub path: String,
    pub detail: &'static str,
}

/// A dataset: photos to enrol, and photos to test the result with.
#[derive(Debug)]
pub struct Dataset {
    pub train: Collection,
    pub val: Option<Collection>,
}

impl Dataset {
    /// Lists a dataset of any of the layouts. Returns an error if it has no file, or if it is
    /// ambiguous which folders are people.
    pub fn open(root: &Path) -> Result<Self> {
        let entries = folder(root).with_context(|| format!("dataset {}", root.display()))?;
        let part = |names: [&str; 2]| {
            let mut parts = names.iter().map(|name| root.join(name));
            parts.find(|part| entries.contains(part) && holds_folders(part))
        };
        let dataset = match part(["train", "training"]) {
            Some(train) => {
                let val = part(["val", "validation"]);
                let mut train_set = Collection::open(root, &train)?;
                let others = entries
                    .iter()
                    .filter(|e| e.is_dir() && **e != train && Some(*e) != val.as_ref());
                for path in others {
                    train_set.skip(root, path, "beside train/, where only val/ is looked at");
                }
                Self {
                    train: train_set,
                    val: val.map(|val| Collection::open(root, &val)).transpose()?,
                }
            }
            None => Self {
                train: Collection::open(root, root)?,
                val: None,
            },
        };
        ensure!(
            !dataset.train.items.is_empty() || !dataset.train.rejected.is_empty(),
            "dataset {} holds no photo of anybody; {LAYOUT}",
            root.display()
        );
        Ok(dataset)
    }
}

impl Collection {
    /// Photos and videos of one person. An error names a file that is not there or neither a photo nor a video.
    pub fn of_person(name: &str, files: &[PathBuf]) -> Result<Self> {
        let item = |path: &PathBuf| {
            let shown = path.display();
            let metadata = path.metadata().with_context(|| shown.to_string())?;
            ensure!(
                metadata.is_file(),
                "{shown}: expected a photo or a video, found a folder or a device; add folders by --dataset"
            );
            let source = SourceFile::of(path)
                .with_context(|| format!("{shown}: expected a photo or a video, by its ending"))?;
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(Item {
                person: 0,
                name: format!("{name}/{file}"),
                source,
                is_enrolled: false,
            })
        };
        Ok(Self {
            people: vec![name.to_owned()],
            items: files.iter().map(item).collect::<Result<_>>()?,
            ..Self::default()
        })
    }
}

impl Collection {
    /// Photos below a folder, each with the name of its person. Names that nobody can have are listed as skipped or rejected.
    pub fn of_files(root: &Path, files: &[(String, PathBuf)]) -> Result<Self> {
        let mut collection = Self::default();
        let mut people: BTreeMap<String, Vec<SourceFile>> = BTreeMap::new();
        for (name, path) in files {
            let source = SourceFile::of(path)
                .with_context(|| format!("{}: expected a photo, by its ending", path.display()))?;
            if let Some(person) = collection.person(root, path, name.as_ref()) {
                people.entry(person).or_default().push(source);
            }
        }
        collection.add_people(root, people);
        Ok(collection)
    }

    fn add_people(&mut self, root: &Path, people: BTreeMap<String, Vec<SourceFile>>) {
        for (person, sources) in people {
            let index = self.people.len();
            self.people.push(person);
            let items = sources.into_iter().map(|source| Item {
                person: index,
                name: relative(root, source.path()),
                source,
                is_enrolled: false,
            });
            self.items.extend(items);
        }
    }
}

/// Whether a folder has a subfolder.
fn holds_folders(dir: &Path) -> bool {
    folder(dir).is_ok_and(|inside| inside.iter().any(|path| path.is_dir()))
}

/// Rejects folders that would be people if each of them has only subfolders, because these may be the people. If
/// several folders have subfolders of the same name, or with names that begin with a number, these are a person's
/// years, albums or cameras.
fn check_depth(people: &[PathBuf]) -> Result<()> {
    let mut below = BTreeSet::new();
    for person in people {
        let inside = folder(person).unwrap_or_default();
        let has_photos = inside
            .iter()
            .any(|p| !p.is_dir() && SourceFile::of(p).is_some());
        let folders = inside.iter().filter(|path| path.is_dir());
        let names: Vec<_> = folders.filter_map(|path| path.file_name()).collect();
        let is_dated = |name: &&OsStr| name.as_encoded_bytes()[0].is_ascii_digit();
        let are_new = names.iter().all(|name| below.insert(name.to_os_string()));
        if has_photos || names.is_empty() || !are_new || names.iter().all(is_dated) {
            return Ok(());
        }
    }
    let example = people[0].display();
    bail!(
        "these folders hold only folders; did you mean --dataset {example}? If {example} is a person, put one of the photos \
         directly into it"
    )
}

impl Listed {
    /// Warns of the videos that are ignored.
    pub fn warn_of_videos(&self) {
        for path in &self.videos {
            output::warning(&format!(
                "{}: {}; left out",
                path.display(),
                PhotoError::Video
            ));
        }
    }
}

impl Collection {
    /// Lists `folder/<name>/…`, or `folder/<name>.jpg` if the folder has no subfolders. Paths in
    /// reports are relative to `root`.
    pub fn open(root: &Path, dir: &Path) -> Result<Self> {
        let entries = folder(dir).with_context(|| dir.display().to_string())?;
        let mut collection = Self::default();
        let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.is_dir());
        // Grouped by name, since two folders may belong to the same person.
        let mut people: BTreeMap<String, Vec<SourceFile>> = BTreeMap::new();
        let mut walked = Vec::new();
        for path in folders {
            let name = path.file_name().unwrap_or_default();
            let Some(person) = collection.person(root, &path, name) else {
                continue;
            };
            let mut walk = FolderWalk::default();
            walk.descend(&path, &mut vec![real(dir)]);
            people.entry(person).or_default().append(&mut walk.found);
            collection.take_rest(root, walk);
            walked.push(path);
        }
        if walked.is_empty() {
            collection.add_flat(root, &files, &mut people);
        } else {
            check_depth(&walked)?;
            for path in &files {
                collection.skip(root, path, "in nobody's folder");
            }
        }
        collection.add_people(root, people);
        Ok(collection)
    }

    /// Lists the layout of face_recognition: one photo per person, named after the person.
    fn add_flat(
        &mut self,
        root: &Path,
        files: &[PathBuf],
        people: &mut BTreeMap<String, Vec<SourceFile>>,
    ) {
        for path in files {
            let Some(source) = SourceFile::of(path) else {
                self.skip(root, path, NO_PHOTO);
                continue;
            };
            let name = path.file_stem().unwrap_or_default();
            if let Some(person) = self.person(root, path, name) {
                people.entry(person).or_default().push(source);
            }
        }
        if let Some((name, count)) = names::numbered(people.keys().map(String::as_str)) {
            output::warning(&format!(
                "{count} photos that differ by a number after \"{name}\" become {count} people: photos of one person belong \
                 into a folder, {name}/"
            ));
        }
    }

    /// The person that a folder or file is named after; otherwise the path is recorded as skipped or rejected.
    fn person(&mut self, root: &Path, path: &Path, name: &OsStr) -> Option<String> {
        match names::read(name) {
            NameMeaning::Person(person) => return Some(person),
            NameMeaning::Skipped(detail) => self.skip(root, path, detail),
            NameMeaning::Unusable(detail) => self.reject(root, path, detail),
        }
        None
    }

    /// Records the paths that a walk has left out.
    fn take_rest(&mut self, root: &Path, walk: FolderWalk) {
        for (path, detail) in walk.skipped {
            self.skip(root, &path, detail);
        }
        for (path, detail) in walk.failed {
            self.reject(root, &path, &detail);
        }
    }

    fn skip(&mut self, root: &Path, path: &Path, detail: &'static str) {
        let path = relative(root, path);
        self.skipped.push(Skipped { path, detail });
    }

    fn reject(&mut self, root: &Path, path: &Path, detail: &str) {
        self.rejected.push(Rejected {
            path: relative(root, path),
            reason: Reason::Unreadable,
            detail: detail.to_owned(),
            person: None,
            portrait: Portrait::default(),
        });
    }
}

/// Photos passed by the user.
#[derive(Debug, Default)]
pub struct Listed {
    pub sources: Vec<SourceFile>,
    /// Videos in folders, which are used for enrolment only.
    pub videos: Vec<PathBuf>,
    /// Paths that could not be listed, and why.
    pub failed: Vec<Failed>,
}

/// A path and the error for it.
pub type Failed = (PathBuf, String);

/// The photos and videos passed by the user: files themselves, and all in folders.
pub fn photos_and_videos(inputs: &[PathBuf]) -> Result<Listed> {
    listed(inputs, true)
}

/// The photos passed by the user: files themselves, and all photos in folders.
pub fn photos(inputs: &[PathBuf]) -> Result<Listed> {
    listed(inputs, false)
}

fn listed(inputs: &[PathBuf], with_videos: bool) -> Result<Listed> {
    let mut videos = Vec::new();
    let mut walk = FolderWalk::default();
    for input in inputs {
        if input.is_dir() {
            let before = walk.found.len() + walk.failed.len();
            let first = walk.found.len();
            let videos_before = videos.len();
            walk.descend(input, &mut Vec::new());
            let in_folder = walk.found.split_off(first);
            for source in in_folder {
                match source {
                    SourceFile::Photo(_) => walk.found.push(source),
                    SourceFile::Video(path) => videos.push(path),
                }
            }
            let has_videos = with_videos && videos.len() > videos_before;
            if walk.found.len() + walk.failed.len() == before && !has_videos {
                let what = if with_videos {
                    "photo or video"
                } else {
                    "photo"
                };
                bail!("no {what} in the folder {}", input.display());
            }
        } else {
            // A file that is passed explicitly is read regardless of its extension.
            walk.found
                .push(SourceFile::of(input).unwrap_or_else(|| SourceFile::Photo(input.clone())));
        }
    }
    Ok(Listed {
        sources: walk.found,
        videos,
        failed: walk.failed,
    })
}

/// A walk through a folder and its subfolders.
#[derive(Debug, Default)]
struct FolderWalk {
    found: Vec<SourceFile>,
    failed: Vec<Failed>,
    skipped: Vec<(PathBuf, &'static str)>,
}

impl FolderWalk {
    /// `above` has the real paths of the folders that the walk is in, which detects a symbolic link back to
    /// one of them.
    fn descend(&mut self, dir: &Path, above: &mut Vec<PathBuf>) {
        let own = real(dir);
        if above.contains(&own) {
            self.fail(dir, "a symbolic link back to a folder that holds it");
            return;
        }
        if above.len() >= MAX_DEPTH {
            self.fail(dir, "folders nested too deep");
            return;
        }
        let entries = match folder(dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.fail(dir, &error.to_string());
                return;
            }
        };
        above.push(own);
        for path in entries {
            match fs::metadata(&path) {
                Ok(data) if data.is_dir() => {
                    match names::is_no_person(path.file_name().unwrap_or_default()) {
                        Some(detail) => self.skipped.push((path, detail)),
                        None => self.descend(&path, above),
                    }
                }
                Ok(_) => match SourceFile::of(&path) {
                    Some(source) => self.found.push(source),
                    None => self.skipped.push((path, NO_PHOTO)),
                },
                Err(error) if path.is_symlink() => {
                    self.fail(
                        &path,
                        &format!("a symbolic link that leads nowhere: {error}"),
                    );
                }
                Err(error) => self.fail(&path, &error.to_string()),
            }
        }
        above.pop();
    }

    fn fail(&mut self, path: &Path, detail: &str) {
        self.failed.push((path.to_owned(), detail.to_owned()));
    }
}

/// The content of a folder without hidden files, sorted by name.
fn folder(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    // Hidden folders stay in the list, because they are reported as skipped.
    paths.retain(|path| !is_hidden(path.file_name().unwrap_or_default()) || path.is_dir());
    paths.sort();
    Ok(paths)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn relative(root: &Path, path: &Path) -> String {
    shown(path.strip_prefix(root).unwrap_or(path))
}

#[cfg(test)]
mod tests;
