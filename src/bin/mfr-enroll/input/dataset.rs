//! Folders of photos: who has which files. Nothing is opened here.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::input::photo::PhotoError;
use crate::input::source::Source;
use crate::options::shown;
use crate::output;
use crate::vision::portrait::{Portrait, Rejected};
use crate::vision::reason::Reason;

/// Folders that photo programs and archives leave behind, full of thumbnails.
const IGNORED_FOLDERS: [&str; 2] = ["@eaDir", "__MACOSX"];

/// Deeper than anybody files photos.
const MAX_DEPTH: usize = 16;

/// The layouts, for messages.
const LAYOUT: &str = "expected DIR/<name>/<photos>, DIR/train/<name>/<photos> with \
                      DIR/val/<name>/<photos>, or DIR/<name>.jpg";

/// A file and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Index into the people.
    pub person: usize,
    /// Path relative to the dataset, for reports and the gallery.
    pub name: String,
    pub source: Source,
}

/// People and their files, sorted by name.
#[derive(Debug, Default)]
pub struct Collection {
    pub people: Vec<String>,
    pub items: Vec<Item>,
    /// What could not even be listed.
    pub rejected: Vec<Rejected>,
    /// Files that are nobody's or neither photo nor video.
    pub ignored: usize,
}

/// A dataset: photos to learn, and photos to try the result on.
#[derive(Debug)]
pub struct Dataset {
    pub train: Collection,
    pub val: Option<Collection>,
}

impl Dataset {
    /// Lists a dataset of any of the layouts. One without a single file is an error.
    pub fn open(root: &Path) -> Result<Self> {
        let entries = folder(root).with_context(|| format!("dataset {}", root.display()))?;
        let split = root.join("train");
        let is_split = entries
            .iter()
            .any(|e| e.file_name() == Some("train".as_ref()))
            && folder(&split).is_ok_and(|inside| inside.iter().any(|e| e.is_dir()));
        let dataset = if is_split {
            let val = root.join("val");
            Self {
                train: Collection::open(root, &split)?,
                val: val
                    .is_dir()
                    .then(|| Collection::open(root, &val))
                    .transpose()?,
            }
        } else {
            Self {
                train: Collection::open(root, root)?,
                val: None,
            }
        };
        ensure!(
            !dataset.train.items.is_empty() || !dataset.train.rejected.is_empty(),
            "dataset {} holds no photo of anybody; {LAYOUT}",
            root.display()
        );
        Ok(dataset)
    }
}

impl Listed {
    /// Names the videos that are not looked at.
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
    /// Lists `folder/<name>/…`, or `folder/<name>.jpg` where there are no folders in it. Paths in
    /// reports are relative to `root`.
    pub fn open(root: &Path, dir: &Path) -> Result<Self> {
        let entries = folder(dir).with_context(|| dir.display().to_string())?;
        let mut collection = Self::default();
        let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.is_dir());
        if folders.is_empty() {
            collection.add_flat(root, &files);
            return Ok(collection);
        }
        collection.ignored += files.len();
        for path in folders {
            let name = path.file_name().unwrap_or_default();
            if is_ignored(name) {
                continue;
            }
            let person = match person_name(name) {
                Ok(person) => person,
                Err(detail) => {
                    collection.reject(root, &path, detail);
                    continue;
                }
            };
            let index = collection.people.len();
            let mut walk = Walk::default();
            walk.descend(&path, &mut vec![real(dir)]);
            collection.people.push(person.to_owned());
            collection.ignored += walk.ignored;
            collection
                .items
                .extend(walk.found.into_iter().map(|source| Item {
                    person: index,
                    name: relative(root, source.path()),
                    source,
                }));
            for (path, detail) in walk.failed {
                collection.reject(root, &path, &detail);
            }
        }
        Ok(collection)
    }

    /// The layout of face_recognition: one photo a person, called like the person.
    fn add_flat(&mut self, root: &Path, files: &[PathBuf]) {
        for path in files {
            let Some(source) = Source::of(path) else {
                self.ignored += 1;
                continue;
            };
            let person = match person_name(path.file_stem().unwrap_or_default()) {
                Ok(person) => person,
                Err(detail) => {
                    self.reject(root, path, detail);
                    continue;
                }
            };
            // ana.jpg and ana.png are the same person; sorted, they follow one another.
            if self.people.last().map(String::as_str) != Some(person) {
                self.people.push(person.to_owned());
            }
            self.items.push(Item {
                person: self.people.len() - 1,
                name: relative(root, path),
                source,
            });
        }
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

/// What strangers are called; nobody else can be.
pub const UNKNOWN: &str = "unknown";

/// The person that a folder or file is called after, or why it cannot be.
fn person_name(name: &OsStr) -> Result<&str, &'static str> {
    match name.to_str() {
        Some(UNKNOWN) => Err("\"unknown\" is what strangers are called; rename it"),
        Some(name) => Ok(name),
        None => Err("the name is not UTF-8; rename it"),
    }
}

/// Photos that the user names.
#[derive(Debug, Default)]
pub struct Listed {
    pub sources: Vec<Source>,
    /// Videos in folders: those are learned from alone, and nobody asked for them here.
    pub videos: Vec<PathBuf>,
    /// What could not be listed, and why.
    pub failed: Vec<Failed>,
}

/// A path and what is wrong with it.
pub type Failed = (PathBuf, String);

/// The photos that the user names: files as they are, folders with all photos that are in them.
pub fn photos(inputs: &[PathBuf]) -> Result<Listed> {
    let mut videos = Vec::new();
    let mut walk = Walk::default();
    for input in inputs {
        if input.is_dir() {
            let before = walk.found.len() + walk.failed.len();
            let first = walk.found.len();
            walk.descend(input, &mut Vec::new());
            let in_folder = walk.found.split_off(first);
            for source in in_folder {
                match source {
                    Source::Photo(_) => walk.found.push(source),
                    Source::Video(path) => videos.push(path),
                }
            }
            if walk.found.len() + walk.failed.len() == before {
                bail!("no photo in the folder {}", input.display());
            }
        } else {
            // Named in so many words: the ending does not matter.
            walk.found
                .push(Source::of(input).unwrap_or_else(|| Source::Photo(input.clone())));
        }
    }
    Ok(Listed {
        sources: walk.found,
        videos,
        failed: walk.failed,
    })
}

/// A walk through a folder and those below it.
#[derive(Debug, Default)]
struct Walk {
    found: Vec<Source>,
    failed: Vec<Failed>,
    ignored: usize,
}

impl Walk {
    /// `above`: the real paths of the folders that the walk is in, by which a symbolic link back to
    /// one of them is known.
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
            if is_ignored(path.file_name().unwrap_or_default()) {
                continue;
            }
            match fs::metadata(&path) {
                Ok(data) if data.is_dir() => self.descend(&path, above),
                Ok(_) => match Source::of(&path) {
                    Some(source) => self.found.push(source),
                    None => self.ignored += 1,
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

/// What is in a folder, hidden files left out, sorted by name.
fn folder(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| !is_hidden(path.file_name().unwrap_or_default()));
    paths.sort();
    Ok(paths)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_ignored(name: &OsStr) -> bool {
    IGNORED_FOLDERS.iter().any(|ignored| name == *ignored)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn relative(root: &Path, path: &Path) -> String {
    shown(path.strip_prefix(root).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    /// A folder with these (empty) files in it.
    fn files(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn names(collection: &Collection) -> Vec<(&str, &str)> {
        collection
            .items
            .iter()
            .map(|i| (collection.people[i.person].as_str(), i.name.as_str()))
            .collect()
    }

    #[test]
    fn every_folder_is_a_person_and_the_order_is_that_of_the_names() {
        let root = files(&[
            "Zoë Ж. d'Å/2.JPG",
            "Zoë Ж. d'Å/1.webp",
            "Ana/phone/x.png",
            "Ana/notes.txt",
            "Ana/.hidden.jpg",
            ".cache/a.jpg",
            "@eaDir/a.jpg",
            "readme.jpg",
        ]);
        let dataset = Dataset::open(root.path()).unwrap();
        assert!(dataset.val.is_none());
        assert_eq!(
            names(&dataset.train),
            [
                ("Ana", "Ana/phone/x.png"),
                ("Zoë Ж. d'Å", "Zoë Ж. d'Å/1.webp"),
                ("Zoë Ж. d'Å", "Zoë Ж. d'Å/2.JPG"),
            ]
        );
        assert_eq!(dataset.train.ignored, 2);
    }

    #[test]
    fn train_and_val_are_kept_apart() {
        let root = files(&["train/Ana/1.jpg", "val/Ana/2.jpg", "val/Ben/3.jpg"]);
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(names(&dataset.train), [("Ana", "train/Ana/1.jpg")]);
        assert_eq!(
            names(&dataset.val.unwrap()),
            [("Ana", "val/Ana/2.jpg"), ("Ben", "val/Ben/3.jpg")]
        );
    }

    #[test]
    fn somebody_may_be_called_train() {
        let root = files(&["train/1.jpg", "Ana/2.jpg"]);
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(dataset.train.people, ["Ana", "train"]);
    }

    #[test]
    fn photos_without_folders_are_called_like_the_person() {
        let root = files(&["obama.jpg", "obama.png", "biden.jpg", "list.txt"]);
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(
            names(&dataset.train),
            [
                ("biden", "biden.jpg"),
                ("obama", "obama.jpg"),
                ("obama", "obama.png")
            ]
        );
        assert_eq!(dataset.train.ignored, 1);
    }

    #[test]
    fn loops_and_dead_ends_are_reported_and_end() {
        let root = files(&["Ana/1.jpg"]);
        let ana = root.path().join("Ana");
        symlink(root.path(), ana.join("up")).unwrap();
        symlink("self", ana.join("self")).unwrap();
        symlink("gone.jpg", ana.join("2.jpg")).unwrap();
        symlink(&ana, root.path().join("Ana again")).unwrap();
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(
            names(&dataset.train),
            [("Ana", "Ana/1.jpg"), ("Ana again", "Ana again/1.jpg")]
        );
        let rejected: Vec<_> = dataset
            .train
            .rejected
            .iter()
            .filter(|r| r.path.starts_with("Ana/"))
            .map(|r| (r.path.as_str(), r.detail.split(':').next().unwrap()))
            .collect();
        assert_eq!(
            rejected,
            [
                ("Ana/2.jpg", "a symbolic link that leads nowhere"),
                ("Ana/self", "a symbolic link that leads nowhere"),
                ("Ana/up", "a symbolic link back to a folder that holds it"),
            ]
        );
    }

    #[test]
    fn a_name_that_cannot_be_used_is_rejected_and_the_others_go_on() {
        let root = files(&["Ana/1.jpg", "unknown/1.jpg"]);
        let odd = root.path().join(OsStr::from_bytes(b"J\xf6rg"));
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("1.jpg"), "").unwrap();
        let dataset = Dataset::open(root.path()).unwrap();
        assert_eq!(names(&dataset.train), [("Ana", "Ana/1.jpg")]);
        assert_eq!(dataset.train.rejected[0].path, "J\u{fffd}rg");
        assert!(dataset.train.rejected[0].detail.contains("not UTF-8"));
        assert_eq!(dataset.train.rejected[1].path, "unknown");
        assert_eq!(dataset.train.rejected.len(), 2);
    }

    #[test]
    fn a_dataset_without_photos_says_what_it_should_look_like() {
        let root = files(&["Ana/notes.txt"]);
        let error = Dataset::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("holds no photo of anybody; expected DIR/<name>/"));
        assert!(error.contains(&shown(root.path())));
        let error = Dataset::open(&root.path().join("gone")).unwrap_err();
        assert!(format!("{error:#}").contains("gone: No such file"));
    }
}
