//! The gallery of an element: loaded once, and again when its file is replaced. Elements with the same file share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime};

use crate::gallery::{Gallery, GalleryError};
use crate::threads::cache::Cache;

/// How often the file is looked at; a stat of a file costs microseconds.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The network whose embeddings the gallery must hold.
#[derive(Debug, Clone)]
pub struct Model {
    pub sha256: String,
    pub dim: usize,
    /// For the metadata.
    pub version: String,
}

/// What tells a replaced file from the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

type Loaded = Result<Arc<Gallery>, GalleryError>;

/// Galleries that elements have, and which state of which file they were read from.
static GALLERIES: Cache<(PathBuf, Stamp), Gallery> = Cache::new();

#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    model: Model,
    gallery: Arc<Gallery>,
    stamp: Option<Stamp>,
    checked: Instant,
    /// A gallery that another thread is reading, so that no frame waits for it.
    loading: Option<Receiver<Loaded>>,
}

impl Database {
    pub fn open(path: &Path, model: Model) -> Result<Self, GalleryError> {
        let stamp = Stamp::of(path);
        Ok(Self {
            gallery: shared(path, &model, stamp, false)?,
            path: path.to_owned(),
            model,
            stamp,
            checked: Instant::now(),
            loading: None,
        })
    }

    pub fn gallery(&self) -> &Arc<Gallery> {
        &self.gallery
    }

    /// File name, for the metadata.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// What the network calls its weights, for the metadata.
    pub fn model_version(&self) -> &str {
        &self.model.version
    }

    /// Reads the file anew in the background if it has been replaced, or if told to. Gives the
    /// outcome of the last reading when it has come; after a failed one the old gallery stays.
    pub fn poll(&mut self, reload: bool) -> Option<Result<(), GalleryError>> {
        let due = self.checked.elapsed() >= CHECK_EVERY;
        if self.loading.is_none() && (due || reload) {
            self.checked = Instant::now();
            let stamp = Stamp::of(&self.path);
            // A file that is gone for now is about to be replaced, or was removed: keep what is.
            if reload || (stamp.is_some() && stamp != self.stamp) {
                self.stamp = stamp;
                self.load_in_background(reload);
            }
        }
        let loaded = match self.loading.as_ref()?.try_recv() {
            Ok(loaded) => loaded,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                self.loading = None;
                return None;
            }
        };
        self.loading = None;
        Some(loaded.map(|gallery| self.gallery = gallery))
    }

    fn load_in_background(&mut self, anew: bool) {
        let (sender, receiver) = channel();
        let (path, model, stamp) = (self.path.clone(), self.model.clone(), self.stamp);
        self.loading = Some(receiver);
        std::thread::spawn(move || {
            // Nobody listens any more if the element has been stopped meanwhile.
            let _ = sender.send(shared(&path, &model, stamp, anew));
        });
    }
}

/// The gallery of a file in this state, which another element may have; read from the file in any case if `anew`.
fn shared(path: &Path, model: &Model, stamp: Option<Stamp>, anew: bool) -> Loaded {
    let load = || Gallery::load(path);
    let gallery = match stamp.map(|stamp| (path.to_owned(), stamp)) {
        None => Arc::new(load()?),
        Some(key) if anew => GALLERIES.get_anew(key, load)?,
        Some(key) => GALLERIES.get(key, load)?,
    };
    gallery
        .check_model(&model.sha256, model.dim)
        .map_err(|e| e.at(path))?;
    Ok(gallery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::{Contract, Entry, FORMAT, Kind};

    const SHA256: &str = "abababababababababababababababababababababababababababababababab";

    fn write(path: &Path, name: &str) {
        let contract = Contract {
            format: FORMAT.into(),
            model_sha256: SHA256.into(),
            embedding_dim: 2,
            preprocessing: crate::embed::PREPROCESSING.into(),
            detector: crate::detect::NAME.into(),
            created: "2026-01-02T03:04:05Z".into(),
            tool_version: "0.1.0".into(),
        };
        let entry = |name: &str, embedding: [f32; 2]| Entry {
            name: name.into(),
            source: format!("{name}.jpg"),
            kind: Kind::Photo,
            embedding: ndarray::arr1(&embedding),
        };
        let entries = vec![entry(name, [1.0, 0.0]), entry("Zoë", [0.0, 1.0])];
        let gallery = Gallery::train(entries, contract).unwrap();
        gallery.save(path).unwrap();
    }

    fn open(path: &Path) -> Result<Database, GalleryError> {
        let model = Model {
            sha256: SHA256.into(),
            dim: 2,
            version: String::new(),
        };
        Database::open(path, model)
    }

    fn reload(database: &mut Database, anew: bool) {
        // Once is due in a second, or at once.
        let end = Instant::now() + Duration::from_secs(30);
        let mut anew = anew;
        while Instant::now() < end {
            if let Some(outcome) = database.poll(anew) {
                return outcome.unwrap();
            }
            anew = false;
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the gallery was not read anew");
    }

    #[test]
    fn elements_with_the_same_state_of_a_file_share_its_gallery() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gallery.npz");
        write(&path, "Ana");
        let mut a = open(&path).unwrap();
        let mut b = open(&path).unwrap();
        assert!(Arc::ptr_eq(a.gallery(), b.gallery()));
        // Another file of the same length.
        write(&path, "Bea");
        reload(&mut a, false);
        assert_eq!(a.gallery().names(), ["Bea", "Zoë"]);
        assert_eq!(b.gallery().names(), ["Ana", "Zoë"]);
        reload(&mut b, false);
        assert!(Arc::ptr_eq(a.gallery(), b.gallery()));
        // Who asks for it gets what is in the file, whatever it looks like from outside.
        reload(&mut b, true);
        assert_eq!(b.gallery().names(), ["Bea", "Zoë"]);
        assert!(!Arc::ptr_eq(a.gallery(), b.gallery()));
        let c = open(&path).unwrap();
        assert!(Arc::ptr_eq(b.gallery(), c.gallery()));
    }

    #[test]
    fn a_shared_gallery_must_fit_the_network_of_each_element() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gallery.npz");
        write(&path, "Ana");
        let first = open(&path).unwrap();
        let model = Model {
            sha256: "cd".repeat(32),
            ..first.model.clone()
        };
        assert!(Database::open(&path, model).is_err());
        drop(first);
        assert!(open(&folder.path().join("none.npz")).is_err());
    }
}
