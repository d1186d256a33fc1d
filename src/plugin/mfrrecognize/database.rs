//! The gallery of an element: loaded once, and again when its file is replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime};

use crate::gallery::{Gallery, GalleryError};

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

type Loaded = Result<Gallery, GalleryError>;

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
            gallery: Arc::new(load(path, &model)?),
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
                self.load_in_background();
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
        Some(loaded.map(|gallery| self.gallery = Arc::new(gallery)))
    }

    fn load_in_background(&mut self) {
        let (sender, receiver) = channel();
        let (path, model) = (self.path.clone(), self.model.clone());
        self.loading = Some(receiver);
        std::thread::spawn(move || {
            // Nobody listens any more if the element has been stopped meanwhile.
            let _ = sender.send(load(&path, &model));
        });
    }
}

fn load(path: &Path, model: &Model) -> Loaded {
    let gallery = Gallery::load(path)?;
    gallery
        .check_model(&model.sha256, model.dim)
        .map_err(|e| e.at(path))?;
    Ok(gallery)
}
