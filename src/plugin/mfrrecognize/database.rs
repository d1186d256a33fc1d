//! The gallery of an element: loaded once, and again when its file is replaced. Elements with the same file share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime};

use crate::gallery::{Gallery, GalleryError};
use crate::plugin::gallery_message::GalleryState;
use crate::threads::cache::Cache;

/// Interval at which the file is checked; a stat of a file costs microseconds.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The network whose embeddings the gallery must hold.
#[derive(Debug, Clone)]
pub struct Model {
    pub sha256: String,
    pub dim: usize,
    /// The version of the weights, for the metadata.
    pub version: String,
}

/// Distinguishes a replaced file from the one that was read.
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

/// Galleries in use by elements, by path and stamp of the file that they were read from.
static GALLERIES: Cache<(PathBuf, Stamp), Gallery> = Cache::new();

/// A change of a gallery's state.
#[derive(Debug)]
pub struct Change {
    pub state: GalleryState,
    pub path: PathBuf,
    /// Why a file is unreachable or refused.
    pub error: Option<GalleryError>,
}

/// A gallery that another thread is reading, so that frames are not delayed.
#[derive(Debug)]
struct Loading {
    path: PathBuf,
    stamp: Option<Stamp>,
    receiver: Receiver<Loaded>,
}

#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    model: Model,
    gallery: Arc<Gallery>,
    stamp: Option<Stamp>,
    checked: Instant,
    loading: Option<Loading>,
    /// Whether the file has to be read again after the current read.
    is_outdated: bool,
    is_unreachable: bool,
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
            is_outdated: false,
            is_unreachable: false,
        })
    }

    pub fn gallery(&self) -> &Arc<Gallery> {
        &self.gallery
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// File name, for the metadata.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The version of the network's weights, for the metadata.
    pub fn model_version(&self) -> &str {
        &self.model.version
    }

    /// Starts to read a file in the background if another one is wanted, if the one in use has been replaced, or if
    /// `reload` is set. Returns the changes since the last call; the gallery in use stays if reading fails.
    pub fn poll(&mut self, wanted: &Path, reload: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        self.is_outdated |= reload;
        if self.loading.is_none() {
            if wanted != self.path {
                self.is_outdated = false;
                self.load_in_background(wanted, Stamp::of(wanted), true);
            } else {
                changes.extend(self.check());
            }
        }
        changes.extend(self.finish());
        changes
    }

    /// Checks the file if that is due, and starts to read one that has been replaced.
    fn check(&mut self) -> Option<Change> {
        if !self.is_outdated && self.checked.elapsed() < CHECK_EVERY {
            return None;
        }
        self.checked = Instant::now();
        let stamp = Stamp::of(&self.path);
        let path = self.path.clone();
        if std::mem::take(&mut self.is_outdated) {
            self.load_in_background(&path, stamp, true);
            return None;
        }
        // A missing file is about to be replaced, or was removed; either way the gallery stays in use.
        let was_unreachable = std::mem::replace(&mut self.is_unreachable, stamp.is_none());
        let state = match stamp {
            None if was_unreachable => return None,
            None => GalleryState::Unreachable,
            Some(_) if stamp != self.stamp => {
                self.load_in_background(&path, stamp, false);
                GalleryState::Stale
            }
            Some(_) if was_unreachable => GalleryState::Loaded,
            Some(_) => return None,
        };
        let error = (state == GalleryState::Unreachable).then(|| GalleryError::Read {
            path: path.clone(),
            reason: std::io::ErrorKind::NotFound.into(),
        });
        Some(Change { state, path, error })
    }

    /// Takes over the result of the thread that reads.
    fn finish(&mut self) -> Option<Change> {
        let loaded = match self.loading.as_ref()?.receiver.try_recv() {
            Ok(loaded) => loaded,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(stopped(&self.loading.as_ref()?.path)),
        };
        let Loading { path, stamp, .. } = self.loading.take()?;
        if path == self.path || loaded.is_ok() {
            // A file that was refused is not read again until it changes.
            self.stamp = stamp;
        }
        let (state, error) = match loaded {
            Ok(gallery) => {
                self.gallery = gallery;
                self.path.clone_from(&path);
                self.is_unreachable = false;
                (GalleryState::Loaded, None)
            }
            Err(error @ GalleryError::Read { .. }) => (GalleryState::Unreachable, Some(error)),
            Err(error) => (GalleryState::Refused, Some(error)),
        };
        Some(Change { state, path, error })
    }

    fn load_in_background(&mut self, path: &Path, stamp: Option<Stamp>, anew: bool) {
        let (sender, receiver) = channel();
        self.loading = Some(Loading {
            path: path.to_owned(),
            stamp,
            receiver,
        });
        let (path, model) = (path.to_owned(), self.model.clone());
        let reader = std::thread::Builder::new().name("mfr-gallery".into());
        // If the thread cannot be spawned, the receiver finds its sender gone. If the element has been stopped
        // meanwhile, the receiver is gone: the thread ends by itself, and holds no lock that another gallery needs.
        let _ = reader.spawn(move || {
            let read = || shared(&path, &model, stamp, anew);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            let _ = sender.send(outcome.unwrap_or_else(|_| Err(stopped(&path))));
        });
    }
}

/// The error for a thread that has ended without a result.
fn stopped(path: &Path) -> GalleryError {
    GalleryError::Contents {
        path: Some(path.to_owned()),
        reason: "reading it stopped unexpectedly".to_owned(),
    }
}

/// The gallery of a file with this stamp, which another element may already have; always read from the file if
/// `anew`.
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
    use crate::gallery::{Contract, Entry, Kind};

    const SHA256: &str = "abababababababababababababababababababababababababababababababab";

    fn write(path: &Path, name: &str) {
        let contract = Contract::new(SHA256, 2);
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

    /// Waits for changes; `reload` is requested once.
    fn changes(database: &mut Database, wanted: &Path, mut reload: bool) -> Vec<Change> {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            let changes = database.poll(wanted, reload);
            if !changes.is_empty() {
                return changes;
            }
            reload = false;
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing has happened to the gallery");
    }

    /// Waits for the next change.
    fn change(database: &mut Database, wanted: &Path) -> Change {
        changes(database, wanted, false).pop().unwrap()
    }

    fn reload(database: &mut Database, anew: bool) {
        let path = database.path.clone();
        let mut states = Vec::new();
        while states.last() != Some(&GalleryState::Loaded) {
            let more = changes(database, &path, anew && states.is_empty());
            states.extend(more.iter().map(|change| change.state));
        }
        let expected = [GalleryState::Stale, GalleryState::Loaded];
        assert_eq!(states, expected[usize::from(anew)..]);
    }

    #[test]
    fn another_file_is_read_beside_the_one_in_use_and_replaces_it_if_it_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, bad] =
            ["first.npz", "second.npz", "bad.npz"].map(|name| folder.path().join(name));
        write(&first, "Ana");
        write(&second, "Bea");
        std::fs::write(&bad, "no gallery").unwrap();
        let mut database = open(&first).unwrap();
        let refused = change(&mut database, &bad);
        assert_eq!(
            (refused.state, &refused.path),
            (GalleryState::Refused, &bad)
        );
        assert!(refused.error.unwrap().to_string().contains("bad.npz"));
        let missing = folder.path().join("none.npz");
        let unreachable = change(&mut database, &missing);
        assert_eq!(unreachable.state, GalleryState::Unreachable);
        assert_eq!(
            (database.path(), &database.gallery().names()[0][..]),
            (&*first, "Ana")
        );
        let loaded = change(&mut database, &second);
        assert_eq!(loaded.state, GalleryState::Loaded);
        assert_eq!(
            (database.path(), &database.gallery().names()[0][..]),
            (&*second, "Bea")
        );
    }

    #[test]
    fn a_request_while_the_file_is_being_read_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gallery.npz");
        write(&path, "Ana");
        let mut database = open(&path).unwrap();
        database.load_in_background(&path, None, true);
        database.poll(&path, true);
        let mut loaded = 0;
        while loaded < 2 {
            let change = change(&mut database, &path);
            assert_eq!(change.state, GalleryState::Loaded);
            loaded += 1;
        }
    }

    #[test]
    fn a_file_that_is_gone_is_unreachable_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let [path, aside] = ["gallery.npz", "aside.npz"].map(|name| folder.path().join(name));
        write(&path, "Ana");
        let mut database = open(&path).unwrap();
        std::fs::rename(&path, &aside).unwrap();
        assert_eq!(
            change(&mut database, &path).state,
            GalleryState::Unreachable
        );
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(change(&mut database, &path).state, GalleryState::Loaded);
    }

    #[test]
    fn elements_with_the_same_state_of_a_file_share_its_gallery() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gallery.npz");
        write(&path, "Ana");
        let mut a = open(&path).unwrap();
        let mut b = open(&path).unwrap();
        assert!(Arc::ptr_eq(a.gallery(), b.gallery()));
        // The new file has the same length.
        write(&path, "Bea");
        reload(&mut a, false);
        assert_eq!(a.gallery().names(), ["Bea", "Zoë"]);
        assert_eq!(b.gallery().names(), ["Ana", "Zoë"]);
        reload(&mut b, false);
        assert!(Arc::ptr_eq(a.gallery(), b.gallery()));
        // On request the file is read even if its stamp is the same.
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
